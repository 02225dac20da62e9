"""Branch and bound against exact minima in rational arithmetic: it proves what is true, and no
more."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisec_eval import _core
from helpers.exact_plane import Plane, Point, halves, value_at

Layer = tuple[np.ndarray, np.ndarray]


def mlp(layers: list[Layer], slope: float = 0.0) -> _core.Graph:
    """A graph of affine layers with a leaky ReLU (a ReLU for slope 0) between them."""
    size = layers[0][0].shape[1]
    nodes: list[dict[str, Any]] = [
        {"name": "x", "op": "input", "inputs": [], "tensors": {}, "attrs": {"shape": [size]}}
    ]
    tensors: list[np.ndarray] = []
    for index, (weight, bias) in enumerate(layers):
        if index:
            op, attrs = ("leaky_relu", {"slope": slope}) if slope else ("relu", {})
            last = [len(nodes) - 1]
            nodes.append(
                {"name": f"a{index}", "op": op, "inputs": last, "tensors": {}, "attrs": attrs}
            )
        roles = {"weight": len(tensors), "bias": len(tensors) + 1}
        tensors += [np.ascontiguousarray(weight), np.ascontiguousarray(bias)]
        last = [len(nodes) - 1]
        nodes.append(
            {"name": f"f{index}", "op": "affine", "inputs": last, "tensors": roles, "attrs": {}}
        )
    return _core.Graph(json.dumps({"nodes": nodes, "output": len(nodes) - 1}), tensors)


def exact_minimum(
    layers: list[Layer], box: list[tuple[float, float]], rows: np.ndarray, slope: float = 0.0
) -> Fraction:
    """Minimum over a box of the largest row of the outputs, by cutting it along every neuron.

    Every piece is a convex polygon on which the network is affine; the minimum of the largest of
    several affine functions is found by cutting along their differences too.
    """
    (a, b), (c, d) = (tuple(map(Fraction, side)) for side in box)
    pieces = [([(a, c), (b, c), (b, d), (a, d)], identity())]
    for index, (weight, bias) in enumerate(layers):
        done: list[tuple[list[Point], list[Plane]]] = []
        for polygon, planes in pieces:
            affine = [
                combine(row, planes, offset) for row, offset in zip(weight, bias, strict=True)
            ]
            parts = [(polygon, affine)]
            if index + 1 < len(layers):
                parts = activated(polygon, affine, slope)
            done += parts
        pieces = done
    best = None
    for polygon, outputs in pieces:
        values = [combine(row, outputs, 0.0) for row in rows]
        parts = [polygon]
        for first, second in itertools.combinations(values, 2):
            difference = tuple(x - y for x, y in zip(first, second, strict=True))
            cut = [halves(part, difference) for part in parts]  # type: ignore[arg-type]
            parts = [half for pair in cut for half in pair if half]
        for point in itertools.chain.from_iterable(parts):
            value = max(value_at(plane, point) for plane in values)
            best = value if best is None or value < best else best
    assert best is not None
    return best


def identity() -> list[Plane]:
    zero, one = Fraction(0), Fraction(1)
    return [(one, zero, zero), (zero, one, zero)]


def combine(row: np.ndarray, planes: list[Plane], offset: float) -> Plane:
    weights = [Fraction(float(w)) for w in row]
    a, b, c = (
        sum((w * plane[k] for w, plane in zip(weights, planes, strict=True)), Fraction(0))
        for k in range(3)
    )
    return a, b, c + Fraction(float(offset))


def activated(
    polygon: list[Point], planes: list[Plane], slope: float
) -> list[tuple[list[Point], list[Plane]]]:
    parts: list[tuple[list[Point], list[Plane]]] = [(polygon, [])]
    scale = Fraction(slope)
    for plane in planes:
        leaky: Plane = (scale * plane[0], scale * plane[1], scale * plane[2])
        grown = []
        for part, known in parts:
            below, above = halves(part, plane)
            if below:
                grown.append((below, [*known, leaky]))
            if above:
                grown.append((above, [*known, plane]))
        parts = grown
    return parts


def layers_of(seed: int, sizes: list[int]) -> list[Layer]:
    random = np.random.default_rng(seed)
    return [
        (random.normal(size=(n, m)), random.normal(size=n)) for m, n in itertools.pairwise(sizes)
    ]


def decide(
    graph: _core.Graph, box: list[tuple[float, float]], rows: np.ndarray, rhs: float, **options: Any
) -> tuple[str, Any, float, int, Any]:
    """Whether some output of the box has `rows · y <= rhs` in every row."""
    low, high = (np.array([side]) for side in np.array(box, dtype=np.float64).T)
    ends = np.full(len(rows), rhs)
    return _core.decide(
        graph,
        low,
        high,
        rows=np.ascontiguousarray(rows, dtype=np.float64),
        rhs_lower=ends,
        rhs_upper=ends,
        sizes=[len(rows)],
        **options,
    )


SHAPES = st.sampled_from(
    [[2, 4, 2], [2, 8, 2], [2, 12, 2], [2, 4, 4, 2], [2, 5, 5, 2, 2], [2, 3, 3, 3, 3, 2]]
)
MARGIN = np.array([[1.0, -1.0]])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), SHAPES, st.floats(0.05, 2.0), st.sampled_from([0.0, 0.125]))
def test_it_finds_the_exact_minimum(
    seed: int, sizes: list[int], radius: float, slope: float
) -> None:
    layers = layers_of(seed, sizes)
    center = np.random.default_rng(seed + 1).uniform(-1, 1, 2)
    box = [(float(c - radius), float(c + radius)) for c in center]
    minimum = exact_minimum(layers, box, MARGIN, slope)
    graph = mlp(layers, slope)
    gap = 1e-3 * (1.0 + abs(float(minimum)))
    below = decide(graph, box, MARGIN, float(minimum) - gap)
    assert below[0] == "refuted"
    above = decide(graph, box, MARGIN, float(minimum) + gap)
    assert above[0] != "refuted"
    if above[1] is not None:
        point = [Fraction(v) for v in above[1]]
        ends = [tuple(map(Fraction, side)) for side in box]
        assert all(lo <= v <= hi for (lo, hi), v in zip(ends, point, strict=True))
        assert exact_value(layers, (point[0], point[1]), slope) <= Fraction(float(minimum) + gap)


def exact_value(layers: list[Layer], point: Point, slope: float) -> Fraction:
    values = list(point)
    for index, (weight, bias) in enumerate(layers):
        if index:
            values = [v if v > 0 else Fraction(slope) * v for v in values]
        values = [
            sum(
                (Fraction(float(w)) * v for w, v in zip(row, values, strict=True)),
                Fraction(float(b)),
            )
            for row, b in zip(weight, bias, strict=True)
        ]
    return values[0] - values[1]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    SHAPES,
    st.floats(0.05, 2.0),
    st.sampled_from([0.0, 2.0**-40, 2.0**-52, 2.0**-60]),
)
def test_no_gap_is_too_small_to_be_respected(
    seed: int, sizes: list[int], radius: float, gap: float
) -> None:
    """A right-hand side at the minimum, or above it by a rounding error, is met: never refuted."""
    layers = layers_of(seed, sizes)
    center = np.random.default_rng(seed + 1).uniform(-1, 1, 2)
    box = [(float(c - radius), float(c + radius)) for c in center]
    exactly = exact_minimum(layers, box, MARGIN) + Fraction(gap)
    rhs = float(exactly)
    if Fraction(rhs) < exactly:
        rhs = float(np.nextafter(rhs, np.inf))
    assert decide(mlp(layers), box, MARGIN, rhs, most_domains=500)[0] != "refuted"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([[2, 6, 3], [2, 4, 4, 3]]), st.floats(0.1, 1.5))
def test_conjunctions_need_a_combination_of_rows(
    seed: int, sizes: list[int], radius: float
) -> None:
    """Both `y0 <= y1 + rhs` and `y0 <= y2 + rhs`: refuted where their maximum never gets there,
    though each alone may."""
    layers = layers_of(seed, sizes)
    center = np.random.default_rng(seed + 1).uniform(-1, 1, 2)
    box = [(float(c - radius), float(c + radius)) for c in center]
    rows = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
    minimum = exact_minimum(layers, box, rows)
    gap = 1e-2 * (1.0 + abs(float(minimum)))
    assert decide(mlp(layers), box, rows, float(minimum) + gap)[0] != "refuted"
    # Between the two the sign of every neuron may be known and the maximum still be open: then
    # the rows' weights alone decide.
    assert decide(mlp(layers), box, rows, float(minimum) - gap)[0] == "refuted"


@pytest.mark.parametrize("threads", [1, 2])
def test_the_tree_does_not_depend_on_threads(threads: int) -> None:
    layers = layers_of(3, [2, 30, 30, 2])
    box = [(-1.0, 1.0), (-1.0, 1.0)]
    graph = mlp(layers)
    before = _core.get_threads()
    try:
        _core.set_threads(threads)
        answers = [
            decide(graph, box, MARGIN, rhs, most_domains=300) for rhs in (-9.0, -12.0, -15.0)
        ]
    finally:
        _core.set_threads(before)
    alone = [decide(graph, box, MARGIN, rhs, most_domains=300) for rhs in (-9.0, -12.0, -15.0)]
    for one, other in zip(answers, alone, strict=True):
        assert (one[0], one[2], one[3]) == (other[0], other[2], other[3])
