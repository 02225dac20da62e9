"""Threat models: which perturbations count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Norm = Literal["linf", "l2", "l1", "box"]


def exact(value: float | int | str | Fraction, *, name: str = "eps") -> Fraction:
    """Return `value` as the exact rational it denotes: `"8/255"`, `0.1`, `Fraction(8, 255)`.

    A float stands for the binary number it is; a string for the decimal or ratio it spells.

    Raises:
        InputError: not a finite number.
    """
    try:
        return Fraction(value)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        raise InputError(
            f'{name}={value!r} is not a finite number; give a float, a Fraction or a string like "8/255"'
        ) from None


def round_up(value: Fraction) -> float:
    """Return the smallest float64 that is at least `value`."""
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


def round_down(value: Fraction) -> float:
    """Return the largest float64 that is at most `value`."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)


@dataclass(frozen=True)
class ThreatModel:
    """A norm ball of radius `eps` around each sample, cut with the input range `bounds`.

    `eps` is in the units of `bounds` (for images usually [0, 1]) and kept as an exact rational.
    """

    norm: ClassVar[Norm]

    eps: Fraction
    bounds: tuple[float, float] = (0.0, 1.0)

    def __init__(
        self, eps: float | int | str | Fraction, *, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        object.__setattr__(self, "eps", exact(eps))
        object.__setattr__(self, "bounds", (float(bounds[0]), float(bounds[1])))
        self._check()

    def _check(self) -> None:
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"bounds={self.bounds} must be two finite numbers, lower < upper")
        if self.eps < 0:
            raise InputError(f"eps={self.label} is negative; a radius must be at least 0")
        if self.norm == "linf" and self.eps > Fraction(high) - Fraction(low):
            raise InputError(
                f"eps={self.label} is larger than the input range {self.bounds}; "
                "eps is in the units of bounds (for 8-bit images in [0, 1] write eps='8/255')"
            )

    @property
    def eps_upper(self) -> float:
        """The radius rounded up to float64: what certifiers must cover."""
        return round_up(self.eps)

    @property
    def eps_lower(self) -> float:
        """The radius rounded down to float64: what adversarial examples must stay within."""
        return round_down(self.eps)

    @property
    def label(self) -> str:
        """The radius as a person writes it: `8/255`, `0.3`, `2`."""
        eps = self.eps
        if 255 % eps.denominator == 0 and eps.denominator > 1:
            return f"{eps * 255}/255"
        decimal = f"{float(eps):.6g}"
        return decimal if abs(Fraction(decimal) - eps) < Fraction(1, 10**9) else str(eps)

    def __str__(self) -> str:
        """Return norm and radius, e.g. `Linf 8/255`."""
        return f"{self.norm.capitalize()} {self.label}"


@dataclass(frozen=True, init=False)
class Linf(ThreatModel):
    """Every coordinate moves by at most `eps`."""

    norm: ClassVar[Norm] = "linf"


@dataclass(frozen=True, init=False)
class L2(ThreatModel):
    """The perturbation's Euclidean norm is at most `eps`."""

    norm: ClassVar[Norm] = "l2"


@dataclass(frozen=True, init=False)
class L1(ThreatModel):
    """The perturbation's absolute values sum to at most `eps`."""

    norm: ClassVar[Norm] = "l1"


@dataclass(frozen=True, init=False, eq=False)
class Box(ThreatModel):
    """Each input may be anything in `[lower, upper]`, arrays of one sample's shape.

    Unlike the norm balls a box does not move with the sample: it is the same region for all.
    """

    norm: ClassVar[Norm] = "box"

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def __init__(self, lower: ArrayLike, upper: ArrayLike) -> None:
        low = np.array(lower, dtype=np.float64)
        high = np.array(upper, dtype=np.float64)
        if low.shape != high.shape or low.size == 0:
            raise InputError(
                f"box corners must have one sample's shape, got {low.shape} and {high.shape}"
            )
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            raise InputError("box corners must be finite with lower <= upper everywhere")
        low.setflags(write=False)
        high.setflags(write=False)
        object.__setattr__(self, "lower", low)
        object.__setattr__(self, "upper", high)
        object.__setattr__(self, "eps", Fraction(0))
        object.__setattr__(self, "bounds", (float(low.min()), float(high.max())))

    @property
    def label(self) -> str:
        """Shape and extent of the box."""
        return f"{'x'.join(map(str, self.lower.shape))} in [{self.lower.min():g}, {self.upper.max():g}]"

    def __eq__(self, other: object) -> bool:
        """Boxes are equal when their corners are."""
        return (
            isinstance(other, Box)
            and np.array_equal(self.lower, other.lower)
            and np.array_equal(self.upper, other.upper)
        )

    def __hash__(self) -> int:
        """Hash of both corners."""
        return hash((self.lower.tobytes(), self.upper.tobytes(), self.lower.shape))
