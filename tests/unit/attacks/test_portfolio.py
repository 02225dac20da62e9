"""Method "fast": its stages, what they may cost, and what they do not depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import APGD, Problem, Target, attack
from aisec_eval.attacks.portfolio import DataStarts, Near, Persistent, Targeted, nearest_classes
from aisec_eval.results import BROKEN, OPEN, VERDICTS
from aisec_eval.threats import L0, L1, L2, Box, Linf
from helpers.networks import LayeredModel, random_model, random_samples

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (1, 4, 4)
CODE = {name: VERDICTS.index(name) for name in VERDICTS}
THREATS = [
    Linf("0.05"),
    L2(0.2),
    L1(0.4),
    L0(1),
    Box(np.full(SHAPE, 0.4375), np.full(SHAPE, 0.5625)),
]


def problem(model: Any, x: Any, y: Any, threat: Any, **known: Any) -> Problem:
    clean = model.logits(x)
    return Problem(x, y, np.arange(len(y)), threat, 0, clean=clean, **known)


@pytest.mark.parametrize("backend", ["native", "jax"])
@pytest.mark.parametrize(("threat", "dual"), [(Linf("0.1"), 1), (L2(1), 2), (L1(1), np.inf)])
def test_linear_networks_have_exact_distances(threat: Any, dual: float, backend: Any) -> None:
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(6, 16)) * rng.uniform(0.1, 3, size=(6, 1))
    model = LayeredModel([(weight, rng.normal(size=6))], SHAPE, native=backend == "native")
    x, y = random_samples(model, 20)
    order, cost = nearest_classes(Target.of(model, "auto"), problem(model, x, y, threat))
    assert cost == 5
    logits = model.logits(x).astype(np.float64)
    for row, (label, z) in enumerate(zip(y, logits, strict=True)):
        away = {
            t: (z[label] - z[t]) / np.linalg.norm(weight[label] - weight[t], dual)
            for t in range(6)
            if t != label
        }
        assert order[row].tolist() == sorted(away, key=away.__getitem__)


def test_two_classes_need_no_distances() -> None:
    model = random_model(1, SHAPE, classes=2)
    x, y = random_samples(model, 5)
    order, cost = nearest_classes(Target.of(model, "auto"), problem(model, x, y, Linf("0.1")))
    assert cost == 0
    np.testing.assert_array_equal(order[:, 0], 1 - y)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_neither_order_nor_batch_matter(threat: Any) -> None:
    model = random_model(4, SHAPE, classes=5)
    x, y = random_samples(model, 30)
    x = np.clip(x, *threat.bounds)
    y = model.logits(x).argmax(axis=1)
    one = attack(model, x, y, threat)
    # In a box all samples share one region, so that every one with a label that fails there does.
    assert threat.norm == "box" or {VERDICTS[code] for code in one.verdict} == {BROKEN, OPEN}
    assert not any("skipped" in flag for flag in one.flags)
    order = np.random.default_rng(0).permutation(30)
    other = attack(model, x[order], y[order], threat, sample_ids=order, batch_size=4)
    np.testing.assert_array_equal(one.x_adv[order], other.x_adv)
    np.testing.assert_array_equal(one.verdict[order], other.verdict)
    for counter in ("forwards", "gradients", "queries"):
        spent = getattr(one.spent, counter)[order]
        np.testing.assert_array_equal(spent, getattr(other.spent, counter))


@pytest.mark.parametrize("threat", THREATS[:3], ids=str)
def test_never_weaker_than_its_parts(threat: Any) -> None:
    model = random_model(5, SHAPE, classes=4)
    x, y = random_samples(model, 60)
    fast = attack(model, x, y, threat).verdict == CODE[BROKEN]
    for part in (APGD("margin"), APGD(), "fmn", "square"):
        other = attack(model, x, y, threat, method=part).verdict == CODE[BROKEN]
        assert (fast | ~other).mean() >= 0.98


def test_budgets_hold() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 30)
    result = attack(model, x, y, Linf("0.002"))
    open_ = result.verdict == CODE[OPEN]
    assert open_.any()
    # Two of the three classes have a boundary: 20 + 2 + 2 x 25 + 9 x 40, and, near the boundary,
    # 2 x (2 + 200) + 100 + 50 + 100 + 3 x (2 + 200); a confirmation of the diagnostics.
    assert result.spent.gradients.max() <= 432 + 404 + 250 + 606 + 22
    assert result.spent.queries.max() <= 250 + 3500 + 5000


def test_light_is_cheaper() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 30)
    light = attack(model, x, y, Linf("0.02"), method="light")
    fast = attack(model, x, y, Linf("0.02"))
    assert light.spent.gradients.sum() < fast.spent.gradients.sum()
    assert light.spent.queries.sum() < fast.spent.queries.sum()
    assert (light.verdict != fast.verdict).mean() <= 0.1


class Recorder(APGD):
    """Remembers what it was given."""

    def run(self, target: Any, problem: Any, restart: int) -> Any:
        self.given.append((problem.ids.tolist(), restart))  # type: ignore[attr-defined]
        return super().run(target, problem, restart)


def test_near_attacks_only_what_is_near() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 6)
    clean = np.array([1.0, 1, 1, 1, 1, 1])
    left = np.array([0.1, 0.9, 0.2, 1.0, 0.4, 0.05])
    inner = Recorder("margin", steps=3)
    object.__setattr__(inner, "given", [])
    part = problem(model, x, y, Linf("0.001"), best=x, margin=left)
    logits = np.zeros((6, 3), np.float32)
    logits[np.arange(6), y] = clean
    part = Problem(**{**part.__dict__, "clean": logits})
    found = Near(inner, within=0.3).run(Target.of(model, "auto"), part, 1)
    assert inner.given == [([0, 2, 5], 1001)]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found.gradients > 0, [True, False, True, False, False, True])
    np.testing.assert_array_equal(found.x[1], x[1])


def test_square_goes_on_where_it_helps() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 12)
    clean = model.logits(x)
    target, threat = Target.of(model, "auto"), Linf("0.002")
    margin = np.sort(clean, axis=1)[:, -1] - np.sort(clean, axis=1)[:, -2]
    square = Persistent(queries=70, glance=20, probe=10, more=40)
    stuck = problem(model, x, y, threat, best=x, margin=margin.astype(np.float64))
    found = square.run(target, stuck, 0)
    assert set(found.queries[found.status == 0]) == {70}
    reached = attack(model, x, y, threat, method=APGD("margin", steps=40))
    best = problem(model, x, y, threat, best=reached.x_adv, margin=reached.margin)
    found = square.run(target, best, 0)
    # APGD is at the optimum of these nearly linear regions: nothing moves.
    assert np.median(found.queries) == 20
    assert (found.margin <= reached.margin + 1e-6).all()


def flat() -> LayeredModel:
    """Class 1 where the first input is large, of which no gradient tells below 0.66."""
    hidden = np.zeros((2, 16))
    hidden[0, 0] = hidden[1, 1] = 1
    return LayeredModel([(hidden, [-0.66, 0]), ([[0, 0.3], [40, 0]], [1, 0])], SHAPE)


def test_data_starts_see_what_flat_gradients_hide() -> None:
    model = flat()
    rng = np.random.default_rng(0)
    x = rng.random((60, *SHAPE), dtype=np.float32)
    x[:30, 0, 0, 0], x[30:, 0, 0, 0] = 0.5, 0.9
    y = model.logits(x).argmax(axis=1)
    threat = L2(0.22)
    inside = attack(model, x, y, threat, method=APGD(steps=20))
    outside = attack(model, x, y, threat, method=[APGD(steps=20), DataStarts()])
    assert (inside.verdict[:30] == CODE[OPEN]).all()
    assert (outside.verdict[:30] == CODE[BROKEN]).all()
    assert set(outside.found_by[:30]) == {"fmn"}
    assert [flag.split(":")[0] for flag in outside.flags] == ["outside-in"]
    # Stretched to the radius, not left behind the boundary.
    np.testing.assert_allclose(outside.distance[:30], 0.22, rtol=1e-3)


def test_targeted_stops_at_the_first_class_that_works() -> None:
    model = random_model(6, SHAPE, classes=5)
    x, y = random_samples(model, 30)
    part = problem(model, x, y, Linf("0.1"))
    found = Targeted("margin", steps=10, targets=3).run(Target.of(model, "auto"), part, 0)
    broken = found.status == 1
    assert broken.sum() > 5
    assert (found.gradients[broken] < 4 + 30).all()
    assert (found.gradients[~broken] == 4 + 30).all()


WORKLOADS = {
    "linf": ("mnist", 100, Linf("0.3"), "mnist_cnn_a_adv_linf_0.3_first500", 700, 2800),
    "l2": ("mnist", 500, L2(2), "mnist_cnn_a_adv_l2_2.0_first500", 600, 600),
    "cifar": ("cifar", 200, Linf("2/255"), "cifar_cnn_a_adv_linf_2of255_sdp200", 150, 500),
}


@pytest.mark.reference
@pytest.mark.parametrize("workload", WORKLOADS)
def test_reference_models(reference: Path, workload: str) -> None:
    """All of them in `benchmarks/test_portfolio.py`; budgets are a sample's mean."""
    data, n, threat, name, gradients, forwards = WORKLOADS[workload]
    if data == "mnist":
        images = np.load(reference / "images" / "mnist_test.npz")
        x = images["x"][:n, None].astype(np.float32) / 255
    else:
        images = np.load(reference / "images" / "cifar10_sdp200.npz")
        x = np.ascontiguousarray(images["x"].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    y = images["y"][:n].astype(np.int64)
    model = ae.load_model(reference / "models" / f"{data}_cnn_a_adv.onnx")
    known = np.load(reference / "reference" / f"attack_{name}.npz")
    result = attack(model, x, y, threat)
    robust = result.verdict == CODE[OPEN]
    assert robust.sum() <= known["autoattack_robust"][:n].sum()
    if workload == "l2":
        assert robust.sum() <= 45
    assert result.spent.gradients.mean() <= gradients
    assert (result.spent.forwards + result.spent.queries).mean() <= forwards
    expected = ["outside-in"] if workload == "l2" else []
    assert [flag.split(":")[0] for flag in result.flags] == expected
