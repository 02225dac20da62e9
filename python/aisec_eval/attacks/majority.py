"""A sequential test of what a randomised model says more often than not.

One misclassified draw is luck. The test draws until it is sure on which side of one half the
probability of a misclassification lies, and may stop at any time: its error holds however often it
looks (Ville 1939; Ramdas, Gruenwald, Vovk & Shafer 2023, arXiv:2210.01948).
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ERROR = 100
"""A wrong answer has at most one chance in this many."""
MOST = 200
"""Draws after which the test gives up."""


def is_majority(hits: int, draws: int) -> bool:
    """Return whether `hits` of `draws` prove a probability above one half.

    The evidence is the likelihood of the hits, averaged over all probabilities from 1/2 to 1, over
    that at 1/2: a supermartingale where the probability is at most 1/2. In whole numbers,
    `sum_{j <= hits} C(draws + 1, j) / ((draws + 1) C(draws, hits))`.
    """
    misses = draws - hits
    if 2 * hits <= draws:
        return False
    below: int = (1 << (draws + 1)) - sum(comb(draws + 1, j) for j in range(misses + 1))
    return below >= ERROR * (draws + 1) * comb(draws, hits)


class Votes:
    """Draws of a randomised model at some points."""

    def __init__(self, n: int, classes: int) -> None:
        self.wrong = np.zeros(n, np.int64)
        """How many draws were misclassified [n]."""
        self.draws = np.zeros(n, np.int64)
        self.decided = np.zeros(n, np.int8)
        """1 where misclassified more often than not, -1 where not, 0 where neither is sure [n]."""
        self.failed = np.zeros(n, np.bool_)
        """Where a draw gave logits that are not finite."""
        self._logits = np.zeros((n, classes))
        self._margins = np.full((n, MOST), np.nan)

    def run(
        self, draw: Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.float64]]]
    ) -> None:
        """Draw until every point is decided, has failed, or has had `MOST` draws.

        Args:
            draw: gives logits and margins of some of the points, by their rows; its calls are
                independent.
        """
        while len(rows := np.flatnonzero(~self.failed & (self.decided == 0) & (self.draws < MOST))):
            logits, found = draw(rows)
            self._margins[rows, self.draws[rows]] = found
            self._logits[rows] += np.where(np.isnan(found)[:, None], 0, logits)
            self.draws[rows] += 1
            self.failed[rows] |= np.isnan(found)
            self.wrong[rows] += found < 0
            for row in rows:
                wrong, draws = int(self.wrong[row]), int(self.draws[row])
                if is_majority(wrong, draws):
                    self.decided[row] = 1
                elif is_majority(draws - wrong, draws):
                    self.decided[row] = -1

    @property
    def logits(self) -> NDArray[np.float32]:
        """Mean of the draws [n, classes]; NaN where one failed."""
        mean = self._logits / np.maximum(self.draws, 1)[:, None]
        return np.where(self.failed[:, None], np.nan, mean).astype(np.float32)

    @property
    def margin(self) -> NDArray[np.float64]:
        """Median margin of the draws [n]: negative where most were misclassified."""
        result = np.full(len(self.draws), np.nan)
        for row in np.flatnonzero(~self.failed & (self.draws > 0)):
            result[row] = np.median(self._margins[row, : self.draws[row]])
        return result
