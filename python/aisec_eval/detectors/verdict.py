"""From tests of classes and odds of samples to a result: the same for every subspace detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..results import ScanResult
from .calibrate import clean_shares, leave_one_out
from .flag import highest_in_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.005
"""Chance of an alarm on a dataset without poison, as far as the null is true."""
LEAST_CLASSES = 5
CERTAIN = 30.0


@dataclass(frozen=True)
class ClassTest:
    """What a detector says of one class."""

    index: int
    statistic: float
    """Compared between classes, or a p-value of its own. NaN: there is nothing to test."""
    facts: dict[str, Any]
    """What is shown of it."""


def judge_classes(tests: list[ClassTest]) -> tuple[NDArray[np.float64], list[str]]:
    """P-value of every class against the others, NaN where there is none.

    Student's t of a new value among normal ones of unknown mean and variance (leave one out).
    """
    p = np.full(len(tests), np.nan)
    judged = [i for i, test in enumerate(tests) if np.isfinite(test.statistic)]
    if len(judged) < LEAST_CLASSES:
        return p, [
            f"{len(judged)} classes to compare: with fewer than {LEAST_CLASSES} the verdict "
            "cannot be calibrated, and there is none"
        ]
    p[judged] = leave_one_out(np.array([tests[i].statistic for i in judged]))
    return p, []


@dataclass
class Scores:
    """Scores of samples, filled in class by class.

    Samples of classes that are not suspected come behind those of classes that are, the likelier
    ones first.
    """

    score: NDArray[np.float64]
    clean: NDArray[np.float64]

    @classmethod
    def empty(cls, n: int) -> Scores:
        """Return scores of `n` samples, none of them looked at yet."""
        return cls(np.full(n, -4 * CERTAIN), np.ones(n))

    def fill(
        self, rows: NDArray[np.int64], odds: NDArray[np.float64], p: float, judged: int
    ) -> None:
        """Take the log-odds of poison of the samples of a class with p-value `p` of `judged`."""
        # Bounded, but in the same order.
        odds = CERTAIN * np.tanh(odds / CERTAIN)
        corrected = p * judged if np.isfinite(p) else float(judged)
        if corrected < LEVEL:
            self.score[rows] = odds
            self.clean[rows] = 1 / (1 + np.exp(odds))
        else:
            self.score[rows] = odds + np.log(LEVEL) - np.log(max(corrected, LEVEL)) - 2 * CERTAIN


def conclude(
    scores: Scores,
    label: NDArray[np.int64],
    labels: NDArray[np.int64],
    tests: list[ClassTest],
    p: NDArray[np.float64],
    rate: float | None,
    method: str,
    info: dict[str, Any],
) -> ScanResult:
    """Put the result together; `info` has what is particular to the detector."""
    judged = int(np.isfinite(p).sum())
    worst = float(np.nanmin(p)) * judged if judged else None
    table = []
    suspected = []
    for test, value in zip(tests, p.tolist(), strict=True):
        entry = {
            "class": int(labels[test.index]),
            "p": value if np.isfinite(value) else None,
            **test.facts,
        }
        table.append(entry)
        if np.isfinite(value) and value * judged < LEVEL:
            inside = 1 - scores.clean[label == labels[test.index]]
            suspected.append(entry | {"poisoned_share": float(inside.mean())})
    suspected.sort(key=lambda entry: (entry["p"], entry["class"]))
    if rate is None:
        flagged = scores.clean < 0.5
        rule = "in suspected classes: samples more likely of the suspicious part than not"
    else:
        flagged = highest_in_class(scores.score, label, 1.5 * rate)
        rule = "the floor(1.5 * rate * n_c) highest scores of each class"
    order = np.argsort(-scores.score, kind="stable")
    return ScanResult(
        score=scores.score,
        flagged=flagged,
        p_value=clean_shares(order, scores.clean),
        label=label,
        method=method,
        classes=labels,
        eigenvalues=np.empty(0),
        info={
            **info,
            "rule": rule,
            "dataset": {
                "poisoned": bool(suspected),
                "p": min(1.0, worst) if worst is not None else None,
                "level": LEVEL,
            },
            "target_classes": [entry["class"] for entry in suspected],
            "suspected": suspected,
            "class_tests": table,
            "rate": rate if rate is not None else float((1 - scores.clean).mean()),
        },
    )
