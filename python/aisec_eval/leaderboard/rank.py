"""Who is ahead, said only where it is sure: whatever the open samples turn out to be.

Model a is ahead of b when, on the same samples, more are certified for a and lost by b than the
other way round could be at worst, by the exact test of McNemar (1947) on those pairs. Every pair is
tested at 5 % divided by the number of pairs (Bonferroni), so that all claims of one table hold
together. The class of a model is one more than the number of models ahead of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..results import CERTIFIED, OPEN, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..results import Evaluation

SIGNIFICANCE = 0.05


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p-value of the exact McNemar test: are wins and losses a fair coin's?"""
    n = wins + losses
    if n == 0:
        return 1.0
    few = min(wins, losses)
    logs = np.cumsum([0.0, *(math.log(n - k) - math.log(k + 1) for k in range(few))])
    return float(min(1.0, 2 * np.exp(logs - n * math.log(2)).sum()))


def ahead(a: Evaluation, b: Evaluation) -> float:
    """P-value of "a is more robust than b", 1 where it does not look so.

    Rows of both must be the same samples. Open samples of a count as lost, those of b as safe.
    """
    if not np.array_equal(a.sample, b.sample):
        raise ValueError("evaluations of different samples cannot be compared in pairs")
    safe = a.verdict == VERDICTS.index(CERTIFIED)
    perhaps = np.isin(b.verdict, [VERDICTS.index(CERTIFIED), VERDICTS.index(OPEN)])
    wins, losses = int((safe & ~perhaps).sum()), int((~safe & perhaps).sum())
    return mcnemar(wins, losses) if wins > losses else 1.0


def classes(evaluations: Sequence[Evaluation]) -> list[int]:
    """Return the rank class of each evaluation, 1 for those nobody is ahead of."""
    pairs = len(evaluations) * (len(evaluations) - 1) // 2
    level = SIGNIFICANCE / max(pairs, 1)
    return [1 + sum(ahead(b, a) < level for b in evaluations if b is not a) for a in evaluations]
