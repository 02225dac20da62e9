"""Planes below the outputs hold everywhere; clipping by them loses no counterexample."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisec_eval import _core
from aisec_eval.certifiers.input_split import Specification, clip


def exact(values) -> list[Fraction]:
    return [Fraction(float(value)) for value in np.ravel(values)]


@pytest.mark.parametrize("radius", [0.0, 0.01, 0.2])
def test_planes_lie_below_the_outputs_and_give_the_bounds(small_graph, radius):
    rng = np.random.default_rng(0)
    centre = rng.random((3, 1, 8, 8))
    lower, upper = centre - radius, centre + radius
    spec = rng.normal(size=(5, 4))
    bounds, coefficients, constants = _core.margin_planes(small_graph, lower, upper, spec=spec)
    each = np.repeat(spec[None], 3, axis=0)
    expected = _core.margin_bounds(small_graph, lower, upper, spec=each, method="crown")
    np.testing.assert_allclose(bounds, expected, rtol=1e-12, atol=1e-12)
    for sample in range(3):
        for _ in range(20):
            x = rng.uniform(lower[sample], upper[sample])[None]
            low, high = small_graph.interval(x, x)
            for row in range(5):
                plane = sum(
                    a * b for a, b in zip(exact(coefficients[sample, row]), exact(x), strict=True)
                )
                terms = zip(exact(spec[row]), exact(low), exact(high), strict=True)
                value = sum(c * (up if c > 0 else down) for c, down, up in terms)
                assert plane + Fraction(constants[sample, row]) <= value


def test_no_boxes_and_no_rows(small_graph):
    none = np.zeros((0, 1, 8, 8))
    shapes = [part.shape for part in _core.margin_planes(small_graph, none, none, spec=np.eye(4))]
    assert shapes == [(0, 4), (0, 4, 1, 8, 8), (0, 4)]
    one = np.zeros((1, 1, 8, 8))
    shapes = [
        part.shape for part in _core.margin_planes(small_graph, one, one, spec=np.zeros((0, 4)))
    ]
    assert shapes == [(1, 0), (1, 0, 1, 8, 8), (1, 0)]


def test_time_and_errors(small_graph):
    many = np.zeros((4000, 1, 8, 8))
    with pytest.raises(TimeoutError, match="time is up"):
        _core.margin_planes(small_graph, many, many + 1, spec=np.eye(4), timeout=0.0)
    for timeout in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            _core.margin_planes(small_graph, many[:1], many[:1], spec=np.eye(4), timeout=timeout)
    with pytest.raises(ValueError, match="sample 0: lower exceeds upper"):
        _core.margin_planes(small_graph, many[:1] + 1, many[:1], spec=np.eye(4))


numbers = st.floats(-4, 4, allow_nan=False)


@settings(max_examples=200)
@given(st.data())
def test_clipping_keeps_every_point_that_meets_a_clause(data):
    dim, sizes = data.draw(st.integers(1, 3)), data.draw(st.lists(st.integers(1, 3), min_size=1))
    sizes = sizes[:3]
    m = sum(sizes)

    def draw(*shape):
        count = int(np.prod(shape))
        values = data.draw(st.lists(numbers, min_size=count, max_size=count))
        return np.array(values).reshape(shape)

    ends = np.cumsum(sizes)
    clauses = tuple(slice(int(e - s), int(e)) for s, e in zip(sizes, ends, strict=True))
    corners = np.sort(draw(2, dim), axis=0)
    low, high = corners[:1], corners[1:]
    planes, constants = draw(1, m, dim), draw(1, m)
    point = np.clip(low + draw(dim) / 4 * (high - low), low, high)
    # Right-hand sides at, or a little off, the planes at the point: it decides by a hair.
    values = (planes[0] @ point[0]) + constants[0] + data.draw(st.sampled_from([0.0, 1e-15, -1.0]))
    spec = Specification(np.zeros((m, 2)), values, clauses)
    refuted = np.full((1, len(clauses)), -1.0)
    new_low, new_high, empty = clip(spec, refuted, planes, constants, low, high)
    x = exact(point)
    for clause in clauses:
        meets = all(
            sum(a * b for a, b in zip(exact(planes[0, row]), x, strict=True))
            + Fraction(constants[0, row])
            <= Fraction(values[row])
            for row in range(clause.start, clause.stop)
        )
        if meets:
            assert not empty[0]
            assert (new_low <= point).all()
            assert (point <= new_high).all()
    assert empty[0] or ((low <= new_low).all() and (new_high <= high).all())


def test_clipping_cuts_what_it_can():
    # x_0 + x_1 <= -1.5 on the square: each input is at most -0.5.
    spec = Specification(np.zeros((1, 2)), np.array([-1.5]), (slice(0, 1),))
    low, high = np.full((1, 2), -1.0), np.full((1, 2), 1.0)
    args = np.array([[-1.0]]), np.ones((1, 1, 2)), np.zeros((1, 1)), low, high
    new_low, new_high, empty = clip(spec, *args)
    np.testing.assert_allclose(new_high, -0.5, rtol=1e-12)
    np.testing.assert_array_equal(new_low, low)
    assert not empty[0]
    nowhere = Specification(np.zeros((1, 2)), np.array([-2.5]), (slice(0, 1),))
    assert clip(nowhere, *args)[2][0]


def test_conditions_that_exclude_each_other_leave_nothing():
    # x_0 - x_1 <= -0.1 and x_1 - x_0 <= -0.1: each alone can be met, both cannot.
    spec = Specification(np.zeros((2, 2)), np.array([-0.1, -0.1]), (slice(0, 2),))
    low, high = np.full((1, 2), -1.0), np.full((1, 2), 1.0)
    planes = np.array([[[1.0, -1.0], [-1.0, 1.0]]])
    assert clip(spec, np.array([[-1.0]]), planes, np.zeros((1, 2)), low, high)[2][0]
    one = Specification(np.zeros((2, 2)), np.array([-0.1, -0.1]), (slice(0, 1), slice(1, 2)))
    assert not clip(one, np.full((1, 2), -1.0), planes, np.zeros((1, 2)), low, high)[2][0]
