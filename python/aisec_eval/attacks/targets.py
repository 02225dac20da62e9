"""Target classes of targeted attacks: the runners-up at the clean input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .base import Found
from .engine import NativeAttack, run_native, search

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .base import Problem
    from .target import Target

TARGETS = 9
"""Classes tried, as in AutoAttack."""


class Targeted(NativeAttack):
    """An attack that tries one target class a run: run r the class ranked r + 2 at the clean input.

    A subclass is a frozen dataclass with a field `targets`. Classes are ranked by their logits, of
    equal ones the first; a sample whose label ranks there, or whose model has fewer classes, is
    passed over and costs nothing but its ranking.
    """

    targets: int

    @property
    def restarts(self) -> int:
        """One run a target."""
        return self.targets

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once, towards the class of this run."""
        return self._aim(search, target, problem, restart)

    def run_anywhere(self, target: Target, problem: Problem, restart: int) -> Found:
        """Like `run`; of a minimum-norm attack, with the nearest points wherever they lie."""
        return self._aim(run_native, target, problem, restart)

    def _aim(
        self, run: Callable[..., Found], target: Target, problem: Problem, restart: int
    ) -> Found:
        found = Found.nothing(problem)
        if restart + 1 >= target.model.num_classes:
            return found
        logits = problem.clean
        if logits is None:
            logits = target.logits(problem.x)
            found.forwards[:] += 1
        classes = ranked(logits, restart + 1)
        rows = np.flatnonzero(~np.isnan(logits).any(axis=1) & (classes != problem.y))
        if len(rows):
            part = run(self, target, problem.take(rows), restart, targets=classes[rows])
            for name in ("x", "margin", "status"):
                getattr(found, name)[rows] = getattr(part, name)
            for name in ("forwards", "gradients", "queries"):
                getattr(found, name)[rows] += getattr(part, name)
        return found


def ranked(logits: NDArray[np.float32], rank: int) -> NDArray[np.int64]:
    """Return the class with the rank-th largest logit [n], 0 for the largest."""
    order = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")
    return np.ascontiguousarray(order[:, rank], np.int64)
