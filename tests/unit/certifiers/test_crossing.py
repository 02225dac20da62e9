"""Radii that follow margins to where they cross zero: near it, never beyond, in few steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisec_eval.certifiers.crossing import CLOSE, Crossing, holds

Margin = Callable[[np.ndarray], np.ndarray]


def follow(
    margin: Margin, high: float, start: float, *, early: bool = False, clean: float = 1.0
) -> tuple[float, int]:
    """Return the largest radius certified and how many margins it took after the first."""
    crossing = Crossing(np.array([high]), np.array([clean]), early=early)
    at = np.array([start])
    rows = crossing.learn(np.arange(1), at, margin(at))
    for turn in range(30):
        if len(rows) == 0:
            return float(crossing.low[0]), turn
        at = crossing.aim(rows)
        assert (at > crossing.low[rows]).all()
        assert (at < high).all()
        rows = crossing.learn(rows, at, margin(at))
    raise AssertionError("no end")


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("start", [0.1, 0.5, 0.95, 1.2])
def test_powers_are_found_in_few_steps(power, start):
    low, turns = follow(lambda r: 1 - r**power, 7.0, start)
    assert 1 - CLOSE <= low < 1
    assert turns <= (4 if power < 2 else 9), turns


@settings(max_examples=200, deadline=None)
@given(
    root=st.floats(1e-4, 1e3),
    power=st.floats(0.8, 6),
    start=st.floats(0.05, 3),
    reach=st.floats(1.02, 50),
    kink=st.floats(0, 10),
    early=st.booleans(),
)
def test_any_falling_margin_is_followed_to_its_end(root, power, start, reach, kink, early):
    # Bounds break down beyond some radius, and a search that stops early says little above 0.
    def margin(r):
        value = 1 - (r / root) ** power
        value = np.where(value < 0, value * (1 + kink), value)
        return np.where(early & (value > 0) & (value < 0.7), 1e-3, value)

    low, _ = follow(margin, reach * root, min(start, 0.99 * reach) * root, early=early)
    assert 0.95 * root <= low <= root


@pytest.mark.parametrize("nothing", [-np.inf, np.nan, np.inf])
def test_margins_that_are_not_finite_certify_nothing(nothing):
    def margin(r):
        return np.where(r < 0.3, 0.5, nothing)

    low, _ = follow(margin, 1.0, 0.6)
    assert 0.3 * (1 - 2 * CLOSE) <= low < 0.3
    assert not holds(np.array([nothing, 0.0, -1.0])).any()


def test_rows_do_not_depend_on_each_other():
    roots = np.array([0.2, 1.0, 3.0, 0.7])
    crossing = Crossing(np.full(4, 5.0), np.ones(4), early=False)
    at = np.full(4, 0.5)
    rows = crossing.learn(np.arange(4), at, 1 - (at / roots) ** 1.3)
    while len(rows):
        at = crossing.aim(rows)
        rows = crossing.learn(rows, at, 1 - (at / roots[rows]) ** 1.3)
    for row, root in enumerate(roots):
        alone, _ = follow(lambda r, root=root: 1 - (r / root) ** 1.3, 5.0, 0.5)
        assert crossing.low[row] == alone
