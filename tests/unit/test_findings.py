"""Findings of parts merge into those of the whole, whatever the parts and their order were."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisec_eval.findings import (
    INPUTS,
    LEVELS,
    PROBES,
    REPEATS,
    Fault,
    Findings,
    Probe,
    Repeat,
    Stage,
    coarse,
    merge,
)


def of_sample(sample: int, levels: int) -> Findings:
    """What one sample adds, made up from its id."""
    draw = np.random.default_rng(sample)
    yes = [bool(b) for b in draw.integers(0, 2, 8)]
    margin, text = float(draw.integers(0, levels)), f"at {sample}"
    fault = {f"kind {draw.integers(0, 2)}": Fault(1, sample, text)}
    return Findings(
        notes=("the model",),
        classes=10,
        attacked=1,
        broken=int(yes[0]),
        fragile=int(yes[1]),
        softmax=int(yes[2]),
        saturated=int(yes[3]),
        stuck=int(yes[4]),
        probes=(Probe(sample, yes[5], yes[6]),) if yes[4] else (),
        repeats=(Repeat(sample, yes[7]),),
        levels=(margin,),
        inputs=(f"{draw.integers(0, 2**30):016x}",),
        stages=(Stage(0, "apgd-ce", True, int(yes[5]), "ce"), Stage(1, "square", False, 1)),
        refused=fault,
        uncertified=fault if yes[1] else {},
        contradicted=fault if yes[2] else {},
        crashed=fault if yes[3] else {},
        failures={"ValueError: odd": 2} if yes[4] else {"KeyError": 1},
        errors=int(yes[6]),
    )


@given(
    count=st.integers(1, 120),
    levels=st.sampled_from([3, LEVELS, 10**9]),
    cuts=st.lists(st.integers(0, 120), max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_parts_do_not_matter(count: int, levels: int, cuts: list[int], order: Any) -> None:
    singles = [of_sample(i, levels) for i in range(count)]
    order.shuffle(singles)
    whole = merge(singles)
    edges = sorted({0, count, *(cut for cut in cuts if cut < count)})
    parts = [merge(singles[a:b]) for a, b in pairwise(edges)]
    order.shuffle(parts)
    assert merge(parts) == whole
    assert json.dumps(merge(parts).to_json()) == json.dumps(whole.to_json())
    assert whole.attacked == count
    assert [row.sample for row in whole.repeats] == list(range(min(count, REPEATS)))
    assert len(whole.probes) == min(PROBES, whole.stuck)
    assert sum(fault.count for fault in whole.refused.values()) == count
    assert min(fault.sample for fault in whole.refused.values()) == 0


def test_nothing_adds_nothing() -> None:
    one = of_sample(3, 5)
    assert merge([Findings(), one, Findings()]) == one
    assert merge([Findings()]) == Findings()


def test_many_levels_are_no_longer_counted() -> None:
    names = [f"{i:016x}" for i in range(INPUTS + 5)]
    levels, inputs = coarse([(map(float, range(LEVELS)), names)])
    assert levels is not None
    assert len(levels) == LEVELS
    assert inputs == tuple(names[:INPUTS])
    assert coarse([(levels, inputs), ([-1.0], ["x"])]) == (None, None)
    assert coarse([(None, None), ([], [])]) == (None, None)


def test_json_and_back() -> None:
    for found in (Findings(), of_sample(1, 5), replace(of_sample(2, 5), levels=None, inputs=None)):
        assert Findings.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attacked", -1),
        ("attacked", True),
        ("attacked", "3"),
        ("notes", "text"),
        ("notes", [3]),
        ("probes", [{"sample": 1, "flat": True}]),
        ("probes", [{"sample": 1, "flat": 1, "stuck": False}]),
        ("repeats", [{"sample": i, "differs": False} for i in range(REPEATS + 1)]),
        ("levels", [0.0] * (LEVELS + 1)),
        ("levels", [1]),
        ("stages", [{}]),
        ("refused", {"square": {"count": 1, "sample": 0}}),
        ("refused", [1]),
        ("failures", {"odd": -1}),
    ],
)
def test_what_is_not_findings_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"findings: {field} is not what it should be"):
        Findings.from_json({**of_sample(1, 5).to_json(), field: value})


def test_other_versions_are_refused() -> None:
    for value in (3, {}, {**Findings().to_json(), "more": 1}):
        with pytest.raises(ValueError, match="not those of this version"):
            Findings.from_json(value)
