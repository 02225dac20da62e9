"""Every method against exact minima: residual blocks, maxima, balls cut with the input's range."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aisec_eval import _core
from aisec_eval.certifiers.certificate import PLAIN_METHODS, Case, Certificate, check_certificate
from helpers.exact_plane import (
    Layer,
    box_polygon,
    diamond,
    graph_of,
    least,
    least_in_disc,
    pieces_of,
)

METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")
MARGIN = np.array([[1.0, -1.0]])
LOW, HIGH = [-1.0, -1.0], [1.0, 1.0]
"""The input's range, which cuts the balls."""
TINY = Fraction(1, 10**38)
"""What roots are rounded by."""

KINDS: dict[str, tuple[tuple[str, int], ...]] = {
    # Sizes, at most 12 neurons that bend.
    "relu": (("affine", 6), ("relu", 0), ("affine", 6), ("relu", 0), ("affine", 2)),
    "wide": (("affine", 12), ("relu", 0), ("affine", 2)),
    "leaky": (("affine", 5), ("leaky", 0), ("affine", 2)),
    "residual": (("affine", 4), ("residual", 4), ("residual", 4), ("affine", 2)),
    "maximum": (("affine", 8), ("maximum", 0), ("relu", 0), ("affine", 2)),
}


def layers_of(kind: str, seed: int) -> list[Layer]:
    random = np.random.default_rng(seed)
    found: list[Layer] = []
    size = 2
    for op, width in KINDS[kind]:
        if width:
            weight = random.normal(size=(width, size)) / np.sqrt(size) * 1.5
            found.append((op, weight, random.normal(size=width) * 0.5))
            size = width
        else:
            found.append((op, 0.125, None))
            size //= 2 if op == "maximum" else 1
    return found


def region(norm: str, seed: int, radius: float) -> dict[str, Any]:
    """Return the options of a ball about a point that may lie near the range's end."""
    center = np.random.default_rng(seed + 1).uniform(-1, 1, (1, 2))
    return {"center": center, "radius": radius, "norm": norm}


def corners(ball: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return those of the range, or of what an Linf ball leaves of it."""
    low, high = np.array([LOW]), np.array([HIGH])
    if ball["norm"] == "linf":
        low = np.maximum(low, ball["center"] - ball["radius"])
        high = np.minimum(high, ball["center"] + ball["radius"])
    return low, high


def exact_least(layers: list[Layer], ball: dict[str, Any]) -> Fraction:
    low, high = corners(ball)
    center, radius = ball["center"][0].tolist(), ball["radius"]
    polygon = box_polygon(low[0].tolist(), high[0].tolist())
    if ball["norm"] == "l1":
        polygon = diamond(polygon, center, radius)
    pieces = pieces_of(layers, polygon)
    return least_in_disc(pieces, center, radius) if ball["norm"] == "l2" else least(pieces)


def options(ball: dict[str, Any]) -> dict[str, Any]:
    return {} if ball["norm"] == "linf" else ball


def decide(graph: _core.Graph, ball: dict[str, Any], rhs: float) -> str:
    ends = np.array([rhs])
    status, *_ = _core.decide(
        graph,
        *corners(ball),
        rows=MARGIN,
        rhs_lower=ends,
        rhs_upper=ends,
        sizes=[1],
        timeout=20,
        **options(ball),
    )
    return status


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(["linf", "l2", "l1"]),
    st.integers(0, 2**32),
    st.floats(0.05, 1.5),
)
def test_bounds_and_verdicts_are_those_of_the_exact_minimum(
    kind: str, norm: str, seed: int, radius: float
) -> None:
    layers, ball = layers_of(kind, seed), region(norm, seed, radius)
    minimum = exact_least(layers, ball)
    graph = graph_of(layers)
    low, high = corners(ball)
    bounds = [
        _core.margin_bounds(graph, low, high, spec=MARGIN[None], method=method, **options(ball))
        for method in METHODS
    ]
    for bound in bounds:
        assert Fraction(float(bound[0, 0])) <= minimum + TINY
    # What is met is never refuted; what is not is, wherever all that bends can be split and what is
    # left is a linear program.
    gap = 1e-3 * (1.0 + abs(float(minimum)))
    assert decide(graph, ball, float(minimum) + gap) != "refuted"
    if kind != "maximum" and norm == "linf":
        assert decide(graph, ball, float(minimum) - gap) == "refuted"
    # No more than the minimum has a certificate that is accepted, and a little less than a bound
    # has one.
    cut = None if norm == "linf" else (norm, ball["center"][0], radius)
    low = np.maximum(low, np.nextafter(ball["center"] - radius, -2))
    high = np.minimum(high, np.nextafter(ball["center"] + radius, 2))
    found = dict(zip(METHODS, bounds, strict=True))
    for method in PLAIN_METHODS:
        reached = float(found[method][0, 0])
        slack = 1e-3 * (1.0 + abs(reached))
        for rhs, claimed, holds in (
            (float(minimum) + gap, 1e-9, False),
            (reached - slack, slack / 2, True),
        ):
            proof = _core.plain_proof(method, [claimed])
            case = Case(low[0], high[0], cut, ((MARGIN, np.array([rhs])),), proof)
            text = Certificate({}, graph.digest, (case,))
            assert check_certificate(graph, text).holds == holds


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["sigmoid", "tanh"]),
    st.sampled_from(["linf", "l2", "l1"]),
    st.integers(0, 2**32),
    st.floats(0.05, 1.5),
)
def test_curves_are_bounded_at_every_point_of_a_grid(
    kind: str, norm: str, seed: int, radius: float
) -> None:
    random = np.random.default_rng(seed)
    sizes = [2, 5, 4, 2]
    layers: list[Layer] = []
    for n, m in itertools.pairwise(sizes):
        layers += [
            ("affine", random.normal(size=(m, n)) * 1.5, random.normal(size=m)),
            (kind, 0, 0),
        ]
    graph, ball = graph_of(layers[:-1]), region(norm, seed, radius)
    low, high = corners(ball)
    axes = [np.linspace(low[0, i], high[0, i], 41) for i in range(2)]
    grid = np.clip(np.stack(np.meshgrid(*axes), -1).reshape(-1, 2), low, high)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    grid = grid[np.linalg.norm(grid - ball["center"], order, axis=1) <= radius * (1 - 1e-12)]
    below, above = graph.interval(*(np.concatenate([grid, ball["center"]]),) * 2)
    most = float((above[:, 0] - below[:, 1]).min())
    for method in METHODS:
        bound = _core.margin_bounds(
            graph, low, high, spec=MARGIN[None], method=method, **options(ball)
        )
        assert bound[0, 0] <= most + 1e-12
    assert decide(graph, ball, most + 1e-9) != "refuted"
