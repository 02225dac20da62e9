"""Norm balls and boxes around a sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InputError
from .base import Norm, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray


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


@dataclass(frozen=True, init=False)
class L0(ThreatModel):
    """At most `eps` coordinates change, each to anything in `bounds`.

    Coordinates of the input are counted, not pixels: three for a pixel of a colour image.
    Certifiers do not cover it.
    """

    norm: ClassVar[Norm] = "l0"

    def _check(self) -> None:
        super()._check()
        if self.eps.denominator != 1:
            raise InputError(
                f"eps={self.label} is not a number of coordinates; L0 needs an integer"
            )


@dataclass(frozen=True, init=False, eq=False)
class Box(ThreatModel):
    """Each input may be anything in `[lower, upper]`, arrays of one sample's shape.

    Unlike the norm balls a box does not move with the sample: it is the same region for all.
    """

    norm: ClassVar[Norm] = "box"

    lower: NDArray[np.float64] = field(kw_only=True)
    upper: NDArray[np.float64] = field(kw_only=True)

    def __init__(self, lower: ArrayLike, upper: ArrayLike) -> None:
        try:
            low = np.array(lower, dtype=np.float64)
            high = np.array(upper, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError("box corners must be arrays of one sample's shape") from None
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
        low, high = self.bounds
        return f"{'x'.join(map(str, self.lower.shape))} in [{low:g}, {high:g}]"

    def describe(self) -> dict[str, Any]:
        """Return the corners."""
        return {"norm": "box", "lower": self.lower.tolist(), "upper": self.upper.tolist()}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["lower"], value["upper"])

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
