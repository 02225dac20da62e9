"""Each planted failure raises its own flag and no other; honest models raise none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import APGD, Found, HopSkipJump, Square, Transfer, attack
from aisec_eval.attacks.diagnostics import are_softmax
from aisec_eval.attacks.portfolio import fast
from aisec_eval.attacks.selected import Flat, Unfinished
from aisec_eval.models.base import Capabilities
from helpers.networks import LayeredModel, random_model, random_samples

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (1, 4, 4)
SMALL: Any = [APGD(steps=10), Square(queries=60)]


def codes(result: Any) -> list[str]:
    return [flag.split(":")[0] for flag in result.flags]


def wrapped(outer: Any, *, jax: bool) -> LayeredModel:
    """The random model with a function of its logits on top."""
    good = random_model(1, SHAPE, native=False, jax=True)
    model = LayeredModel(good.affine, SHAPE, native=False, jax=jax)
    inner = model.logits
    model.logits = lambda x: np.asarray(outer(inner(x)), np.float32)  # type: ignore[method-assign]
    if jax:
        apply, params = good.jax_function()
        model.jax_function = lambda: (lambda p, x: outer(apply(p, x)), params)  # type: ignore[method-assign]
    return model


class Planted:
    """A gradient attack that finds what it is told to."""

    name, needs_gradient, restarts = "planted", True, 1

    def __init__(self, find: Any) -> None:
        self.find = find

    def unsupported(self, target: Any, threat: Any) -> None:
        del target, threat

    def run(self, target: Any, problem: Any, restart: int) -> Any:
        del target, restart
        return self.find(problem)


def softmax(z: Any) -> Any:
    import jax

    return jax.nn.softmax(z)


def one_hot(z: Any) -> Any:
    import jax

    return jax.nn.one_hot(z.argmax(axis=1), z.shape[1])


def rounded(z: Any) -> Any:
    import jax.numpy as jnp

    return jnp.round(4 * z) / 4


def methods(jax: bool) -> Any:
    return SMALL if jax else SMALL[1:]


@pytest.mark.parametrize("eps", ["0.001", "0.05", "0.3"])
@pytest.mark.parametrize("backend", ["native", "jax", "callable"])
def test_honest_models_raise_nothing(backend: str, eps: str) -> None:
    model = random_model(1, SHAPE, native=backend == "native", jax=backend != "callable")
    x, y = random_samples(model, 40)
    result = attack(model, x, y, ae.Linf(eps), method=methods(backend != "callable"))
    assert result.flags == ()


@pytest.mark.parametrize("eps", ["0.02", "0.3"])
@pytest.mark.parametrize("jax", [True, False])
@pytest.mark.parametrize(
    ("outer", "code"),
    [(softmax, "softmax-output"), (one_hot, "quantised-outputs"), (rounded, "quantised-outputs")],
)
def test_outputs_that_hide_gradients(outer: Any, code: str, jax: bool, eps: str) -> None:
    model = wrapped(outer, jax=jax)
    x, y = random_samples(model, 40)
    result = attack(model, x, y, ae.Linf(eps), method=methods(jax))
    assert codes(result) == [code]
    assert "\n" not in result.flags[0]


@pytest.mark.parametrize("backend", ["native", "jax"])
def test_logits_far_apart(backend: str) -> None:
    good = random_model(1, SHAPE)
    weight, bias = good.affine[-1]
    layers = [good.affine[0], (1e4 * weight, 1e4 * bias)]
    model = LayeredModel(layers, SHAPE, native=backend == "native")
    x, y = random_samples(model, 40)
    result = attack(model, x, y, ae.Linf("0.05"), method=SMALL)
    assert codes(result) == ["masked-gradients"]
    # The losses do not saturate: the search is the same as without the factor.
    plain = attack(good, x, y, ae.Linf("0.05"), method=SMALL)
    np.testing.assert_array_equal(result.verdict, plain.verdict)


def test_gradients_that_are_zero() -> None:
    """Logits continuous in float32, but no gradient flows back."""
    import jax

    model = wrapped(jax.lax.stop_gradient, jax=True)
    x, y = random_samples(model, 40)
    result = attack(model, x, y, ae.Linf("0.05"), method=APGD(steps=10))
    assert codes(result) == ["zero-gradients"]
    # What confirmed the suspicion is not in any sample's counts.
    assert result.spent.gradients.max() == 11


def test_gradients_that_mislead() -> None:
    import jax

    good = random_model(1, SHAPE, native=False)
    apply, params = good.jax_function()

    @jax.custom_vjp
    def turned(x: Any) -> Any:
        return x

    turned.defvjp(lambda x: (x, None), lambda _, g: (-g,))
    good.jax_function = lambda: (lambda p, x: apply(p, turned(x)), params)  # type: ignore[method-assign]
    x, y = random_samples(good, 40)
    confident = np.argsort(-np.diff(np.sort(good.logits(x), axis=1)[:, -2:], axis=1)[:, 0])[:12]
    result = attack(good, x[confident], y[confident], ae.Linf("0.01"), method=APGD(steps=10))
    assert codes(result) == ["unconstrained-attack-fails"]


def test_queries_that_beat_gradients() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 60)

    threat = ae.Linf("0.1")
    result = attack(model, x, y, threat, method=[Planted(weak), Square(queries=200)])
    assert codes(result) == ["queries-beat-gradients"]
    broken = sum(name == "square" for name in result.found_by)
    assert f"broke {broken} of 60 samples" in result.flags[0]
    assert attack(model, x, y, threat, method=Square(queries=200)).flags == ()


@pytest.mark.parametrize("backend", ["native", "jax"])
@pytest.mark.parametrize("threat", [ae.L2(0.3), ae.L1(0.5)])
def test_attacks_that_stop_too_early(backend: str, threat: Any) -> None:
    """The same attack with enough steps breaks more and raises nothing."""
    model = random_model(1, SHAPE, native=backend == "native")
    x, y = random_samples(model, 40)
    early = attack(model, x, y, threat, method=APGD(steps=2))
    assert codes(early) == ["incomplete-optimisation"]
    left = (early.verdict == ae.VERDICTS.index("open")).sum()
    assert f" of {left} samples that withstood" in early.flags[0]
    assert early.findings.unfinished >= 0.7 * left
    rested = attack(model, x, y, threat, method=APGD(steps=60))
    assert codes(rested) == []
    assert rested.findings.unfinished == 0
    assert rested.robust_accuracy < early.robust_accuracy
    # One attack at rest is enough, whatever stopped early before and after it.
    three: Any = [APGD(steps=2), APGD(steps=60), APGD("margin", steps=2)]
    assert codes(attack(model, x, y, threat, method=three)) == []


def test_what_was_left_unfinished_gets_the_longer_attack() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 40)
    threat = ae.L1(0.5)
    short, longer = APGD("margin", steps=10), APGD("margin", steps=80)
    first = attack(model, x, y, threat, method=short)
    both = attack(model, x, y, threat, method=[short, Unfinished(longer)])
    assert codes(first) == ["incomplete-optimisation"]
    assert codes(both) == []
    more = both.spent.gradients - first.spent.gradients
    assert (more > 0).sum() == first.findings.unfinished
    assert both.robust_accuracy < first.robust_accuracy
    # Which ones is decided for each sample by itself.
    some = attack(
        model,
        x[10:17],
        y[10:17],
        threat,
        method=[short, Unfinished(longer)],
        sample_ids=np.arange(10, 17),
    )
    np.testing.assert_array_equal(some.spent.gradients, both.spent.gradients[10:17])
    np.testing.assert_array_equal(some.x_adv, both.x_adv[10:17])


def test_zero_gradients_get_the_attacks_that_need_none() -> None:
    """Behind a step no gradient comes back, and the outputs are too coarse for scores."""
    model = wrapped(one_hot, jax=True)
    x, y = random_samples(model, 12)
    good = random_model(1, SHAPE, native=False)
    queries = HopSkipJump(queries=400)
    for threat in (ae.L2(0.6), ae.Linf(0.15)):
        gradients: Any = [APGD("margin", steps=5)]
        blind = attack(model, x, y, threat, method=gradients)
        flat = attack(model, x, y, threat, method=[*gradients, Flat(queries)])
        assert codes(flat) == ["quantised-outputs"]
        assert flat.robust_accuracy < blind.robust_accuracy - 0.2
        # Where there is a gradient it costs one, and nothing more.
        plain = attack(good, x, y, ae.Linf("0.0001"), method=gradients)
        none = attack(good, x, y, ae.Linf("0.0001"), method=[*gradients, Flat(queries)])
        assert (none.spent.gradients - plain.spent.gradients).max() <= 1
        assert none.spent.queries.max() == 0


def test_stages_on_chosen_samples_are_in_fast() -> None:
    stages = [stage for norm in (ae.Linf(0.1), ae.L2(1)) for stage in fast(norm)]
    for kind, count in ((Unfinished, 2), (Flat, 3)):
        assert sum(isinstance(stage, kind) for stage in stages) == count


def weak(problem: Any) -> Found:
    """Moves and breaks nothing."""
    found = Found.nothing(problem)
    found.margin[:] = 1e-3
    return found


@pytest.mark.parametrize("jax", [False, True])
@pytest.mark.parametrize("norm", [ae.Linf("0.1"), ae.L2("0.5"), ae.L1("1")])
def test_another_model_that_beats_gradients(norm: Any, jax: bool) -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 60)
    other = random_model(1, SHAPE, native=not jax)
    other.affine = [(w + np.float32(0.02), b) for w, b in other.affine]
    other = LayeredModel(other.affine, SHAPE, native=not jax)
    result = attack(model, x, y, norm, method=[Planted(weak), Transfer(other, steps=20)])
    assert codes(result) == ["transfer"]
    broken = sum(name == "transfer" for name in result.found_by)
    assert broken > 10
    assert f"broke {broken} of 60 samples" in result.flags[0]
    # One query a sample, and nothing of the surrogate's.
    assert set(result.spent.queries) == {1}
    assert result.spent.gradients.max() == 0
    # After gradients that do their work there is nothing to say.
    method: Any = [APGD("margin", steps=60), Transfer(other, steps=20)]
    assert codes(attack(model, x, y, norm, method=method)) == []
    # Nor where there is nothing to compare with: on black boxes.
    box = random_model(1, SHAPE, native=False, jax=False)
    blind = attack(box, x, y, norm, method=Transfer(other, steps=20))
    assert codes(blind) == []
    np.testing.assert_array_equal(blind.verdict, result.verdict)


def test_transfer_tries_the_most_confident_example() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 30)
    for backend in ("native", "jax"):
        sure = attack(
            model,
            x,
            y,
            ae.Linf(0.2),
            method=APGD("margin", to_the_end=True, steps=20),
            backend=backend,
        )
        first = attack(model, x, y, ae.Linf(0.2), method=APGD("margin", steps=20), backend=backend)
        broken = first.verdict == ae.VERDICTS.index("broken")
        np.testing.assert_array_equal(sure.verdict, first.verdict)
        assert (sure.margin <= first.margin + 1e-6).all()
        assert sure.margin[broken].mean() < 1.3 * first.margin[broken].mean()
        assert sure.spent.forwards.min() >= 21


def test_surrogates_that_do_not_fit() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 3)
    with pytest.raises(ae.InputError, match="has no gradients, which a surrogate needs"):
        Transfer(random_model(1, SHAPE, native=False, jax=False))
    for other, message in (
        (random_model(1, (2, 4, 4)), "input_shape is"),
        (random_model(1, SHAPE, classes=4), "num_classes is 4, not 3"),
    ):
        with pytest.raises(ae.CapabilityError, match=message):
            attack(model, x, y, ae.Linf(0.1), method=Transfer(other))
    with pytest.raises(ae.CapabilityError, match="not l0"):
        attack(model, x, y, ae.L0(2), method=Transfer(model))
    assert repr(Transfer(model)) == "Transfer('layered 0', steps=50, restarts=1)"


@pytest.mark.parametrize(
    ("hide", "code"),
    [
        (None, None),
        ("loud", "masked-gradients"),
        (softmax, "softmax-output"),
        (one_hot, "quantised-outputs"),
    ],
)
def test_fast_finds_what_planted_failures_hide(hide: Any, code: str | None) -> None:
    """Every one raises its own flag and no other, and hides no adversarial example."""
    good = random_model(1, SHAPE)
    x, y = random_samples(good, 24)
    if hide == "loud":
        weight, bias = good.affine[-1]
        model = LayeredModel([good.affine[0], (1e4 * weight, 1e4 * bias)], SHAPE)
    else:
        model = wrapped(hide, jax=True) if hide else good
    result = attack(model, x, y, ae.Linf("0.03"))
    assert codes(result) == ([code] if code else [])
    expected = attack(good, x, y, ae.Linf("0.03"), method=[APGD(steps=50), Square()])
    np.testing.assert_array_equal(result.verdict, expected.verdict)


class Noisy(LayeredModel):
    """Adds noise to its inputs."""

    def logits(self, x: Any) -> Any:
        if not hasattr(self, "rng"):
            self.rng = np.random.default_rng(0)
        noise = 0.05 * self.rng.normal(size=x.shape).astype(np.float32)
        return super().logits(np.asarray(x) + noise)


def test_randomised_outputs() -> None:
    good = random_model(1, SHAPE, native=False, jax=False)
    model = Noisy(good.affine, SHAPE, native=False, jax=False)
    x, y = random_samples(good, 40)
    for eps in ("0.01", "0.1"):
        result = attack(model, x, y, ae.Linf(eps), method=Square(queries=60))
        assert codes(result) == ["randomised"]


def test_two_classes_have_no_dlr() -> None:
    model = random_model(1, SHAPE, classes=2)
    x, y = random_samples(model, 20)
    result = attack(model, x, y, ae.Linf("0.05"), method=[APGD("dlr", steps=5), APGD(steps=5)])
    assert codes(result) == ["few-classes"]


def test_fragile_margins_are_counted() -> None:
    """An attack that stops right behind the boundary."""
    weight = np.zeros((2, 16))
    weight[0, 0], weight[1, 0] = 3, -3
    model = LayeredModel([(weight, [0.0, 3.0])], SHAPE)

    def exact(problem: Any) -> Found:
        found = Found.nothing(problem)
        found.x[:, 0, 0, 0] = 0.5 - np.linspace(1e-5, 1e-3, 2)
        found.margin[:] = -1e-5
        found.status[:] = 1
        return found

    x, y = np.full((2, *SHAPE), 0.6, np.float32), np.zeros(2, np.int64)
    x[1] += 0.01
    result = attack(model, x, y, ae.Linf("0.2"), method=Planted(exact))
    assert codes(result) == ["fragile-margins"]
    assert result.flags[0].startswith("fragile-margins: 1 of 2 adversarial examples")


def test_softmax_tolerance() -> None:
    rows = [[0.25, 0.75], [1, 0], [1, 0.1], [-1, 2], [np.nan, 1]]
    assert are_softmax(np.array(rows, np.float32)).tolist() == [True, True, False, False, False]


def test_flags_reach_the_evaluation() -> None:
    model = wrapped(one_hot, jax=True)
    model.capabilities = Capabilities(gradient=True)
    x, y = random_samples(model, 10)
    e = ae.evaluate(model, x, y, ae.Linf("0.02"), attacks=SMALL)
    assert any(flag.startswith("quantised-outputs: ") for flag in e.flags)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "eps"),
    [
        ("mnist_cnn_a_adv", "0.3"),
        ("kw_mnist", "0.1"),
        ("mnist_conv_small_nat", "0.1"),
        ("mnist_6_100_nat", "0.05"),
        ("cifar_cnn_a_adv", "2/255"),
        ("cifar_resnet2b", "2/255"),
    ],
)
def test_reference_models_raise_nothing(reference: Path, name: str, eps: str) -> None:
    model = ae.load_model(reference / "models" / f"{name}.onnx")
    if name.startswith("cifar"):
        images = np.load(reference / "images" / "cifar10_sdp200.npz")
        x = np.ascontiguousarray(images["x"][:40].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    else:
        images = np.load(reference / "images" / "mnist_test.npz")
        x = images["x"][:40].astype(np.float32) / 255
    x, y = x.reshape(-1, *model.input_shape), images["y"][:40].astype(np.int64)
    # Enough steps to come to rest: twenty are too few at Linf 0.3, and would be flagged.
    for threat in (ae.Linf(eps), ae.Linf("0.001"), ae.L2("0.5")):
        result = attack(model, x, y, threat, method=[APGD(steps=50), Square(queries=200)])
        assert result.flags == ()
