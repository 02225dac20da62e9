"""The lattice that integer data lies on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError
from .threats import exact

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

_LARGEST = 1 << 24
"""Integers up to here are float32 numbers."""


@dataclass(frozen=True)
class Lattice:
    """The multiples of `spacing`, each held as the float32 nearest to it."""

    spacing: Fraction

    @staticmethod
    def of(value: float | int | str | Fraction) -> Lattice:
        """Check a spacing: a positive ratio of integers below 2^24.

        Raises:
            InputError: it is not.
        """
        spacing = exact(value, name="lattice")
        if not 0 < spacing.numerator < _LARGEST or spacing.denominator >= _LARGEST:
            raise InputError(
                f"lattice={value!r} must be positive and a ratio of small integers, such as "
                'Fraction(1, 255) or "1/255"; None for data that is not made of integers'
            )
        return Lattice(spacing)

    def values(self, level: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the float32 nearest to `level * spacing`: one correctly rounded division."""
        numerator = (level * self.spacing.numerator).astype(np.float32)
        return np.asarray(numerator / np.float32(self.spacing.denominator), dtype=np.float32)

    def levels(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest level of each value."""
        scaled = x.astype(np.float64) * self.spacing.denominator / self.spacing.numerator
        return np.rint(scaled).astype(np.int64)

    def check(self, x: NDArray[np.float32]) -> None:
        """Refuse data that is not on the lattice.

        Raises:
            InputError: the first value that is not a level.
        """
        level = self.levels(x)
        limit = (_LARGEST - 1) // self.spacing.numerator
        away = (self.values(level) != x) | (np.abs(level) > limit)
        if away.any():
            row, *position = (int(i) for i in np.unravel_index(int(away.argmax()), x.shape))
            raise InputError(
                f"x[{row}] is {float(x[(row, *position)])!r} at {position}, not a multiple of "
                f"lattice={self.spacing}; give the data's own spacing, or lattice=None"
            )
