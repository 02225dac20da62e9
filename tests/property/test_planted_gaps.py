"""Networks that floats believe safe and that are not: never certified, by whatever method.

Each holds in float32 (or float64) at every point that is tried, and in real arithmetic a point
of the box has a margin below zero, which is asserted in rational numbers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.certifiers.certificate import PLAIN_METHODS, Certificate, check_certificate
from aisec_eval.certifiers.certificate import Case as ProvenCase
from aisec_eval.certifiers.property import Case, Clause, Property
from helpers.networks import LayeredModel

METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown", "complete")


@dataclass(frozen=True)
class Planted:
    """A network with two outputs, a box, and the digits of the arithmetic that it deceives."""

    layers: list[tuple[Any, Any]]
    lower: list[float]
    upper: list[float]
    dtype: type

    @property
    def model(self) -> LayeredModel:
        return LayeredModel(self.layers, (len(self.lower),))

    def real_margin(self, x: list[Fraction]) -> Fraction:
        values = x
        for layer, (weight, bias) in enumerate(self.model.affine):
            if layer:
                values = [max(value, Fraction(0)) for value in values]
            values = [
                sum(
                    (Fraction(float(w)) * v for w, v in zip(row, values, strict=True)),
                    Fraction(float(b)),
                )
                for row, b in zip(weight, bias, strict=True)
            ]
        return values[0] - values[1]

    def believed(self) -> bool:
        """Whether plain arithmetic has a positive margin all over the box."""
        shares = np.linspace(0, 1, 9)[:, None]
        grid = np.array(self.lower) + shares * (np.array(self.upper) - np.array(self.lower))
        grid = np.clip(grid, self.lower, self.upper)
        graph = self.model.graph
        assert graph is not None
        forward = graph.forward if self.dtype is np.float32 else graph.forward64
        logits = forward(np.ascontiguousarray(grid, dtype=self.dtype))
        return bool((logits[:, 0] > logits[:, 1]).all())


def rounding_gap(dtype: type, scale: float, gap: float) -> Planted:
    """`relu(relu(s + x) - s) - relu(x + gap)`, where `s + x` is rounded up."""
    unit = scale * float(np.finfo(dtype).eps)
    layers = [
        ([[1.0], [1.0]], [scale, gap]),
        ([[1.0, 0.0], [0.0, 1.0]], [-scale, 0.0]),
        ([[1.0, -1.0], [0.0, 0.0]], [0.0, 0.0]),
    ]
    return Planted(layers, [0.55 * unit], [0.8 * unit], dtype)


def cancellation(dtype: type, scale: float, gap: float) -> Planted:
    """`gap - relu((B·x + 2 gap) - B·x)`: what is added to a large term is lost."""
    big = scale / float(np.finfo(dtype).eps)
    layers = [
        ([[big], [big]], [2.0 * gap, 0.0]),
        ([[1.0, -1.0]], [0.0]),
        ([[-1.0], [0.0]], [gap, 0.0]),
    ]
    return Planted(layers, [0.5], [1.0], dtype)


def orders(dtype: type) -> list[Planted]:
    """Sums that come to -0.25, and to more than nothing in the order they are added up."""
    big = 4.0 / float(np.finfo(dtype).eps)
    found = []
    for order in itertools.permutations((big, -0.75, -big, 0.5)):
        layers = [([order, [0.0] * 4], [0.0, 0.0])]
        planted = Planted(layers, [1.0] * 4, [1.0] * 4, dtype)
        # Behind a layer of ReLUs as well, with some room for the inputs.
        eye = np.eye(4).tolist()
        deep = Planted(
            [(eye, [0.0] * 4), *layers], [1.0] * 4, [1.0, 1.0 + 2.0**-10, 1.0, 1.0], dtype
        )
        found += [net for net in (planted, deep) if net.believed()]
    return found


PLANTED = [
    *(
        rounding_gap(dtype, scale, gap)
        for dtype in (np.float32, np.float64)
        for scale in (1.0, 2.0**20)
        for gap in (2.0**-100, 2.0**-140)
    ),
    *(
        cancellation(dtype, scale, gap)
        for dtype in (np.float32, np.float64)
        for scale in (16.0, 2.0**20)
        for gap in (0.125, 2.0**-20)
    ),
    *orders(np.float32)[:6],
    *orders(np.float64)[:6],
]
FLOAT32 = [net for net in PLANTED if net.dtype is np.float32]


def test_there_are_some_of_every_kind() -> None:
    assert len(orders(np.float32)) >= 2
    assert len(orders(np.float64)) >= 2


@pytest.fixture(params=PLANTED, ids=range(len(PLANTED)))
def planted(request: pytest.FixtureRequest) -> Planted:
    net: Planted = request.param
    corners = itertools.product(*zip(net.lower, net.upper, strict=True))
    margins = [net.real_margin([Fraction(v) for v in corner]) for corner in corners]
    assert net.believed()
    assert min(margins) < 0
    return net


def test_no_bound_is_above_zero(planted: Planted) -> None:
    low, high = (np.array([side]) for side in (planted.lower, planted.upper))
    spec = np.array([[[1.0, -1.0]]])
    for method in METHODS[:-1]:
        bound = _core.margin_bounds(planted.model.graph, low, high, spec=spec, method=method)
        assert not bound[0, 0] > 0, method


@pytest.mark.parametrize("planted", FLOAT32, indirect=True, ids=range(len(FLOAT32)))
def test_no_method_certifies_it(planted: Planted) -> None:
    """Samples are classified in float32, so it is float32 that has to be deceived."""
    low, high = (np.array(side) for side in (planted.lower, planted.upper))
    x = ((low + high) / 2).astype(np.float32)[None]
    threat = ae.Box(low, high)
    for method in METHODS:
        result = ae.certify(planted.model, x, np.zeros(1, np.int64), threat, method=method)
        assert not result.certified[0], method


def test_no_split_refutes_it(planted: Planted) -> None:
    """Signs and inputs, whose search is in float32."""
    low, high = (np.array(side) for side in (planted.lower, planted.upper))
    clause = Clause(np.array([[1.0, -1.0]]), np.zeros(1), np.zeros(1))
    question = Property(len(low), 2, (Case(low, high, low, high, (clause,)),))
    assert ae.verify(planted.model, question, timeout=0.5).status != "unsat"
    status, *_ = _core.decide(
        planted.model.graph,
        low[None],
        high[None],
        rows=clause.rows,
        rhs_lower=np.zeros(1),
        rhs_upper=np.zeros(1),
        sizes=[1],
        most_domains=60,
    )
    assert status != "refuted"


def test_no_certificate_of_it_is_accepted(planted: Planted) -> None:
    low, high = (np.array(side) for side in (planted.lower, planted.upper))
    graph = planted.model.graph
    assert graph is not None
    for method in PLAIN_METHODS:
        proof = _core.plain_proof(method, [1e-300])
        case = ProvenCase(low, high, None, ((np.array([[1.0, -1.0]]), np.zeros(1)),), proof)
        certificate = Certificate({}, graph.digest, (case,))
        for exact in (False, True):
            found = check_certificate(graph, certificate, exact=exact)
            assert not found.holds, method
            assert "is claimed" in found.reason
