"""Gates: claims about a run that pass only when the data supports them.

A gate is `metric@scope@scope = "operator number"`. Scopes narrow the evaluations it speaks of: a
model, data or task id, a threat id or norm (`linf`), or a norm with a radius (`linf 8/255`). It
passes when the claim holds for every evaluation in its scope, judged by the end of the 95 %
confidence interval that is worst for the claim: `>=` by the lower end, `<=` by the upper.

| metric | what it is |
|---|---|
| `clean_accuracy` | correctly classified before any perturbation |
| `certified_accuracy`, `robust_accuracy.lower` | proven safe |
| `attacked_accuracy`, `robust_accuracy.upper` | neither misclassified nor broken |
| `robust_accuracy` | the unknown truth: at least the certified, at most the attacked accuracy |
| `open` | decided from neither side |
| `errors`, `flags` | how many samples failed, how many diagnostics were raised (no interval) |
| `scan.tpr`, `scan.fpr` | planted samples flagged, clean samples flagged, of a scan |
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ..bracket import wilson
from ..errors import SuiteError
from ..results import CERTIFIED, ERROR, OPEN, VERDICTS, Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..results import Evaluation

_CLAIM = re.compile(r"\s*(>=|<=|==|>|<)\s*([0-9./]{1,32})\s*(%?)\s*")
_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Measured:
    """A metric of one evaluation or scan: its value and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def _proportion(count: int, total: int) -> Measured:
    return Measured(count / total if total else float("nan"), *wilson(count, total))


def _count(e: Evaluation, *verdicts: str) -> int:
    return int(np.isin(e.verdict, [VERDICTS.index(v) for v in verdicts]).sum())


def _share(*verdicts: str) -> Callable[[Evaluation], Measured]:
    return lambda e: _proportion(_count(e, *verdicts), len(e.verdict))


def _robust(e: Evaluation) -> Measured:
    certified, attacked = _share(CERTIFIED)(e), _share(CERTIFIED, OPEN)(e)
    return Measured((certified.value + attacked.value) / 2, certified.low, attacked.high)


def _clean(e: Evaluation) -> Measured:
    return _proportion(round(e.clean_accuracy * len(e.verdict)), len(e.verdict))


def _exact(count: int) -> Measured:
    return Measured(count, count, count)


METRICS: dict[str, Callable[[Evaluation], Measured]] = {
    "clean_accuracy": _clean,
    "certified_accuracy": _share(CERTIFIED),
    "robust_accuracy.lower": _share(CERTIFIED),
    "attacked_accuracy": _share(CERTIFIED, OPEN),
    "robust_accuracy.upper": _share(CERTIFIED, OPEN),
    "robust_accuracy": _robust,
    "open": _share(OPEN),
    "errors": lambda e: _exact(_count(e, ERROR)),
    "flags": lambda e: _exact(len(e.flags)),
}


def _flagged(poisoned: bool) -> Callable[[Scan], Measured]:
    def measure(scan: Scan) -> Measured:
        planted = np.zeros(0, dtype=np.bool_) if scan.poison is None else scan.poison
        chosen = np.flatnonzero(planted == poisoned)
        return _proportion(int(scan.result.flagged[chosen].sum()), len(chosen))

    return measure


SCAN_METRICS: dict[str, Callable[[Scan], Measured]] = {
    "scan.tpr": _flagged(True),
    "scan.fpr": _flagged(False),
}


@dataclass(frozen=True)
class Gate:
    """A metric, where it is measured, and what is claimed of it."""

    key: str
    """As written in the suite."""
    metric: str
    scopes: tuple[str, ...]
    comparison: str
    threshold: Fraction

    @property
    def of_scan(self) -> bool:
        """Whether it speaks of scans rather than evaluations."""
        return self.metric in SCAN_METRICS

    def holds(self, measured: Measured) -> bool:
        """Whether the claim holds at the end of the interval that is worst for it."""
        ends = {">": [measured.low], "<": [measured.high], "=": [measured.low, measured.high]}
        compare = _COMPARE[self.comparison]
        return all(
            np.isfinite(end) and compare(Fraction(end), self.threshold)
            for end in ends[self.comparison[0]]
        )


@dataclass(frozen=True)
class GateResult:
    """One gate on one evaluation or scan."""

    gate: str
    claim: str
    where: str
    value: float
    low: float
    high: float
    passed: bool


def parse_gate(key: str, claim: str) -> Gate:
    """Parse one line of `[gate]`.

    Args:
        key: metric and scopes, `"certified_accuracy@linf 1/16@normal"`.
        claim: operator and number, `">= 0.3"`, `"<= 5 %"`.

    Raises:
        SuiteError: the metric is unknown or the claim is not one.
    """
    metric, *scopes = (part.strip() for part in key.split("@"))
    known = [*METRICS, *SCAN_METRICS]
    if metric not in known:
        near = get_close_matches(metric, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"
        raise SuiteError(f'unknown metric "{metric}"; {hint}')
    if not all(scopes):
        raise SuiteError(f'"{key}" has an empty scope; write metric@scope')
    match = _CLAIM.fullmatch(claim)
    try:
        threshold = Fraction(match[2]) if match else None
    except (ValueError, ZeroDivisionError):
        threshold = None
    if match is None or threshold is None:
        raise SuiteError(f'"{claim}" is not a claim; write an operator and a number, ">= 0.3"')
    return Gate(key, metric, tuple(scopes), match[1], threshold / 100 if match[3] else threshold)


def judge(
    gate: Gate, claim: str, measured: Iterable[tuple[str, Evaluation | Scan]]
) -> list[GateResult]:
    """Judge a gate on every evaluation (or scan) in its scope, given with its name.

    A metric that was never measured, because its shards failed, does not pass.
    """
    results = []
    for where, what in measured:
        if isinstance(what, Scan):
            m = SCAN_METRICS[gate.metric](what)
        else:
            m = METRICS[gate.metric](what)
        results.append(GateResult(gate.key, claim, where, m.value, m.low, m.high, gate.holds(m)))
    return results or [GateResult(gate.key, claim, "not measured", 0.0, 0.0, 1.0, passed=False)]
