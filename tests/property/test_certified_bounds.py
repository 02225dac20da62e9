"""Certified margins against exact minima in rational arithmetic, and against hostile rounding."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisec_eval import _core

Layer = tuple[np.ndarray, np.ndarray]
METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")


def mlp(layers: list[Layer], activation: str = "relu", **attrs: float) -> _core.Graph:
    """A graph of affine layers with an activation between them."""
    size = layers[0][0].shape[1]
    nodes: list[dict[str, Any]] = [
        {"name": "x", "op": "input", "inputs": [], "tensors": {}, "attrs": {"shape": [size]}}
    ]
    tensors: list[np.ndarray] = []
    for index, (weight, bias) in enumerate(layers):
        if index:
            nodes.append(
                {
                    "name": f"a{index}",
                    "op": activation,
                    "inputs": [len(nodes) - 1],
                    "tensors": {},
                    "attrs": dict(attrs),
                }
            )
        roles = {"weight": len(tensors), "bias": len(tensors) + 1}
        tensors += [np.ascontiguousarray(weight), np.ascontiguousarray(bias)]
        nodes.append(
            {
                "name": f"f{index}",
                "op": "affine",
                "inputs": [len(nodes) - 1],
                "tensors": roles,
                "attrs": {},
            }
        )
    return _core.Graph(json.dumps({"nodes": nodes, "output": len(nodes) - 1}), tensors)


def margin_lower(graph: _core.Graph, lower: Any, upper: Any, method: str) -> float:
    """The certified lower bound of the first logit minus the second."""
    box = [np.array([corner], dtype=np.float64) for corner in (lower, upper)]
    spec = np.array([[[1.0, -1.0]]])
    return float(_core.margin_bounds(graph, *box, spec=spec, method=method)[0, 0])


def in_order(ibp: float, crown_ibp: float, crown: float, alpha: float) -> None:
    """Each method is at least as tight as those it starts from."""
    assert ibp <= crown_ibp
    assert ibp <= crown <= alpha


def exact(matrix: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(float(v)) for v in row] for row in np.atleast_2d(matrix)]


def exact_minimum(layers: list[Layer], lower: list[float], upper: list[float]) -> Fraction:
    """Minimum of logit 0 - logit 1 of a one-hidden-layer ReLU net of two inputs over a box.

    For each activation pattern the margin is linear on a polygon, so its minimum is at a
    vertex: an intersection of two of the lines that bound the pattern or the box.
    """
    (w1, b1), (w2, b2) = layers
    hidden = [(*row, bias) for row, bias in zip(exact(w1), exact(b1)[0], strict=True)]
    hidden = [(row[0], row[1], row[2]) for row in hidden]
    out = [a - b for a, b in zip(*exact(w2), strict=True)]
    bias = Fraction(float(b2[0])) - Fraction(float(b2[1]))
    low, high = ([Fraction(v) for v in corner] for corner in (lower, upper))
    zero, one = Fraction(0), Fraction(1)
    lines = [*hidden]
    for axis in range(2):
        normal = (one, zero) if axis == 0 else (zero, one)
        lines += [(*normal, -low[axis]), (*normal, -high[axis])]
    points = set(itertools.product(*zip(low, high, strict=True)))
    for (a, b, c), (d, e, f) in itertools.combinations(lines, 2):
        det = a * e - b * d
        if det != 0:
            points.add(((b * f - c * e) / det, (c * d - a * f) / det))
    inside = [
        p for p in points if all(lo <= v <= hi for lo, v, hi in zip(low, p, high, strict=True))
    ]
    return min(
        bias
        + sum(w * max(zero, a * x + b * y + c) for w, (a, b, c) in zip(out, hidden, strict=True))
        for x, y in inside
    )


def exact_chain_minimum(layers: list[Layer], low: float, high: float) -> Fraction:
    """Minimum of logit 0 - logit 1 of a ReLU net of one input, any depth, over an interval."""
    ends = [Fraction(low), Fraction(high)]

    def hidden(t: Fraction, depth: int) -> list[Fraction]:
        values = [t]
        for index, (weight, bias) in enumerate(layers[: depth + 1]):
            if index:
                values = [max(Fraction(0), v) for v in values]
            values = [
                sum((a * b for a, b in zip(row, values, strict=True)), Fraction(float(c)))
                for row, c in zip(exact(weight), bias, strict=True)
            ]
        return values

    for depth in range(len(layers) - 1):  # between `ends` everything up to here is linear
        found = set(ends)
        for left, right in itertools.pairwise(sorted(ends)):
            for a, b in zip(hidden(left, depth), hidden(right, depth), strict=True):
                if a * b < 0:
                    found.add(left + (right - left) * a / (a - b))
        ends = sorted(found)
    outputs = [hidden(t, len(layers) - 1) for t in ends]
    return min(first - second for first, second in outputs)


def layers_of(seed: int, sizes: list[int], scale: float = 1.0) -> list[Layer]:
    random = np.random.default_rng(seed)
    return [
        (random.normal(size=(n, m)) * scale, random.normal(size=n) * scale)
        for m, n in itertools.pairwise(sizes)
    ]


SCALES = st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30])


@given(st.integers(0, 2**32), st.integers(1, 7), st.floats(0.0, 2.0), SCALES)
def test_never_above_the_exact_minimum_in_the_plane(
    seed: int, hidden: int, radius: float, scale: float
) -> None:
    layers = layers_of(seed, [2, hidden, 2], scale)
    center = np.random.default_rng(seed + 1).normal(size=2)
    lower, upper = (center - radius).tolist(), (center + radius).tolist()
    minimum = exact_minimum(layers, lower, upper)
    graph = mlp(layers)
    bounds = [margin_lower(graph, lower, upper, method) for method in METHODS]
    in_order(*bounds)
    assert np.isfinite(bounds).all()
    for bound in bounds:
        assert Fraction(bound) <= minimum
    if radius == 0.0:
        size = max(1.0, scale) ** 2 * 100
        assert float(minimum) - min(bounds) < 1e-12 * size


@given(st.integers(0, 2**32), st.integers(1, 4), st.floats(1e-9, 3.0), SCALES)
def test_never_above_the_exact_minimum_at_depth(
    seed: int, depth: int, radius: float, scale: float
) -> None:
    layers = layers_of(seed, [1, *[3] * depth, 2], scale)
    center = float(np.random.default_rng(seed + 1).normal())
    low, high = center - radius, center + radius
    minimum = exact_chain_minimum(layers, low, high)
    graph = mlp(layers)
    for method in METHODS:
        bound = margin_lower(graph, [low], [high], method)
        assert bound == -np.inf or Fraction(bound) <= minimum


@given(
    st.lists(
        st.tuples(st.sampled_from([1, -1, 3, -3, 7]), st.integers(-40, 40), st.integers(-40, 40)),
        min_size=1,
        max_size=12,
    )
)
def test_cancellation_at_a_point_is_never_rounded_in_favour(
    terms: list[tuple[int, int, int]],
) -> None:
    """Sums whose terms cancel exactly, or almost: the bound of one point against its value."""
    weights = np.array([[sign * 2.0**p for sign, p, _ in terms], [0.0] * len(terms)])
    x = np.array([2.0**q + 2.0 ** (q - 30) for _, _, q in terms])
    value = sum(
        (Fraction(float(w)) * Fraction(float(v)) for w, v in zip(weights[0], x, strict=True)),
        Fraction(0),
    )
    graph = mlp([(weights, np.zeros(2))])
    for method in METHODS:
        assert Fraction(margin_lower(graph, x, x, method)) <= value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gap", [0.0, -(2.0**-60), -(2.0**-149)])
@pytest.mark.parametrize("big", [2.0**30, 2.0**53, 2.0**100])
def test_a_margin_lost_in_rounding_is_not_certified(method: str, gap: float, big: float) -> None:
    """`z0 - z1 = (1 + big) - big - 1 + gap` in an order where plain sums give something else."""
    layers = [
        (np.ones((1, 1)), np.zeros(1)),
        (np.array([[big]]), np.array([big])),
        (np.array([[1.0], [1.0]]), np.array([gap, 0.0])),
    ]
    graph = mlp(layers)
    assert margin_lower(graph, [0.0], [1.0], method) <= gap
    # The same with terms that cancel inside one sum.
    weight = np.array([[big, 1.0, -big, -1.0], [0.0] * 4])
    graph = mlp([(weight, np.array([gap, 0.0]))])
    for order in itertools.permutations(range(4)):
        rows = np.ascontiguousarray(weight[:, order])
        graph = mlp([(rows, np.array([gap, 0.0]))])
        assert margin_lower(graph, np.ones(4), np.ones(4), method) <= gap


@given(st.integers(0, 2**32), st.sampled_from(["sigmoid", "tanh"]), st.floats(0.0, 6.0), SCALES)
def test_s_shaped_nets_hold_on_a_dense_grid(
    seed: int, activation: str, radius: float, scale: float
) -> None:
    layers = layers_of(seed, [1, 4, 3, 2], min(scale, 1e6))
    center = float(np.random.default_rng(seed + 1).normal())
    low, high = center - radius, center + radius
    graph = mlp(layers, activation)
    grid = np.linspace(low, high, 501)[:, None]
    grid = np.clip(grid, low, high)
    below, above = graph.interval(grid, grid)
    value = (above[:, 0] - below[:, 1]) * (1 + 1e-15) + 1e-300
    bounds = [margin_lower(graph, [low], [high], method) for method in METHODS]
    in_order(*bounds)
    assert max(bounds) <= value.min() + abs(value).max() * 1e-15


@given(st.integers(0, 2**32), st.sampled_from([-0.5, 0.0, 0.01, 0.5, 1.0, 1.5]))
def test_leaky_slopes_of_every_kind_hold_on_a_grid(seed: int, slope: float) -> None:
    layers = layers_of(seed, [1, 5, 2])
    graph = mlp(layers, "leaky_relu", slope=slope)
    grid = np.linspace(-2.0, 2.0, 801)[:, None]
    logits = graph.forward64(grid)
    margins = logits[:, 0] - logits[:, 1]
    for method in METHODS:
        assert margin_lower(graph, [-2.0], [2.0], method) <= margins.min() + 1e-12


def test_an_unbounded_value_proves_nothing() -> None:
    huge = np.full((1, 1), 3e38)
    layers: list[Layer] = [(huge, np.zeros(1))] * 12
    layers.append((np.array([[1.0], [0.0]]), np.zeros(2)))
    graph = mlp(layers)
    for method in METHODS:
        assert margin_lower(graph, [0.5], [1.0], method) == -np.inf


def test_subnormal_products_do_not_vanish() -> None:
    """A product below the smallest float64 is lost by arithmetic, but not by the bound."""
    tiny = np.array([[1e-40]], dtype=np.float64)
    layers = [(tiny, np.zeros(1))] * 9
    layers.append((np.array([[-1e-40], [0.0]]), np.zeros(2)))
    graph = mlp(layers)
    for method in METHODS:
        assert margin_lower(graph, [1.0], [1.0], method) < 0.0  # the margin is -1e-400
