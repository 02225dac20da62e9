"""On linear classifiers the strongest perturbation is known: attacks must reach it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aisec_eval.attacks import APGD, Square, attack
from aisec_eval.threats import L2, Box, Linf
from helpers.networks import LayeredModel

SHAPE = (2, 4, 3)
N = 24


def linear(bias: float) -> tuple[LayeredModel, Any]:
    """Return the model with margin w.x + bias, and w."""
    w = np.random.default_rng(7).normal(size=N).astype(np.float32).astype(np.float64)
    return LayeredModel([(np.stack([w, 0 * w]), [bias, 0])], SHAPE), w


def samples(n: int, spread: float) -> Any:
    rng = np.random.default_rng(3)
    return (0.5 + spread * (rng.random((n, *SHAPE)) - 0.5)).astype(np.float32)


def through_the_middle() -> tuple[LayeredModel, Any, float]:
    """Return a model whose boundary halves the box, w, and its bias."""
    w = linear(0.0)[1]
    bias = float(np.float32(-w.sum() / 2))
    return (*linear(bias), bias)


def optimum(w: Any, x: Any, threat: Any) -> Any:
    """Return the least w.x over the threat model (L2: where the box is out of reach)."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    if threat.norm == "l2":
        return flat @ w - float(threat.eps) * np.linalg.norm(w)
    if threat.norm == "box":
        return np.full(len(x), np.where(w > 0, 0, w).sum())
    eps = float(threat.eps)
    return np.where(w > 0, np.maximum(flat - eps, 0), np.minimum(flat + eps, 1)) @ w


@pytest.mark.parametrize("backend", ["native", "jax"])
@pytest.mark.parametrize(
    "threat", [Linf("0.07"), Linf("0.6"), L2(0.25), Box(np.zeros(SHAPE), np.ones(SHAPE))]
)
def test_apgd_reaches_the_optimum(backend: str, threat: Any) -> None:
    model, w = linear(100.0)
    x = samples(12, 0.1 if threat.norm == "l2" else 1.0)
    y = np.zeros(12, int)
    result = attack(model, x, y, threat, method=APGD(steps=60), backend=backend)  # type: ignore[arg-type]
    reached = result.x_adv.reshape(12, -1).astype(np.float64) @ w
    np.testing.assert_allclose(reached, optimum(w, x, threat), atol=2e-4)
    np.testing.assert_allclose(result.margin, reached + 100, atol=1e-4)
    assert (result.verdict == 3).all()


@pytest.mark.parametrize("attack_", [APGD(), Square(queries=3000)])
def test_samples_are_broken_exactly_where_they_can_be(attack_: Any) -> None:
    threat = Linf("0.07")
    model, w, bias = through_the_middle()
    x = samples(60, 1.0)
    y = (x.reshape(60, -1) @ w + bias < 0).astype(int)
    least = np.where(y == 0, optimum(w, x, threat) + bias, optimum(-w, x, threat) - bias)
    result = attack(model, x, y, threat, method=attack_)
    assert 10 < (least < 0).sum() < 50
    np.testing.assert_array_equal(result.verdict == 1, least < 0)


def test_scaled_logits_do_not_mask_the_gradient() -> None:
    """Float32 cross-entropy of these logits is 0 with gradient 0 nearly everywhere."""
    threat = Linf("0.07")
    plain, w, bias = through_the_middle()
    sharp = LayeredModel([(1e4 * w, 1e4 * b) for w, b in plain.affine], SHAPE)
    x = samples(60, 1.0)
    y = (x.reshape(60, -1) @ w + bias < 0).astype(int)
    for backend in ("native", "jax"):
        a, b = (
            attack(model, x, y, threat, method=APGD(steps=20), backend=backend)  # type: ignore[arg-type]
            for model in (plain, sharp)
        )
        np.testing.assert_array_equal(a.verdict, b.verdict)
        assert (a.verdict == 1).any()
