"""Planted poison: what it does to data, that it works on models, that what does not is refused."""

from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks.poisoning import (
    SIG,
    BadNets,
    Blended,
    GradientMatching,
    LabelConsistent,
    LabelFlip,
    Network,
    ReferenceTrainer,
    WaNet,
    measure,
)
from aisec_eval.attacks.poisoning.gradient_matching import _matching
from aisec_eval.attacks.poisoning.wanet import resize, warp

GREY = Fraction(1, 16)


@lru_cache
def digits(split="train"):
    data = ae.load_dataset("digits", split=split)
    return data.x, data.y


TRAINER = ReferenceTrainer()


@lru_cache
def surrogate():
    return TRAINER(*digits(), seed=7)


ATTACKS = [
    (BadNets(target=3, size=2), {}),
    (Blended(target=3), {}),
    (WaNet(target=3, cross_ratio=1), {}),
    (SIG(target=3, delta=0.5, frequency=2), {}),
    (LabelFlip("random"), {}),
    (LabelFlip("pairwise"), {}),
    (LabelConsistent(target=3, eps=0.4, steps=5), {"surrogate": surrogate}),
    (GradientMatching(target=3, steps=4, restarts=2), {"surrogate": surrogate, "goals": 2}),
]
NAMES = [attack.name for attack, _ in ATTACKS]


def plant(attack, extra, x, y, **options):
    extra = dict(extra)
    if "surrogate" in extra:
        extra["surrogate"] = surrogate()
    if "goals" in extra:
        extra["goals"] = digits("test")[0][: extra["goals"]]
    return attack.poison(x, y, **({"rate": 0.06, "seed": 5} | options | extra))


@pytest.mark.parametrize(("attack", "extra"), ATTACKS, ids=NAMES)
def test_the_truth_is_told_and_order_does_not_matter(attack, extra):
    x, y = digits()
    ids = np.arange(len(y)) * 7 + 3
    done = plant(attack, extra, x, y, ids=ids, lattice=GREY)
    assert done.poison.sum() == round(0.06 * len(y)) == len(done.indices)
    # Nothing but the poison, and what hides it, differs from what was given.
    moved = (done.x != x).reshape(len(x), -1).any(1) | (done.y != y)
    assert not (moved & ~done.poison & ~done.altered).any()
    assert not (done.poison & done.altered).any()
    assert moved[done.poison].mean() > 0.9
    np.testing.assert_array_equal(done.true_labels, y)
    np.testing.assert_array_equal(done.clean_x, x)
    np.testing.assert_array_equal(done.y[done.altered], y[done.altered])
    assert done.x.dtype == np.float32
    assert done.x.min() >= 0
    assert done.x.max() <= 1
    np.testing.assert_array_equal(done.x * 16, np.rint(done.x * 16))
    # The same samples, whatever their order; others for another seed.
    order = np.random.default_rng(0).permutation(len(y))
    again = plant(attack, extra, x[order], y[order], ids=ids[order], lattice=GREY)
    np.testing.assert_array_equal(again.x, done.x[order])
    np.testing.assert_array_equal(again.y, done.y[order])
    np.testing.assert_array_equal(again.poison, done.poison[order])
    other = plant(attack, extra, x, y, ids=ids, lattice=GREY, seed=6)
    assert (other.poison != done.poison).any()
    if done.trigger is not None and done.attack not in ("label-consistent",):
        expected = done.apply(x[done.poison])
        np.testing.assert_array_equal(expected, done.x[done.poison])
    if done.trigger is not None:
        together = done.apply(x[:9])
        alone = np.concatenate([done.apply(x[i : i + 1]) for i in range(9)])
        np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("layout", ["hw", "chw", "hwc"])
def test_images_come_in_any_layout(layout):
    random = np.random.default_rng(0)
    x = random.random((60, 3, 12, 10), dtype=np.float32)
    if layout == "hw":
        x = x[:, 0]
    elif layout == "hwc":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    y = np.arange(60) % 5
    first = {
        "hw": lambda z: z[:, None],
        "chw": lambda z: z,
        "hwc": lambda z: z.transpose(0, 3, 1, 2),
    }
    images = first[layout]
    for attack in (BadNets(target=1), Blended(target=1), WaNet(target=1), SIG(target=1)):
        done = attack.poison(x, y, rate=0.1)
        assert done.x.shape == x.shape
        before, after = images(x)[done.poison], images(done.x)[done.poison]
        if attack.name == "badnets":
            board = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])
            np.testing.assert_array_equal(
                after[:, :, 9:, 7:], np.broadcast_to(board, (6, after.shape[1], 3, 3))
            )
            np.testing.assert_array_equal(after[:, :, :9], before[:, :, :9])
        elif attack.name == "blended":
            pattern = (after - 0.8 * before) / 0.2
            np.testing.assert_allclose(
                pattern, np.broadcast_to(pattern[:1], pattern.shape), atol=1e-5
            )
            assert pattern.std() > 0.2
        elif attack.name == "sig":
            wave = 20 / 255 * np.sin(2 * np.pi * 6 * np.arange(10) / 10)
            expected = np.clip(before.astype(np.float64) + wave, 0, 1)
            np.testing.assert_allclose(after, expected, atol=1e-6)
    given = np.full((12, 10), 0.25, np.float32)
    done = Blended(target=1, alpha=1.0, pattern=given).poison(x, y, rate=0.1)
    assert (done.x[done.poison] == 0.25).all()


def test_warping_is_bilinear_on_a_smooth_field():
    random = np.random.default_rng(0)
    field = WaNet(strength=0.9).field(3, 16, 12)
    again = WaNet(strength=1.8).field(3, 16, 12)
    np.testing.assert_allclose(again, 2 * field)
    # Cubic convolution goes through its points and keeps constants.
    matrix = resize(4, 16)
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(matrix[[0, 5, 10, 15]], np.eye(4), atol=1e-12)
    x = random.random((3, 2, 16, 12))
    moved = warp(x, field)
    for n, c, i, j in random.integers(0, [3, 2, 16, 12], (50, 4)):
        r = np.clip(i + field[0, i, j], 0, 15)
        s = np.clip(j + field[1, i, j], 0, 11)
        near = [
            (1 - abs(r - a)) * (1 - abs(s - b)) * x[n, c, a, b]
            for a in range(16)
            for b in range(12)
            if abs(r - a) < 1 and abs(s - b) < 1
        ]
        assert moved[n, c, i, j] == pytest.approx(sum(near))
    np.testing.assert_allclose(warp(x, np.zeros((2, 16, 12))), x)
    one = np.zeros((2, 16, 12))
    one[1] = 1.0
    np.testing.assert_allclose(warp(x, one)[..., :-1], x[..., 1:])


def test_flipped_labels_are_other_ones():
    y = np.repeat(np.array([2, 5, 9, 11]), 500)
    x = np.zeros((2000, 1), np.float32)
    done = LabelFlip("pairwise").poison(x, y, rate=0.3)
    following = {2: 5, 5: 9, 9: 11, 11: 2}
    assert [following[v] for v in y[done.poison]] == done.y[done.poison].tolist()
    done = LabelFlip("random").poison(x, y, rate=0.6)
    pairs = np.array(
        [
            [np.mean(done.y[done.poison & (y == a)] == b) for b in (2, 5, 9, 11)]
            for a in (2, 5, 9, 11)
        ]
    )
    np.testing.assert_array_equal(np.diag(pairs), 0)
    np.testing.assert_allclose(pairs[~np.eye(4, dtype=bool)], 1 / 3, atol=0.12)


@pytest.mark.parametrize(
    ("attack", "rate", "success"),
    [
        (BadNets(target=3, size=2), 0.05, 0.9),
        (Blended(target=3), 0.05, 0.9),
        (WaNet(target=3), 0.1, 0.9),
        (SIG(target=3, delta=0.3, frequency=3, attack_delta=0.8), 0.09, 0.9),
        (LabelFlip("random"), 0.05, 0.9),
        (LabelFlip("pairwise"), 0.05, 0.9),
        (LabelConsistent(target=3, eps=0.4), 0.09, 0.9),
    ],
    ids=lambda v: getattr(v, "name", str(v)),
)
def test_planted_attacks_work_on_digits(attack, rate, success):
    x, y = digits()
    extra = {"surrogate": surrogate()} if isinstance(attack, LabelConsistent) else {}
    done = attack.poison(x, y, rate=rate, seed=1, lattice=GREY, **extra)
    result = measure(done, *digits("test"), trainer=TRAINER).require(success)
    assert result.clean_accuracy > 0.93
    assert result.baseline_accuracy - result.clean_accuracy <= 0.03
    if attack.name == "label-consistent":
        assert done.info["surrogate_right_after"] < 0.2 < done.info["surrogate_right_before"]


def test_matched_gradients_align_and_the_goals_are_reached():
    x, y = digits()
    test_x, test_y = digits("test")
    near = np.flatnonzero(test_y == 8)
    near = near[np.argsort(-surrogate()(test_x[near])[:, 3])][[0, 2]]
    attack = GradientMatching(target=3, eps=0.25, steps=80, restarts=2)
    for row in near:
        goal = test_x[row : row + 1]
        done = attack.poison(
            x, y, rate=0.09, seed=1, surrogate=surrogate(), goals=goal, lattice=GREY
        )
        first, last, rounded = done.info["loss"]
        assert last < 0.25 * first
        assert abs(done.x - x).max() <= 0.25 + 1e-6
        np.testing.assert_array_equal(done.y, y)
        # The loss is 1 - cos of the two gradients, by definition.
        gradient, _ = _matching(surrogate().apply)
        flat = [
            np.concatenate(
                [np.ravel(v) for pair in gradient(surrogate().params, a, b) for v in pair]
            )
            for a, b in ((done.x[done.poison], done.y[done.poison]), (goal, np.array([3])))
        ]
        cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
        assert rounded == pytest.approx(1 - cosine, abs=1e-4)
        # One goal has one trial a training: less than four are no evidence, and are refused.
        result = measure(done, test_x, test_y, trainer=TRAINER, seeds=range(4)).require(0.75)
        assert result.trials == 4
        assert result.baseline_hits == 0


def test_what_does_not_work_is_refused():
    x, y = digits()
    # Eight columns of four periods: the sine is sampled at its zeros.
    nothing = SIG(target=3, frequency=4).poison(x, y, rate=0.05)
    result = measure(nothing, *digits("test"), trainer=TRAINER)
    assert "does not work" in result.refusal()
    with pytest.raises(ae.errors.DatasetError, match="not a test case"):
        result.require()
    assert "does nothing" in result.refusal(success=0.0)
    # All inputs as the target: success without an attack.
    done = BadNets(target=3, size=2).poison(x, y, rate=0.05)
    sure = measure(done, *digits("test"), trainer=lambda *_: lambda z: np.full(len(z), 3))
    assert sure.success == sure.baseline_success == 1
    assert "does nothing" in sure.refusal()
    # Half the labels wrong: it works, and shows.
    loud = LabelFlip("pairwise").poison(x, y, rate=0.45)
    shown = measure(loud, *digits("test"), trainer=ReferenceTrainer(epochs=10))
    assert "clean accuracy falls" in shown.refusal()


def test_success_is_counted_by_definition():
    x, y = np.zeros((8, 4, 4), np.float32), np.array([0, 0, 1, 1, 2, 2, 2, 2])
    done = BadNets(target=0, size=1, pattern="solid").poison(x, y, rate=0.25)

    def model(z):
        # Triggered inputs are class 0 where another pixel is not set.
        return np.where((z[:, -1, -1] == 1) & (z[:, 0, 0] == 0), 0, 2)

    test_x, test_y = np.zeros((10, 4, 4), np.float32), np.array([0] * 4 + [2] * 6)
    test_x[4:6, 0, 0] = 1
    result = measure(done, test_x, test_y, model=model)
    assert (result.hits, result.trials) == (4, 6)
    assert result.clean_accuracy == 0.6
    assert result.baseline_success is None
    assert result.interval[0] < 4 / 6 < result.interval[1]
    both = measure(done, test_x, test_y, trainer=lambda *_: model, seeds=(0, 1))
    assert (both.hits, both.trials, both.baseline_hits) == (8, 12, 8)


def test_a_convolutional_trainer_learns_and_blocks_do_not_matter():
    x, y = digits()
    images = np.kron(x[:400, 0], np.ones((2, 2), np.float32))
    trainer = ReferenceTrainer(hidden=(), channels=(8,), epochs=6, batch=50, learning_rate=0.01)
    model = trainer(images, y[:400], 1)
    logits = model(images)
    assert np.mean(logits.argmax(1) == y[:400]) > 0.9
    np.testing.assert_allclose(model(images[:, None]), logits, atol=1e-5)
    np.testing.assert_allclose(model(images[..., None]), logits, atol=1e-5)
    np.testing.assert_array_equal(trainer(images, y[:400], 1)(images), logits)
    assert model(images[:0]).shape == (0, 10)


def test_what_does_not_fit_is_refused_in_one_line():
    x, y = digits()
    flat = x.reshape(len(x), -1)
    network = Network(lambda p, z: p * z, 1.0)
    cases = [
        (lambda: BadNets(target=3).poison(x, y, rate=1.0), "between 0 and 1"),
        (lambda: BadNets(target=30).poison(x, y, rate=0.1), "none of the classes"),
        (lambda: BadNets(target=3).poison(x * 255, y, rate=0.1), r"\[0, 1\]"),
        (lambda: BadNets(target=3).poison(x, y[:-1], rate=0.1), "label for each"),
        (lambda: BadNets(target=3).poison(flat, y, rate=0.1), "no images"),
        (lambda: BadNets(target=3, size=9).poison(x, y, rate=0.1), "does not fit"),
        (lambda: BadNets(target=3).poison(x, y, rate=0.1, ids=np.zeros(len(y))), "different"),
        (lambda: SIG(target=3).poison(x, y, rate=0.5), "of class 3"),
        (lambda: LabelFlip().poison(x, np.zeros_like(y), rate=0.1), "no other"),
        (lambda: LabelFlip("odd"), "choose one of"),
        (lambda: Blended(alpha=0.0), "alpha"),
        (lambda: Blended(target=3, pattern=np.zeros((5, 5))).poison(x, y, rate=0.1), "pattern"),
        (lambda: WaNet(target=3, cross_ratio=99).poison(x, y, rate=0.1), "cross_ratio"),
        (lambda: measure(BadNets(target=3).poison(x, y, rate=0.1), x, y), "trainer"),
        (lambda: measure(LabelFlip().poison(x, y, rate=0.1), x, y, model=np.argmax), "trainer"),
        (lambda: measure(BadNets(target=3).poison(x, y, rate=0.1), x, y, model=np.sum), "returns"),
        (lambda: LabelFlip().poison(x, y, rate=0.1).apply(x), "no trigger"),
        (lambda: ReferenceTrainer(channels=(4,))(flat, y), "convolve"),
    ]  # fmt: skip
    matching = GradientMatching(target=3)
    options = {"rate": 0.06, "surrogate": network}
    cases.append((lambda: matching.poison(x, y, goals=flat[:1], **options), "goals"))
    for call, message in cases:
        with pytest.raises(ae.InputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
