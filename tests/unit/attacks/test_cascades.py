"""AutoAttack's cascades: order, budgets, fallbacks; batches and backends change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aisec_eval.attacks import APGD, APGDT, FAB, FABT, Problem, Square, Target, attack
from aisec_eval.attacks.autoattack import plus, rand, standard
from aisec_eval.attacks.targets import ranked
from aisec_eval.errors import InputError
from aisec_eval.models.base import Capabilities
from aisec_eval.results import BROKEN, OPEN, VERDICTS, Spent
from aisec_eval.threats import L1, L2, Box, Linf
from helpers.networks import LayeredModel, random_model, random_samples

SHAPE = (2, 4, 3)


def test_stages_and_budgets() -> None:
    for threat in (Linf("0.1"), L2(1)):
        assert standard(threat) == (APGD(), APGDT(), FABT(), Square())
    stages = standard(L1(10))
    assert stages[:2] == (APGD(restarts=5, large_radius=True), APGDT(targets=5, large_radius=True))
    assert stages[2:] == (FABT(), Square())
    assert [(a.name, a.restarts) for a in plus(L2(1))] == [
        ("apgd-ce", 5),
        ("apgd-dlr", 5),
        ("fab", 5),
        ("square", 1),
        ("apgd-t", 9),
        ("fab-t", 9),
    ]
    assert [(a.name, a.eot) for a in rand(L2(1))] == [("apgd-ce", 20), ("apgd-dlr", 20)]  # type: ignore[attr-defined]
    assert (APGDT().steps, FABT().steps, FAB().steps, Square().queries) == (100, 100, 100, 5000)


def test_classes_are_ranked_with_the_first_of_equals_first() -> None:
    logits = np.array([[1, 3, 2, 3], [0, -np.inf, 0, 5]], np.float32)
    assert [ranked(logits, rank).tolist() for rank in range(4)] == [[1, 3], [3, 0], [2, 2], [0, 1]]


def run(model: Any, x: Any, y: Any, threat: Any, single: Any) -> Spent:
    """What all runs of one attack spend, every sample staying."""
    problem = Problem(x, y, np.arange(len(y)), threat, 0)
    spent = Spent.zeros(len(y))
    for restart in range(single.restarts):
        found = single.run(Target.of(model, "auto"), problem, restart)
        assert (found.status == 0).all()
        for name in ("forwards", "gradients", "queries"):
            getattr(spent, name)[:] += getattr(found, name)
    return spent


@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_only_what_is_left_costs_anything(norm: Any) -> None:
    """With K classes every stage has K - 1 targets, and broken samples leave at once."""
    model = random_model(2, SHAPE)
    x, y = random_samples(model, 12)
    others = model.num_classes - 1
    for single, forwards, gradients in (
        (APGDT(steps=5), 6 * others, 5 * others),
        (FABT(steps=4), 8 * others, 4 * others),
        (FAB(steps=3), 3 * others + 3, 3 * others),
    ):
        spent = run(model, x, y, norm("1e-6"), single)
        np.testing.assert_array_equal(spent.gradients, gradients)
        # Without the driver each run ranks the classes anew.
        rankings = others if isinstance(single, APGDT | FABT) else 0
        np.testing.assert_array_equal(spent.forwards, forwards + rankings)
    large = norm(1 if norm is Linf else 8)
    result = attack(model, x, y, large, method="standard")
    assert (result.verdict == VERDICTS.index(BROKEN)).all()
    assert set(result.found_by) == {"apgd-ce"}
    assert result.spent.queries.sum() == 0


@pytest.mark.parametrize("norm", [Linf, L2, L1])
@pytest.mark.parametrize("method", ["apgd-t", "fab", "fab-t"])
def test_batches_and_backends_agree(norm: Any, method: str) -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 24)
    threat = norm({"linf": 0.1, "l2": 0.4, "l1": 0.9}[norm.norm])
    whole = attack(model, x, y, threat, method=method, seed=2)
    assert 0 < (whole.verdict == VERDICTS.index(BROKEN)).sum() < 24
    assert (whole.distance[whole.verdict == 1] <= threat.eps_lower).all()
    order = np.random.default_rng(0).permutation(24)
    for size, rows in ((1, np.arange(24)), (5, order)):
        part = attack(
            model, x[rows], y[rows], threat, method=method, seed=2, sample_ids=rows, batch_size=size
        )
        np.testing.assert_array_equal(part.x_adv, whole.x_adv[rows])
        np.testing.assert_array_equal(part.spent.forwards, whole.spent.forwards[rows])
    through = attack(model, x, y, threat, method=method, seed=2, backend="jax")
    assert (through.verdict != whole.verdict).sum() <= 1


@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_jax_and_own_gradients_take_the_same_path_as_the_graph(norm: Any) -> None:
    """Few steps, so that float32 differences stay small: the same points within 1e-4."""
    model = random_model(4, SHAPE)
    x, y = random_samples(model, 9)
    threat = norm({"linf": 0.02, "l2": 0.05, "l1": 0.1}[norm.norm])
    method = [APGD(steps=3), APGDT(steps=3)] if norm is L1 else [APGDT(steps=3)]
    native = attack(model, x, y, threat, method=method)
    for other in (
        attack(model, x, y, threat, method=method, backend="jax"),
        OwnGradient.run(model, x, y, threat, method),
    ):
        np.testing.assert_allclose(other.x_adv, native.x_adv, atol=1e-4)
        np.testing.assert_array_equal(other.spent.gradients, native.spent.gradients)


class OwnGradient:
    """A model with gradients of its own: the graph's, behind `value_and_vjp`; perhaps noisy."""

    capabilities = Capabilities(gradient=True)
    graph = None

    def __init__(self, inner: Any, noise: float = 0.0) -> None:
        self._inner, self._noise = inner, noise
        self._rng = np.random.default_rng(0)
        self.name, self.digest = "own", "0" * 64
        self.input_shape, self.num_classes = inner.input_shape, inner.num_classes
        self.report = inner.report

    @staticmethod
    def run(model: Any, x: Any, y: Any, threat: Any, method: Any) -> Any:
        return attack(OwnGradient(model), x, y, threat, method=method)  # type: ignore[arg-type]

    def jax_function(self) -> None:
        return None

    def logits(self, x: Any) -> Any:
        clean = self._inner.graph.forward(np.ascontiguousarray(x))
        noise = self._noise * self._rng.normal(size=clean.shape)
        return (clean + noise).astype(np.float32)

    def value_and_vjp(self, x: Any, cotangent: Any) -> Any:
        logits = self.logits(x)
        weights = np.ascontiguousarray(cotangent(logits))
        return logits, self._inner.graph.value_and_vjp(np.ascontiguousarray(x), weights)[1]


def test_rand_averages_what_it_sees() -> None:
    """Noise flips single answers near the boundary; means find the direction all the same."""
    model = random_model(5, SHAPE)
    x, y = random_samples(model, 8)
    noisy: Any = OwnGradient(model, noise=0.02)
    result = attack(noisy, x, y, Linf("1e-6"), method=[APGD(steps=2, eot=7)])
    left = result.verdict == VERDICTS.index(OPEN)
    assert left.any()
    # 3 points of 7 draws, and 7 more draws for each of 2 gradients; 1 clean check and its own
    # repetitions by the diagnostics.
    assert (result.spent.gradients[left] == 14).all()
    assert (result.spent.forwards[left] >= 35 + 1).all()
    assert (attack(noisy, x, y, Linf("0.4"), method="rand").verdict == VERDICTS.index(BROKEN)).all()


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_few_classes(classes: int, norm: Any) -> None:
    rng = np.random.default_rng(classes)
    weight = rng.normal(size=(classes, 24))
    model = LayeredModel([(weight, list(rng.normal(size=classes)))], SHAPE)
    x, y = random_samples(model, 10)
    small, large = norm("1e-5"), norm(1 if norm is Linf else 20)
    for method in ("standard", "plus"):
        assert (attack(model, x, y, large, method=method).verdict == VERDICTS.index(BROKEN)).all()
    for single in (APGD("dlr", steps=3), APGDT(steps=3), FAB(steps=3), FABT(steps=3)):
        others = 1 if isinstance(single, APGD) else classes - 1
        np.testing.assert_array_equal(run(model, x, y, small, single).gradients, 3 * others)


def test_stages_that_cannot_run_are_said() -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 3)
    result = attack(model, x, y, Box(np.zeros(SHAPE), np.ones(SHAPE)), method="standard")
    assert any(flag.startswith("fab-t skipped: it is for linf, l2, l1") for flag in result.flags)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: APGDT(steps=0), "steps=0"),
        (lambda: APGDT(targets=0), "targets=0"),
        (lambda: FABT(targets=-1), "targets=-1"),
        (lambda: FAB(restarts=0), "restarts=0"),
        (lambda: APGD(eot=0), "eot=0"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
