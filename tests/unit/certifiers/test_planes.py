"""Planes below the outputs hold everywhere."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from aisec_eval import _core


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
