"""Projections against general solvers: the nearest point, found by code that knows no norm ball."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from aisec_eval import _core

PLANES = Path(__file__).parent / "plane_moves.json"
"""Written by `python tests/golden/make_plane_moves.py`; the native moves are held against it by
`rust/search/tests/plane_golden.rs`."""


def nearest(x: Any, z: Any, norm: str, eps: float) -> Any:
    """Minimise `|p - z|^2` over the ball cut with the unit box, by sequential programming.

    `p - x` is split into its positive and its negative part, so that every norm is smooth.
    """
    n, u = len(x), z - x

    def parts(v: Any) -> tuple[Any, Any]:
        return v[:n], v[n:]

    def value(v: Any) -> float:
        up, down = parts(v)
        return float(0.5 * ((up - down - u) ** 2).sum())

    def slope(v: Any) -> Any:
        up, down = parts(v)
        residual = up - down - u
        return np.concatenate([residual, -residual])

    room = np.concatenate([1 - x, x])
    if norm == "linf":
        room = np.minimum(room, eps)
        ball: list[Any] = []
    elif norm == "l1":
        ones = np.ones(2 * n)
        ball = [{"type": "ineq", "fun": lambda v: eps - v.sum(), "jac": lambda _: -ones}]
    else:
        ball = [
            {
                "type": "ineq",
                "fun": lambda v: eps**2 - ((v[:n] - v[n:]) ** 2).sum(),
                "jac": lambda v: -2 * np.concatenate([v[:n] - v[n:], v[n:] - v[:n]]),
            }
        ]
    solved = minimize(
        value,
        np.zeros(2 * n),
        jac=slope,
        bounds=[(0, r) for r in room],
        constraints=ball,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    up, down = parts(solved.x)
    return x + up - down


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_nearest_point(norm: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 9
    x = rng.random(n).astype(np.float32)
    x[:2] = 0, 1
    z = (x + rng.normal(0, 0.6, n)).astype(np.float32)
    eps = float({"linf": 0.3, "l1": 0.9}[norm] * rng.uniform(0.3, 1.5))
    found = _core.project(x[None], z[None], norm=norm, eps=eps, lower=0.0, upper=1.0)[0]
    expected = nearest(x.astype(np.float64), z.astype(np.float64), norm, eps)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("seed", range(12))
def test_l2_is_the_nearest_point_of_the_ball_then_of_the_box(seed: int) -> None:
    """AutoAttack scales, then clips: the nearest point of the ball where no wall is in the way."""
    rng = np.random.default_rng(seed)
    n = 9
    x = rng.uniform(0.4, 0.6, n).astype(np.float32)
    z = (x + rng.normal(0, 0.6, n)).astype(np.float32)
    found = _core.project(x[None], z[None], norm="l2", eps=0.3, lower=0.0, upper=1.0)[0]
    expected = nearest(x.astype(np.float64), z.astype(np.float64), "l2", 0.3)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    x[0] = 0.99
    z[0] = 1.9
    walled = _core.project(x[None], z[None], norm="l2", eps=0.3, lower=0.0, upper=1.0)[0]
    delta = z.astype(np.float64) - x
    scaled = x + delta * 0.3 / np.linalg.norm(delta)
    np.testing.assert_allclose(walled, scaled.clip(0, 1), atol=1e-6)
    assert walled[0] == 1


def shortest_move(x: Any, w: Any, gap: float, norm: str) -> float:
    """Norm of the shortest move onto the plane `gap` below, in the unit box; by a solver."""
    n = len(x)
    if norm == "l2":
        solved = minimize(
            lambda d: float(0.5 * (d * d).sum()),
            np.zeros(n),
            jac=lambda d: d,
            bounds=list(zip(-x, 1 - x, strict=True)),
            constraints=[{"type": "eq", "fun": lambda d: w @ d + gap, "jac": lambda _: w}],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        return float(np.linalg.norm(solved.x))
    identity = np.eye(n)
    columns = np.ones((n, 1)) if norm == "linf" else identity
    cost = np.concatenate([np.zeros(n), np.ones(columns.shape[1])])
    above, below = np.hstack([identity, -columns]), np.hstack([-identity, -columns])
    solved = linprog(
        cost,
        A_ub=np.vstack([above, below]),
        b_ub=np.zeros(2 * n),
        A_eq=np.concatenate([w, np.zeros(columns.shape[1])])[None],
        b_eq=[-gap],
        bounds=[*zip(-x, 1 - x, strict=True), *[(0, None)] * columns.shape[1]],
    )
    return float(solved.fun)


def test_plane_moves_on_file_are_the_solvers() -> None:
    cases = json.loads(PLANES.read_text())
    assert {case["norm"] for case in cases} == {"linf", "l2", "l1"}
    assert len(cases) >= 60
    for case in cases:
        x, w = np.array(case["x"]), np.array(case["normal"])
        found = shortest_move(x, w, case["gap"], case["norm"])
        assert found == pytest.approx(case["length"], rel=1e-6), case
