"""Exact ranges of inputs, and the float64 corners of the boxes they make."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .property import above, below, strictly_above, strictly_below

if TYPE_CHECKING:
    from decimal import Decimal

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Range:
    """The real numbers between two bounds; None where there is no bound."""

    low: Fraction | None = None
    high: Fraction | None = None
    low_open: bool = False
    """Whether `low` itself is left out."""
    high_open: bool = False

    def at_least(self, low: Fraction, *, strict: bool) -> Range:
        """Return the numbers that are at least `low`, or above it."""
        if self.low is not None and (self.low, self.low_open) >= (low, strict):
            return self
        return Range(low, self.high, strict, self.high_open)

    def at_most(self, high: Fraction, *, strict: bool) -> Range:
        """Return the numbers that are at most `high`, or below it."""
        if self.high is not None and (self.high, strict) <= (high, self.high_open):
            return self
        return Range(self.low, high, self.low_open, strict)

    @property
    def empty(self) -> bool:
        """Whether no number is left."""
        if self.low is None or self.high is None:
            return False
        if self.low_open or self.high_open:
            return self.low >= self.high
        return self.low > self.high

    def corners(self) -> tuple[float, float, float, float]:
        """Return lower, inner_lower, upper, inner_upper; infinite where unbounded."""
        lower = inner_lower = -math.inf
        upper = inner_upper = math.inf
        if self.low is not None:
            lower = below(self.low)
            inner_lower = strictly_above(self.low) if self.low_open else above(self.low)
        if self.high is not None:
            upper = above(self.high)
            inner_upper = strictly_below(self.high) if self.high_open else below(self.high)
        return lower, inner_lower, upper, inner_upper


class Box:
    """Ranges of many inputs, mostly of decimal bounds that are part of them.

    Decimals are compared exactly and are a tenth of the work of fractions: boxes of images are
    hundreds of thousands of them.
    """

    def __init__(self) -> None:
        self._bounds: tuple[dict[int, Decimal], dict[int, Decimal]] = ({}, {})
        self._ranges: dict[int, Range] = {}

    def bound(self, index: int, value: Decimal, *, upper: bool) -> None:
        """Add that an input is at least, or at most, a number."""
        side = self._bounds[upper]
        known = side.get(index)
        if known is None or (value < known if upper else value > known):
            side[index] = value

    def narrow(self, ranges: dict[int, Range]) -> None:
        """Replace ranges of inputs by parts of them."""
        self._ranges |= ranges

    def __getitem__(self, index: int) -> Range:
        found = self._ranges.get(index)
        if found is not None:
            return found
        low, high = (side.get(index) for side in self._bounds)
        return Range(
            None if low is None else Fraction(low), None if high is None else Fraction(high)
        )

    @property
    def empty(self) -> bool:
        """Whether some input has no value left."""
        low, high = self._bounds
        if any(range_.empty for range_ in self._ranges.values()):
            return True
        return any(i in high and value > high[i] for i, value in low.items())

    def corners(self, inputs: int) -> NDArray[np.float64]:
        """Return lower, inner_lower, upper, inner_upper [4, inputs]; infinite where unbounded."""
        corners = np.empty((4, inputs))
        corners[:2], corners[2:] = -np.inf, np.inf
        for upper, side in enumerate(self._bounds):
            index = np.fromiter(side, np.int64, len(side))
            nearest = np.fromiter((float(value) for value in side.values()), np.float64, len(side))
            past = np.fromiter(
                (
                    _sign(at, value)
                    for at, value in zip(nearest.tolist(), side.values(), strict=True)
                ),
                np.int64,
                len(side),
            )
            nearest += 0.0  # never -0.0
            below_ = np.where(past > 0, np.nextafter(nearest, -np.inf), nearest)
            above_ = np.where(past < 0, np.nextafter(nearest, np.inf), nearest)
            outward, inward = (above_, below_) if upper else (below_, above_)
            corners[2 * upper, index], corners[2 * upper + 1, index] = outward, inward
        for i, range_ in self._ranges.items():
            corners[:, i] = range_.corners()
        return corners


def _sign(nearest: float, value: Decimal) -> int:
    """Return whether a float64 number is above (1), at (0) or below (-1) a decimal."""
    return (nearest > value) - (nearest < value)
