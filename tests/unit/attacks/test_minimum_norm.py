"""Minimum-norm attacks: closed forms, data starts, invariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.attacks import attack
from aisec_eval.attacks.carlini_wagner import CarliniWagner
from aisec_eval.attacks.ddn import DDN
from aisec_eval.attacks.deepfool import DeepFool
from aisec_eval.attacks.fmn import FMN
from aisec_eval.attacks.min_norm import MinimumNorm, nearest
from aisec_eval.attacks.sigma_zero import SigmaZero
from aisec_eval.threats import L0, L1, L2, Box, Linf
from helpers.networks import LayeredModel, random_model

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (2, 4, 3)
N = 24
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    threads = _core.get_threads()
    yield
    _core.set_threads(threads)


def linear(x: Any, gap: float) -> tuple[LayeredModel, Any]:
    """Return a model whose margin at `x` is `gap`, and its gradient."""
    w = np.random.default_rng(7).normal(size=N).astype(np.float32)
    bias = gap - float(w.astype(np.float64) @ x.reshape(-1).astype(np.float64))
    return LayeredModel([(np.stack([w, 0 * w]), [bias, 0])], SHAPE), w.astype(np.float64)


def middle() -> Any:
    return np.random.default_rng(3).uniform(0.4, 0.6, (1, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("backend", ["native", "jax"])
@pytest.mark.parametrize(
    ("method", "threat", "gap"),
    [
        (FMN(steps=150, starts=0), Linf(0), 2.0),
        (FMN(steps=150, starts=0), L2(0), 1.0),
        (FMN(steps=150, starts=0), L1(0), 0.5),
        (DDN(steps=300, starts=0), L2(0), 1.0),
        (CarliniWagner(steps=400), L2(0), 1.0),
        (DeepFool(), Linf(0), 2.0),
        (DeepFool(), L2(0), 1.0),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_distance_to_a_plane(
    backend: Any, method: MinimumNorm, threat: Any, gap: float
) -> None:
    x = middle()
    model, w = linear(x, gap)
    expected = gap / np.linalg.norm(w, DUAL[threat.norm])
    found = nearest(model, x, [0], threat, method, backend=backend)
    assert expected * (1 - 1e-6) <= found.distance[0] <= 1.01 * expected
    # Broken exactly within radii that are no smaller.
    for factor, verdict in [(1.02, ae.BROKEN), (0.99, ae.OPEN)]:
        ball = type(threat)(factor * expected)
        result = attack(model, x, [0], ball, method=method, backend=backend)
        assert ae.VERDICTS[result.verdict[0]] == verdict
        assert not any("not confirmed" in flag for flag in result.flags)
        if verdict == ae.BROKEN:
            assert result.distance[0] <= ball.eps_lower
            assert result.found_by == (method.name,)


@pytest.mark.parametrize("method", [FMN(steps=150, starts=0), SigmaZero(starts=0)])
def test_the_fewest_coordinates(method: MinimumNorm) -> None:
    x = middle()
    model, w = linear(x, 2.0)
    flat = x.reshape(-1).astype(np.float64)
    gains = np.sort(np.where(w > 0, w * flat, -w * (1 - flat)))[::-1]
    fewest = 1 + int(np.argmax(np.cumsum(gains) > 2.0))
    found = nearest(model, x, [0], L0(0), method)
    assert fewest <= found.distance[0] <= fewest + 1
    assert (found.x_adv != x).sum() == found.distance[0]
    assert attack(model, x, [0], L0(fewest + 1), method=method).verdict[0] == 1
    assert attack(model, x, [0], L0(fewest - 1), method=method).verdict[0] == 3


def valley() -> tuple[LayeredModel, Any, Any]:
    """Return a model whose gradient at sample 0 vanishes, and its samples.

    Logits are 0 and `relu(x0 - 0.75) - 0.05`: class 1 where the first input is above 0.8.
    """
    first = np.zeros((1, 3), np.float32)
    first[0, 0] = 1
    layers = [(first, [-0.75]), ([[0.0], [1.0]], [0.0, -0.05])]
    x = np.float32([[0.5, 0.5, 0.5], [0.9, 0.5, 0.5], [1.0, 0.9, 0.5]])
    return LayeredModel(layers, (3,)), x, np.array([0, 1, 1])


def test_data_starts_reach_what_gradients_hide() -> None:
    model, x, y = valley()
    blind = nearest(model, x, y, L2(0), FMN(starts=0))
    assert np.isinf(blind.distance[0])
    assert (blind.x_adv[0] == x[0]).all()
    found = nearest(model, x, y, L2(0), FMN(starts=1))
    np.testing.assert_allclose(found.distance, [0.3, 0.1, 0.2], rtol=0.01)
    assert found.restart[0] == 1
    # A third start does not exist: it costs nothing.
    more = nearest(model, x[:1], y[:1], L2(0), FMN(starts=3), pool=(x, y))
    fewer = nearest(model, x[:1], y[:1], L2(0), FMN(starts=2), pool=(x, y))
    assert more.spent.gradients == fewer.spent.gradients
    # In `attack` the samples of the call are the pool.
    assert attack(model, x, y, L2(0.31), method=FMN()).verdict.tolist() == [1, 1, 1]
    assert attack(model, x[:1], y[:1], L2(0.31), method=FMN()).verdict.tolist() == [3]


def test_misclassified_samples_have_distance_zero() -> None:
    model, x, y = valley()
    found = nearest(model, x, 1 - y, L2(0), FMN())
    assert found.distance.tolist() == [0, 0, 0]
    assert found.restart.tolist() == [-1, -1, -1]
    assert found.spent.gradients.sum() == 0


@pytest.mark.parametrize("threat", [Linf(0), L2(0), L1(0), L0(0)], ids=str)
def test_outcomes_do_not_depend_on_how_they_were_computed(threat: Any) -> None:
    model = random_model(3, (1, 5, 4))
    x = np.random.default_rng(1).random((30, 1, 5, 4), np.float32)
    y = np.argmax(model.logits(x), axis=1)
    method = FMN(steps=20, starts=2)
    expected = nearest(model, x, y, threat, method, batch_size=500)
    assert np.isfinite(expected.distance).all()
    for batch, threads in [(1, 1), (3, 4), (64, 2)]:
        _core.set_threads(threads)
        found = nearest(model, x, y, threat, method, batch_size=batch)
        np.testing.assert_array_equal(found.x_adv, expected.x_adv)
        np.testing.assert_array_equal(found.spent.gradients, expected.spent.gradients)
    part = np.random.default_rng(0).permutation(30)[:11]
    found = nearest(model, x[part], y[part], threat, method, pool=(x, y), sample_ids=part)
    np.testing.assert_array_equal(found.x_adv, expected.x_adv[part])
    distance = expected.x_adv.astype(np.float64) - x.astype(np.float64)
    order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[threat.norm]
    norms = np.linalg.norm(distance.reshape(30, -1), order, axis=1)
    np.testing.assert_allclose(expected.distance, norms, rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FMN(steps=0), lambda: FMN(starts=-1), lambda: FMN(step_size=0.0),
        lambda: FMN(radius_change=(0.1, 1.0)), lambda: DDN(radius_change=1.0),
        lambda: DDN(step_size=float("nan")), lambda: SigmaZero(sigma=-1.0),
        lambda: CarliniWagner(runs=0), lambda: DeepFool(candidates=0),
        lambda: DeepFool(overshoot=float("inf")),
    ],
)  # fmt: skip
def test_refused_parameters(make: Any) -> None:
    with pytest.raises(ae.InputError) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_refused_norms_and_models() -> None:
    model, x, y = valley()
    box = Box(np.zeros(3), np.ones(3))
    for method, threat in [(FMN(), box), (DDN(), Linf(0.1)), (DeepFool(), L1(0.1)),
                           (SigmaZero(), L2(0.1)), (CarliniWagner(), L0(1))]:  # fmt: skip
        with pytest.raises(ae.CapabilityError, match=f"{method.name} cannot attack") as caught:
            attack(model, x, y, threat, method=method)
        assert "\n" not in str(caught.value)
    black_box = LayeredModel(model.affine, (3,), native=False, jax=False)
    with pytest.raises(ae.CapabilityError, match="no gradient"):
        nearest(black_box, x, y, L2(0), FMN())
