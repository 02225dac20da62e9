"""TracIn: products of factors are products of gradients, and predict what a step does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata

import aisec_eval as ae
from aisec_eval.detectors.tracin import Checkpoint, influence, self_influence
from aisec_eval.errors import DatasetError, InputError


def loss(parameters, h, y):
    weight, bias = parameters
    return -jax.nn.log_softmax(weight @ h + bias)[y]


def factors(parameters, h, y):
    weight, bias = parameters
    logits = h @ weight.T + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return h, p / p.sum(axis=1, keepdims=True) - np.eye(len(weight))[y]


@pytest.fixture(scope="module")
def models():
    random = np.random.default_rng(0)
    return [(random.normal(size=(4, 6)), random.normal(size=4)) for _ in range(3)]


def samples(n, seed):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 6)), random.integers(0, 4, n)


def gradients(parameters, h, y):
    parameters = [jnp.asarray(p) for p in parameters]
    weight, bias = jax.vmap(jax.grad(loss), (None, 0, 0))(parameters, jnp.asarray(h), y)
    return np.concatenate([np.asarray(weight).reshape(len(h), -1), np.asarray(bias)], axis=1)


def test_the_same_as_whole_gradients(models):
    rates = (0.1, 0.05, 0.2)
    train, test = samples(11, 1), samples(5, 2)
    found = influence(
        [Checkpoint(*factors(m, *train), r) for m, r in zip(models, rates, strict=True)],
        [Checkpoint(*factors(m, *test)) for m in models],
    )
    expected = sum(
        r * gradients(m, *train) @ gradients(m, *test).T for m, r in zip(models, rates, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    own = self_influence(
        [Checkpoint(*factors(m, *train), r) for m, r in zip(models, rates, strict=True)]
    )
    squares = sum(
        r * np.square(gradients(m, *train)).sum(axis=1) for m, r in zip(models, rates, strict=True)
    )
    np.testing.assert_allclose(own, squares, rtol=1e-4)
    cut = [Checkpoint(*factors(models[0], *train))], [Checkpoint(*factors(models[0], *test))]
    weights = gradients(models[0], *train)[:, :-4] @ gradients(models[0], *test)[:, :-4].T
    np.testing.assert_allclose(influence(*cut, bias=False), weights, rtol=1e-4, atol=1e-5)


def test_a_small_step_lowers_the_loss_by_what_is_said(models):
    weight, bias = models[0]
    (h, y), (t, z) = samples(7, 3), samples(4, 4)
    rate = 1e-6
    said = influence(
        [Checkpoint(*factors((weight, bias), h, y), rate)],
        [Checkpoint(*factors((weight, bias), t, z))],
    )

    def losses(w, b):
        logits = t @ w.T + b
        logits = logits - logits.max(axis=1, keepdims=True)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(z)), z]

    _, errors = factors((weight, bias), h, y)
    for i in range(len(h)):
        stepped = weight - rate * np.outer(errors[i], h[i]), bias - rate * errors[i]
        np.testing.assert_allclose(losses(weight, bias) - losses(*stepped), said[i], rtol=1e-3)


def test_files_and_blocks_give_the_same_bits(tmp_path, models):
    h, y = samples(2500, 5)
    h, e = (v.astype(np.float32) for v in factors(models[0], h, y))
    test = [Checkpoint(h[:9], e[:9])]
    np.save(tmp_path / "h.npy", h)
    np.save(tmp_path / "e.npy", e)
    held = [Checkpoint(h, e)]
    kept = [Checkpoint(tmp_path / "h.npy", tmp_path / "e.npy")]
    np.testing.assert_array_equal(self_influence(held), self_influence(kept))
    np.testing.assert_array_equal(influence(held, test), influence(kept, test))
    own = np.diag(influence(held, test)[:9])
    np.testing.assert_allclose(own, self_influence(held)[:9], rtol=1e-5)
    done = []
    self_influence(kept, progress=lambda *step: done.append(step[:2]))
    assert done == [(2048, 2500), (2500, 2500)]


def test_wrong_labels_stand_out_while_a_model_learns():
    x, y = ae.load_dataset("digits", split="train")
    h = x.reshape(len(x), -1).astype(np.float64)
    random = np.random.default_rng(0)
    wrong = random.random(len(y)) < 0.05
    given = np.where(wrong, (y + random.integers(1, 10, len(y))) % 10, y)
    weight, bias, rate, kept = np.zeros((10, h.shape[1])), np.zeros(10), 0.5, []
    for epoch in range(40):
        _, e = factors((weight, bias), h, given)
        if epoch in (10, 20, 39):
            kept.append(Checkpoint(h, e, rate))
        weight, bias = weight - rate * e.T @ h / len(h), bias - rate * e.mean(axis=0)
    ranks = rankdata(self_influence(kept))
    n, clean = wrong.sum(), (~wrong).sum()
    assert (ranks[wrong].sum() - n * (n + 1) / 2) / (n * clean) > 0.95
    # A sample with a wrong label harms those of the class it is really of; one with the right
    # label helps them.
    right = np.flatnonzero(~wrong)[:200]
    tests = [Checkpoint(c.features[right], c.errors[right]) for c in kept]
    said = influence(kept, tests)
    same = y[:, None] == y[right][None, :]
    assert said[wrong][same[wrong]].mean() < 0 < said[~wrong][same[~wrong]].mean()


E, H = np.array([[0.5, -0.5], [-0.2, 0.2]]), np.ones((2, 3))


@pytest.mark.parametrize(
    ("checkpoints", "tests", "error", "line"),
    [
        ([], [], InputError, "no checkpoints"),
        ([Checkpoint(H, E)], [], InputError, "1 checkpoints of the training samples and 0"),
        ([Checkpoint(H, E, 0.0)], None, InputError, "learning_rate=0.0 must be above 0"),
        ([Checkpoint(H, E, np.inf)], None, InputError, "learning_rate=inf must be above 0"),
        ([Checkpoint(H, 3 * E)], None, InputError, "softmax(logits) - onehot(label)"),
        ([Checkpoint(H[:1], E)], None, DatasetError, "different numbers of rows"),
        ([Checkpoint(np.nan * H, E)], None, InputError, "features of row 0 are not finite"),
        ([Checkpoint(H, E), Checkpoint(H[:1], E[:1])], None, InputError, "the same samples"),
        ([Checkpoint(H, E)], [Checkpoint(H[:, :2], E)], InputError, "3 features and 2 classes"),
    ],
)
def test_refusals_in_one_line(checkpoints, tests, error, line):
    call = self_influence if tests is None else influence
    arguments = (checkpoints,) if tests is None else (checkpoints, tests)
    with pytest.raises(error) as raised:
        call(*arguments)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_refused():
    one = [Checkpoint(H, E)]
    with pytest.raises(InputError, match="pass fewer of them"):
        influence(one, one, memory_limit=8)


def test_of_an_extraction(reference):
    model = ae.load_model(reference / "models" / "mnist_conv_small_nat.onnx")
    with np.load(reference / "images" / "mnist_test.npz") as stored:
        x, y = stored["x"][:600, None] / np.float32(255), stored["y"][:600].astype(np.int64)
    wrong = np.arange(len(y)) % 20 == 0
    given = np.where(wrong, (y + 1) % 10, y)
    seen = ae.detectors.extract(model, x.astype(np.float32), given)
    own = self_influence([Checkpoint.of(seen)])
    assert own[wrong].min() > np.quantile(own[~wrong], 0.9)
