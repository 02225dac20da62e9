"""Rank classes: the exact test, and that open samples never help."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from aisec_eval.leaderboard.board import join
from aisec_eval.leaderboard.rank import ahead, classes, mcnemar
from aisec_eval.results import VERDICTS, Evaluation, Spent

WRONG, BROKE, SAFE, UNDECIDED, FAILED = range(len(VERDICTS))


def evaluation(*verdicts: tuple[int, int]) -> Evaluation:
    """Verdicts as runs of (verdict, how many)."""
    verdict = np.repeat(np.array([v for v, _ in verdicts], dtype=np.int8), [n for _, n in verdicts])
    n = len(verdict)
    nothing = np.zeros((0, 1), dtype=np.float32)
    zeros = np.zeros(n)
    return Evaluation(
        np.arange(n),
        np.zeros(n, dtype=np.int64),
        verdict,
        nothing,
        nothing,
        zeros,
        zeros,
        zeros,
        ("",) * n,
        Spent.zeros(n),
        "m",
        "0" * 64,
        "Linf 0.1",
    )


@pytest.mark.parametrize("wins", [0, 1, 3, 10, 59, 500])
@pytest.mark.parametrize("losses", [0, 1, 4, 10, 41, 499, 5000])
def test_exact_test_is_scipys(wins: int, losses: int) -> None:
    n = wins + losses
    expected = binomtest(wins, n).pvalue if n else 1.0
    assert math.isclose(mcnemar(wins, losses), expected, rel_tol=1e-9)


def test_clear_winners_are_ahead_and_ties_are_not() -> None:
    best = evaluation((SAFE, 90), (BROKE, 10))
    close = evaluation((SAFE, 88), (BROKE, 12))
    worst = evaluation((BROKE, 60), (SAFE, 40))
    assert classes([best, close, worst]) == [1, 1, 3]
    assert classes([worst, best]) == [2, 1]
    assert classes([best]) == [1]
    assert classes([best, best]) == [1, 1]


def test_what_is_open_decides_nothing() -> None:
    """Attacks that found nothing do not put a model ahead, however many samples withstood."""
    assert classes([evaluation((UNDECIDED, 100)), evaluation((BROKE, 100))]) == [1, 1]
    assert classes([evaluation((SAFE, 100)), evaluation((UNDECIDED, 100))]) == [1, 1]
    assert classes([evaluation((SAFE, 100)), evaluation((FAILED, 100))]) == [1, 2]
    assert classes([evaluation((SAFE, 100)), evaluation((WRONG, 100))]) == [1, 2]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([WRONG, BROKE, SAFE, UNDECIDED]),
            st.sampled_from([WRONG, BROKE, SAFE, UNDECIDED]),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_any_way_to_decide_the_open_ones_agrees(pairs: list[tuple[int, int]]) -> None:
    """P-values are those of the worst case: no completion of the open verdicts gives a higher."""
    a, b = (evaluation(*((v, 1) for v in side)) for side in zip(*pairs, strict=True))
    claimed = ahead(a, b)
    if claimed == 1.0:
        return
    random = np.random.default_rng(0)
    for _ in range(20):
        sides = [
            np.where(e.verdict == UNDECIDED, random.choice([BROKE, SAFE], len(pairs)), e.verdict)
            for e in (a, b)
        ]
        wins = int(((sides[0] == SAFE) & (sides[1] != SAFE)).sum())
        losses = int(((sides[0] != SAFE) & (sides[1] == SAFE)).sum())
        assert wins > losses
        assert mcnemar(wins, losses) <= claimed * (1 + 1e-9)


def test_different_samples_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different samples"):
        ahead(evaluation((SAFE, 3)), evaluation((SAFE, 4)))


@pytest.mark.parametrize(
    ("a", "b", "joined", "conflict"),
    [
        (UNDECIDED, SAFE, SAFE, False),
        (UNDECIDED, BROKE, BROKE, False),
        (FAILED, UNDECIDED, UNDECIDED, False),
        (FAILED, WRONG, WRONG, False),
        (SAFE, SAFE, SAFE, False),
        (BROKE, SAFE, BROKE, True),
        (BROKE, WRONG, WRONG, False),
        (UNDECIDED, UNDECIDED, UNDECIDED, False),
    ],
)
def test_evidence_is_joined(a: int, b: int, joined: int, conflict: bool) -> None:
    for one, other in ((a, b), (b, a)):
        codes = (np.array([code], dtype=np.int8) for code in (one, other))
        verdict, disagrees = join(*codes)
        assert (int(verdict[0]), disagrees) == (joined, conflict)
        assert verdict.dtype == np.int8
