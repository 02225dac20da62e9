"""Networks of two inputs cut into the pieces on which they are affine, in rational numbers."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from aisec_eval import _core

Point: TypeAlias = tuple[Fraction, Fraction]
Plane: TypeAlias = tuple[Fraction, Fraction, Fraction]
"""`a·x + b·y + c`."""
Piece: TypeAlias = tuple[list[Point], list[Plane]]
Layer: TypeAlias = tuple[str, Any, Any]
"""Kind, weight, bias: "affine"; "relu"; "leaky" with its slope; "maximum" of neighbours in pairs;
"residual": what comes in plus an affine map of its ReLU."""

ZERO, ONE = Fraction(0), Fraction(1)


def graph_of(layers: list[Layer], inputs: int = 2) -> _core.Graph:
    """Return the engine's graph."""
    nodes: list[dict[str, Any]] = [
        {"name": "x", "op": "input", "inputs": [], "attrs": {"shape": [inputs]}}
    ]
    tensors: list[np.ndarray] = []

    def add(op: str, *given: int, **attrs: Any) -> int:
        nodes.append({"name": op, "op": op, "inputs": list(given), "attrs": attrs})
        return len(nodes) - 1

    def affine(at: int, weight: np.ndarray, bias: np.ndarray) -> int:
        at = add("affine", at)
        nodes[at]["tensors"] = {"weight": len(tensors), "bias": len(tensors) + 1}
        tensors.extend((np.ascontiguousarray(weight), np.ascontiguousarray(bias)))
        return at

    at, size = 0, inputs
    for kind, weight, bias in layers:
        if kind == "affine":
            at, size = affine(at, weight, bias), len(bias)
        elif kind == "leaky":
            at = add("leaky_relu", at, slope=weight)
        elif kind == "maximum":
            size //= 2
            at = add("reshape", at, shape=[1, size, 2])
            window = {"kernel": [1, 2], "stride": [1, 2], "padding": [0] * 4, "dilation": [1, 1]}
            at = add("reshape", add("max_pool2d", at, **window), shape=[size])
        elif kind == "residual":
            at = add("add", at, affine(add("relu", at), weight, bias))
        else:
            at = add(kind, at)
    return _core.Graph(json.dumps({"nodes": nodes, "output": at}), tensors)


def value_at(plane: Plane, point: Point) -> Fraction:
    """Return an affine function's value."""
    return plane[0] * point[0] + plane[1] * point[1] + plane[2]


def halves(polygon: list[Point], plane: Plane) -> tuple[list[Point], list[Point]]:
    """Return the corners of where the function is at most and at least zero."""
    below: list[Point] = []
    above: list[Point] = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        a, b = value_at(plane, p), value_at(plane, q)
        if a <= 0:
            below.append(p)
        if a >= 0:
            above.append(p)
        if a * b < 0:
            t = a / (a - b)
            cut = (p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1]))
            below.append(cut)
            above.append(cut)
    return below, above


def pieces_of(layers: list[Layer], polygon: list[Point]) -> list[Piece]:
    """Return convex polygons that fill the given one, with the outputs on each."""
    pieces = [(polygon, [(ONE, ZERO, ZERO), (ZERO, ONE, ZERO)])]
    for kind, weight, bias in layers:
        if kind == "affine":
            pieces = [(part, _affine(weight, bias, planes)) for part, planes in pieces]
        else:
            pieces = [piece for old in pieces for piece in _bent(kind, weight, bias, *old)]
    return pieces


def _bent(
    kind: str, weight: Any, bias: Any, polygon: list[Point], planes: list[Plane]
) -> list[Piece]:
    if kind == "maximum":
        pairs = list(zip(planes[::2], planes[1::2], strict=True))
        return _chosen(polygon, [(_sum(p, q, -ONE), q, p) for p, q in pairs])
    slope = Fraction(weight) if kind == "leaky" else ZERO
    parts = _chosen(polygon, [(p, _sum(_NOTHING, p, slope), p) for p in planes])
    if kind != "residual":
        return parts
    mapped = [(part, _affine(weight, bias, active)) for part, active in parts]
    return [
        (part, [_sum(p, q, ONE) for p, q in zip(planes, more, strict=True)])
        for part, more in mapped
    ]


_NOTHING: Plane = (ZERO, ZERO, ZERO)


def _sum(first: Plane, second: Plane, factor: Fraction) -> Plane:
    a, b, c = (x + factor * y for x, y in zip(first, second, strict=True))
    return a, b, c


def _chosen(polygon: list[Point], choices: list[tuple[Plane, Plane, Plane]]) -> list[Piece]:
    """Cut by the first of each triple: the second where it is at most zero, else the third."""
    parts: list[Piece] = [(polygon, [])]
    for plane, low, high in choices:
        grown: list[Piece] = []
        for part, known in parts:
            below, above = halves(part, plane)
            grown += [(below, [*known, low])] if below else []
            grown += [(above, [*known, high])] if above else []
        parts = grown
    return parts


def _affine(weight: np.ndarray, bias: np.ndarray, planes: list[Plane]) -> list[Plane]:
    found = []
    for row, offset in zip(weight, bias, strict=True):
        total: Plane = (ZERO, ZERO, Fraction(float(offset)))
        for w, plane in zip(row, planes, strict=True):
            total = _sum(total, plane, Fraction(float(w)))
        found.append(total)
    return found


def box_polygon(lower: list[float], upper: list[float]) -> list[Point]:
    """Return the corners of a box."""
    (a, c), (b, d) = (tuple(map(Fraction, side)) for side in (lower, upper))
    return [(a, c), (b, c), (b, d), (a, d)]


def diamond(polygon: list[Point], center: list[float], radius: float) -> list[Point]:
    """Cut a polygon with an L1 ball."""
    x, y = map(Fraction, center)
    for i in (-ONE, ONE):
        for j in (-ONE, ONE):
            polygon, _ = halves(polygon, (i, j, -i * x - j * y - Fraction(radius)))
    return polygon


def least(pieces: list[Piece]) -> Fraction:
    """Return the least difference of the first two outputs."""
    return min(value_at(_sum(z[0], z[1], -ONE), p) for part, z in pieces for p in part)


def least_in_disc(pieces: list[Piece], center: list[float], radius: float) -> Fraction:
    """Return the same over what an L2 ball holds of the pieces, up to 1e-40."""
    c, r = (Fraction(center[0]), Fraction(center[1])), Fraction(radius)
    values: list[Fraction] = []
    for part, outputs in pieces:
        plane = _sum(outputs[0], outputs[1], -ONE)
        points = [p for p in part if _square(p, c) <= r * r]
        slope = _root(plane[0] ** 2 + plane[1] ** 2)
        if slope:
            deepest = (c[0] - r * plane[0] / slope, c[1] - r * plane[1] / slope)
            points += [deepest] if _inside(part, deepest) else []
        for p, q in zip(part, part[1:] + part[:1], strict=True):
            points += _crossings(p, q, c, r)
        values += [value_at(plane, p) for p in points]
    return min(values)


def _square(p: Point, c: Point) -> Fraction:
    return (p[0] - c[0]) ** 2 + (p[1] - c[1]) ** 2


def _root(x: Fraction) -> Fraction:
    with localcontext(prec=60):
        return Fraction((Decimal(x.numerator) / Decimal(x.denominator)).sqrt())


def _inside(polygon: list[Point], point: Point) -> bool:
    """Whether a convex polygon, corners in either order, holds a point."""
    turns = [
        (q[0] - p[0]) * (point[1] - p[1]) - (q[1] - p[1]) * (point[0] - p[0])
        for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True)
    ]
    return all(t >= 0 for t in turns) or all(t <= 0 for t in turns)


def _crossings(p: Point, q: Point, c: Point, r: Fraction) -> list[Point]:
    """Return where the side from p to q meets the circle."""
    d = (q[0] - p[0], q[1] - p[1])
    e = (p[0] - c[0], p[1] - c[1])
    a, b = d[0] ** 2 + d[1] ** 2, d[0] * e[0] + d[1] * e[1]
    inside = b * b - a * (e[0] ** 2 + e[1] ** 2 - r * r)
    if a == 0 or inside < 0:
        return []
    root = _root(inside)
    ends = ((-b - root) / a, (-b + root) / a)
    return [(p[0] + t * d[0], p[1] + t * d[1]) for t in ends if 0 <= t <= 1]
