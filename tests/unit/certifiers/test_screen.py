"""Many cases at once have the answers that they have one by one."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers.property import Case, Clause, Property
from aisec_eval.certifiers.replay import Replay
from aisec_eval.certifiers.screen import screen
from aisec_eval.models import load_network
from helpers.families import Net

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    net = Net((1, 1), opset=11, key=4)
    return net.save(tmp_path / "net.onnx", net.mlp("input", 1, 16, 16, 1), (1, 1))


def between(low: float, high: float, *bounds: float) -> Case:
    """Whether the output of an input in [low, high] leaves the bounds."""
    clauses = []
    for sign, bound in zip((1.0, -1.0), bounds, strict=True):
        rhs = np.array([sign * bound])
        clauses.append(Clause(np.array([[sign]]), rhs, rhs))
    ends = np.array([low]), np.array([high])
    return Case(*ends, *ends, tuple(clauses))


def cases(network: Path, slack: float) -> list[Case]:
    """Return boxes along the line with bounds around what the network computes there."""
    graph = load_network(network, None).graph
    found = []
    ends = np.linspace(-2.0, 2.0, 41)
    for low, high in itertools.pairwise(ends):
        values = graph.forward64(np.linspace(low, high, 200)[:, None])
        found.append(between(low, high, values.min() - slack, values.max() + slack))
    return found


@pytest.mark.parametrize(("slack", "expected"), [(0.02, "unsat"), (-0.02, "sat")])
def test_batches_answer_as_single_cases_do(network, slack, expected, monkeypatch):
    question = Property(1, 1, tuple(cases(network, slack)))
    together = ae.verify(network, question)
    monkeypatch.setattr("aisec_eval.certifiers.rounds.FEWEST", math.inf)
    alone = ae.verify(network, question)
    assert together.status == alone.status == expected


def test_what_bounds_and_middles_leave_stays_open(network):
    graph = load_network(network, None).graph
    wide = between(-40.0, 40.0, *(b for b in (-1e3, 1e3)))
    tight = cases(network, 0.02)
    asked = [*tight[:9], wide, *tight[9:]]
    found = screen(graph, asked, Replay(graph), lambda: 60.0, None)
    assert found.counterexample is None
    bounds = graph.interval(np.array([[-40.0]]), np.array([[40.0]]))
    assert (9 in found.open) == (bounds[0].min() <= -1e3 or bounds[1].max() >= 1e3)
    refuted = set(range(len(asked))) - set(found.open)
    assert len(refuted) > len(tight) // 2
    for at in refuted:
        case = asked[at]
        values = graph.forward64(np.linspace(case.lower, case.upper, 500))
        for clause in case.clauses:
            assert not (values @ clause.rows.T <= clause.rhs_lower).all(axis=1).any()
    # Without time nothing is decided, and a clause that every output meets is not refuted.
    assert screen(graph, asked, Replay(graph), lambda: 0.0, None).open == list(range(len(asked)))
    empty = Clause(np.zeros((0, 1)), np.zeros(0), np.zeros(0))
    odd = [Case(c.lower, c.upper, c.lower, c.upper, (empty,)) for c in tight]
    assert screen(graph, odd, Replay(graph), lambda: 60.0, None).open == list(range(len(odd)))
