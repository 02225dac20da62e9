"""Gates judge by the end of the interval that is worst for the claim."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from aisec_eval.bracket import wilson
from aisec_eval.errors import SuiteError
from aisec_eval.results import VERDICTS, Evaluation, Scan, ScanResult, Spent
from aisec_eval.suite.gate import METRICS, SCAN_METRICS, Measured, judge, parse_gate

CODE = {verdict: code for code, verdict in enumerate(VERDICTS)}


def evaluation(**counts):
    verdict = np.concatenate([np.full(n, CODE[name], np.int8) for name, n in counts.items()])
    n = len(verdict)
    broken = counts.get("broken", 0)
    return Evaluation(
        sample=np.arange(n),
        label=np.zeros(n, np.int64),
        verdict=verdict,
        x_adv=np.zeros((broken, 1), np.float32),
        x_clean=np.zeros((broken, 1), np.float32),
        margin=np.zeros(n),
        margin_lower=np.zeros(n),
        distance=np.zeros(n),
        found_by=("",) * n,
        spent=Spent.zeros(n),
        model="m",
        model_digest="0",
        threat="Linf 0.1",
        flags=("odd",),
    )


E = evaluation(misclassified=10, broken=20, certified=40, open=25, error=5)


@pytest.mark.parametrize(
    ("metric", "count"),
    [
        ("clean_accuracy", 85),
        ("certified_accuracy", 40),
        ("robust_accuracy.lower", 40),
        ("attacked_accuracy", 65),
        ("robust_accuracy.upper", 65),
        ("open", 25),
    ],
)
def test_proportions_are_counts_with_wilson_intervals(metric, count):
    measured = METRICS[metric](E)
    assert measured.value == count / 100
    assert (measured.low, measured.high) == wilson(count, 100)


def test_robust_accuracy_is_worth_the_worse_end_for_either_claim():
    measured = METRICS["robust_accuracy"](E)
    assert (measured.low, measured.high) == (wilson(40, 100)[0], wilson(65, 100)[1])
    assert METRICS["errors"](E) == Measured(5, 5, 5)
    assert METRICS["flags"](E) == Measured(1, 1, 1)


def test_a_scan_is_measured_against_what_was_planted():
    flagged = np.array([True, True, False, False, True])
    result = ScanResult(
        score=np.zeros(5),
        flagged=flagged,
        p_value=np.zeros(5),
        label=np.zeros(5, np.int64),
        method="spectral",
        classes=np.array([0]),
        eigenvalues=np.array([1.0]),
    )
    scan = Scan("d", result, np.array([True, True, True, False, False]))
    assert SCAN_METRICS["scan.tpr"](scan).value == pytest.approx(2 / 3)
    assert SCAN_METRICS["scan.fpr"](scan).value == 1 / 2


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (">= 0.3", True),
        (">= 0.31", False),  # the value 0.4 would pass, the lower end 0.309 does not
        ("> 0.309", True),
        ("<= 0.5", True),
        ("<= 0.49", False),  # the value 0.4 would pass, the upper end 0.498 does not
        ("< 49 %", False),
        ("<= 50%", True),
        ("== 0.4", False),
        (">= 3/10", True),
    ],
)
def test_the_worst_end_decides(claim, holds):
    gate = parse_gate("certified_accuracy", claim)
    [result] = judge(gate, claim, [("m", E)])
    assert result.passed is holds
    assert result.low == pytest.approx(0.3094, abs=1e-4)
    assert result.high == pytest.approx(0.4980, abs=1e-4)


def test_counts_are_exact():
    [result] = judge(parse_gate("errors", "== 5"), "== 5", [("m", E)])
    assert result.passed
    [result] = judge(parse_gate("flags", "== 0"), "== 0", [("m", E)])
    assert not result.passed


def test_every_evaluation_in_scope_is_judged_and_none_means_no_pass():
    gate = parse_gate("certified_accuracy@linf", ">= 0.3")
    weak = replace(evaluation(certified=1, open=9), model="weak")
    results = judge(gate, ">= 0.3", [("m", E), ("weak", weak)])
    assert [r.passed for r in results] == [True, False]
    [missing] = judge(gate, ">= 0.3", [])
    assert not missing.passed


def test_nan_never_passes():
    for claim in (">= 0", "<= 1", "== 0", "< 5", "> 0"):
        gate = parse_gate("open", claim)
        assert not gate.holds(Measured(float("nan"), float("nan"), float("nan")))


def test_what_is_parsed():
    gate = parse_gate("certified_accuracy @ linf 1/16 @ normal", " >=  30 % ")
    assert gate.scopes == ("linf 1/16", "normal")
    assert gate.threshold == Fraction(3, 10)
    for key, claim in (
        ("certified_accuracy@", ">= 1"),
        ("robust", ">= 1"),
        ("open", "0.3"),
        ("open", ">= 1/0"),
        ("open", ">= 1/2/3"),
        ("open", "=> 0.3"),
        ("open", ">= nan"),
    ):
        with pytest.raises(SuiteError):
            parse_gate(key, claim)
