"""The re-check of callables has no tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aisec_eval.attacks.base import Problem
from aisec_eval.attacks.replay import margins, replay
from aisec_eval.attacks.target import Target
from aisec_eval.threats import L0, L1, L2, Box, Linf
from helpers.networks import LayeredModel


def check(threat: Any, x: Any, x_adv: Any, *, native: bool = False) -> str:
    """Replay one candidate against a model that always answers class 1."""
    x = np.asarray([x], np.float32)
    model = LayeredModel([(np.zeros((2, x.shape[1])), [0, 1])], x.shape[1:], native=native)
    target = Target(model, "native" if native else "callable", 8)
    problem = Problem(x, np.zeros(1, np.int64), np.zeros(1, np.int64), threat, 0)
    result = replay(target, problem, np.asarray([x_adv], np.float32))
    assert result.confirmed[0] == (not result.reason[0])
    return result.reason[0]


UP = np.float32(1) + np.float32(2**-23)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("threat", "x", "good", "bad"),
    [
        (Linf(0.25), [0.5, 0.5], [0.75, 0.25], [0.75, 0.25 * (1 - 2.0**-23)]),
        (Linf("0.1"), [0.0, 0.0], [np.float32(0.1) - 2.0**-27, 0], [np.float32(0.1) * UP, 0]),
        (L2(0.25), [0.5, 0.5], [0.65 - 2e-8, 0.7 - 2e-8], [0.75, 0.5 + 2.0**-20]),
        (L1(0.25), [0.5, 0.5], [0.625 - 2.0**-22, 0.375], [0.625 + 2.0**-22, 0.375]),
        (L0(1), [0.5, 0.5], [0, 0.5], [0, np.float32(0.5) * UP]),
        (Box([0, 0], [1, 1]), [0.5, 0.5], [1, 0], [UP, 0]),
        (Linf(0.5), [0.9, 0.5], [1, 0], [UP, 0.5]),
        # 1 - 2^-30 is no float64 neighbour of the radius, but the real difference is above it.
        (Linf(1.0, bounds=(-2, 2)), [1.0, 0], [2.0**-30, 0], [-(2.0**-60), 0]),
    ],
)
def test_no_tolerance(native: bool, threat: Any, x: Any, good: Any, bad: Any) -> None:
    assert check(threat, x, good, native=native) == ""
    assert check(threat, x, bad, native=native) != ""


def test_the_margin_must_be_strictly_negative() -> None:
    x = np.zeros((3, 2), np.float32)
    model = LayeredModel([(np.zeros((2, 2)), [1, 1])], (2,), native=False)
    problem = Problem(x, np.zeros(3, np.int64), np.arange(3), Linf("0.1"), 0)
    result = replay(Target(model, "callable", 8), problem, x)
    assert not result.confirmed.any()
    assert result.forwards.tolist() == [1, 1, 1]
    assert "not negative" in result.reason[0]


def test_margins() -> None:
    nan, inf = np.nan, np.inf
    rows = [[3, 1, 2], [1, 3, 2], [nan, 0, 0], [0, nan, 0], [inf, 0, 0], [0, -inf, -1]]
    logits = np.array([*rows, [0, -inf, -inf]], np.float32)
    found = margins(logits, np.zeros(7, np.int64))
    np.testing.assert_array_equal(found, [1, -2, nan, nan, nan, 1, nan])
