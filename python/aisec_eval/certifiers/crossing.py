"""Where falling margins cross zero: which radius to try next, for many samples at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLOSE = 0.01
"""Relative distance of the certified radius from one that is not certified, or from where the
margin seems to cross zero, at which a sample is done."""
LIFT, STEP = 1.12, 0.1
"""Where only failures tell a margin: how far beyond the crossing seen from afar to look first, and
by what share beyond the largest radius after that, twice as much each time."""
NEAR, TWO = (0.1, 0.3), 0.5
"""Logarithms of the loss: up to which the crossing seen from one margin is trusted, and from two;
up to which the second one tells the exponent."""
ENDED = -0.1
"""Logarithm of the loss above which a margin may be where a search ended."""
STEEP, BEND = 1.7, 3.0
"""Exponent of what margins lose with the radius, and what it grows by with the logarithm of the
loss beyond the crossing; as seen on convolutional networks. Two known margins overrule them."""


def holds(margin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where margins certify: NaN and what is not finite prove nothing."""
    return (margin > 0) & np.isfinite(margin)


class Crossing:
    """Largest radii at which margins stay above zero, followed from known margins.

    With `m(r)` a sample's smallest margin over a ball of radius `r`, the share of the clean margin
    that is lost, `v(r) = 1 - m(r) / m(0)`, is close to a power of `r`: a line in logarithms, that
    is 1 where the margin crosses zero.
    """

    def __init__(
        self, high: NDArray[np.float64], clean: NDArray[np.float64], *, early: bool
    ) -> None:
        """Begin with radii that are too large and margins at radius 0, about.

        Args:
            high: radii at which nothing can be certified [n].
            clean: margins at radius 0 [n].
            early: margins above zero may be far below what they could be.
        """
        n = len(high)
        self.low = np.zeros(n)
        """Largest radii with a margin above zero; 0 where there is none."""
        self._high = high.astype(np.float64)
        self._clean, self._early = clean, early
        # Logarithms of radius and loss, the pair nearest to the crossing last.
        self._known = np.full((n, 2, 2), np.nan)
        self._failed = np.zeros(n, dtype=np.bool_)
        self._passed = np.zeros(n)
        self._width, self._slow = np.full(n, np.inf), np.zeros(n, dtype=np.int64)

    def learn(
        self, rows: NDArray[np.int64], at: NDArray[np.float64], margin: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Take margins at some radii in; return the rows that are not done."""
        good = holds(margin)
        first = np.isnan(self._known[rows, 1, 0])
        better, worse = good & (at > self.low[rows]), ~good & (at < self._high[rows])
        self.low[rows[better]] = at[better]
        self._high[rows[worse]] = at[worse]
        self._failed[rows[~good]] = True
        self._passed[rows[good]] += 1
        with np.errstate(divide="ignore", invalid="ignore"):
            points = np.stack([np.log(at), np.log(1 - margin / self._clean[rows])], axis=1)
        # A search that ends above zero tells a margin where it never began, so most often at first.
        told = ~good | (first & (points[:, 1] < ENDED)) if self._early else True
        usable = np.isfinite(points).all(axis=1) & told
        known, points = self._known[rows[usable]], points[usable]
        # Of three, the two nearest to the crossing.
        three = np.concatenate([known, points[:, None]], axis=1)
        distance = np.where(np.isnan(three[..., 1]), np.inf, np.abs(three[..., 1]))
        order = np.argsort(-distance, axis=1, kind="stable")[:, 1:]
        self._known[rows[usable]] = np.take_along_axis(three, order[..., None], axis=1)
        low, high, seen = self.low[rows], self._high[rows], self._crossing(rows)
        loss = self._known[rows, 1, 1]
        two = np.abs(self._known[rows, 0, 1]) < TWO
        near = (np.abs(loss) < np.where(two, NEAR[1], NEAR[0])) & ((loss >= 0) | (not self._early))
        done = (high - low <= CLOSE * high) | (near & (low > 0) & (seen <= low * (1 + CLOSE)))
        left: NDArray[np.int64] = rows[~done]
        return left

    def aim(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the radii to try next: just below the crossing, if that can be seen."""
        low, high, seen = self.low[rows], self._high[rows], self._crossing(rows)
        lift = self._early & ~self._failed[rows]
        further = (1 + STEP * 2 ** (self._passed[rows] - 1)) * low
        at = np.where(lift, np.fmax(LIFT * seen, further), (1 - CLOSE / 2) * seen)
        # What was certified or refuted beyond the crossing seen overrules it.
        width, failed = high - low, self._failed[rows]
        at = np.where(at > low, at, low + np.where(failed, 0.4, 0.1) * width)
        at = np.where(at < high, at, low + 0.9 * width)
        # A part with a margin known at both ends is halved now and then.
        slow = failed & (low > 0) & (width > 0.5 * self._width[rows])
        self._slow[rows] = np.where(slow, self._slow[rows] + 1, 0)
        self._width[rows] = width
        halve = (self._slow[rows] >= 2) | ~np.isfinite(at)
        self._slow[rows[halve]] = 0
        return np.asarray(np.where(halve, low + 0.5 * width, at))

    def _crossing(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the radius where the margin seems to be zero; NaN where nothing is known."""
        (before, last) = self._known[rows, 0], self._known[rows, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (last[:, 1] - before[:, 1]) / (last[:, 0] - before[:, 0])
            near = np.abs(before[:, 1]) < TWO
            usual = STEEP + BEND * np.maximum(last[:, 1], 0)
            slope = np.where(near & (slope > 0.5) & (slope < 50), slope, usual)
            return np.asarray(np.exp(last[:, 0] - last[:, 1] / slope))
