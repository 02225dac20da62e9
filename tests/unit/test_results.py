"""Verdicts, brackets and intervals."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from aisec_eval.bracket import Bracket, wilson
from aisec_eval.results import VERDICTS, AttackResult, Spent
from aisec_eval.threats import Linf
from helpers.make_run import make_evaluation

counts = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_wilson_contains_the_estimate(count):
    successes, total = count
    low, high = wilson(successes, total)
    assert 0 <= low <= successes / total <= high <= 1
    assert (low == 0) == (successes == 0)
    assert (high == 1) == (successes == total)
    mirrored = wilson(total - successes, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(counts, st.floats(0.5, 0.999))
def test_wilson_inverts_the_score_test(count, confidence):
    """At either end the observed proportion is exactly z standard errors away."""
    successes, total = count
    z = norm.ppf(0.5 + confidence / 2)
    for end in wilson(successes, total, confidence=confidence):
        if 0 < end < 1:
            distance = abs(successes / total - end)
            assert distance == pytest.approx(z * np.sqrt(end * (1 - end) / total), rel=1e-6)


def test_wilson_published_value():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0, 1)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_bracket(certified, open_, other):
    total = certified + open_ + other
    if total == 0:
        return
    bracket = Bracket(certified / total, (certified + open_) / total, total)
    low, high = bracket.interval
    assert low <= bracket.certified <= bracket.attacked <= high
    assert bracket.open == pytest.approx(open_ / total)
    assert low == wilson(certified, total)[0]
    assert high == wilson(certified + open_, total)[1]


def test_bracket_reads_as_a_sentence():
    assert str(Bracket(0.61, 0.64, 200)) == "61.0% <= robust <= 64.0%"


@pytest.mark.parametrize("bad", [(0.6, 0.5, 10), (-0.1, 0.5, 10), (0.5, 1.1, 10), (0, 0, 0)])
def test_an_impossible_bracket_is_refused(bad):
    with pytest.raises(ValueError, match="certified <= attacked"):
        Bracket(*bad)


def result(codes):
    n = len(codes)
    return AttackResult(
        sample=np.arange(n),
        label=np.zeros(n, dtype=np.int64),
        verdict=np.array(codes, dtype=np.int8),
        x_adv=np.zeros((n, 2), dtype=np.float32),
        margin=np.zeros(n),
        distance=np.full(n, np.nan),
        found_by=("",) * n,
        spent=Spent.zeros(n),
    )


def test_an_error_never_counts_as_robust():
    codes = [VERDICTS.index(v) for v in ("misclassified", "broken", "certified", "open", "error")]
    attack = result([codes[i] for i in (0, 1, 3, 3, 4)])
    assert attack.robust_accuracy == pytest.approx(2 / 5)
    assert attack.clean_accuracy == pytest.approx(3 / 5)
    frame = attack.frame
    assert frame["verdict"].dtype == pl.Enum(VERDICTS)
    assert frame["verdict"].to_list() == ["misclassified", "broken", "open", "open", "error"]
    assert "margin_lower" not in frame.columns


def test_evaluation_bracket_counts_verdicts():
    evaluation = make_evaluation("net", Linf("0.1"))
    verdicts = evaluation.frame["verdict"]
    n = len(verdicts)
    assert evaluation.bracket.certified == (verdicts == "certified").sum() / n
    assert evaluation.bracket.open == pytest.approx((verdicts == "open").sum() / n)
    assert evaluation.clean_accuracy == (verdicts != "misclassified").sum() / n
    assert evaluation.frame.columns.index("margin_lower") == 4
