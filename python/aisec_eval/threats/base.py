"""What every threat model is: a radius, an input range, a description."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .._exact import exact, round_down, round_up
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


Norm = Literal[
    "linf", "l2", "l1", "l0", "box", "patch", "frame", "tabular", "spatial", "corruptions"
]


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
        try:
            low, high = (float(bound) for bound in bounds)
        except (TypeError, ValueError):
            raise InputError(
                f"bounds={bounds!r} must be two finite numbers, lower < upper"
            ) from None
        object.__setattr__(self, "bounds", (low, high))
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
        decimal = f"{float(eps):.6g}"
        # A float is binary: 0.1 is shown as the 0.1 that was meant, not by its 55 digits.
        if abs(Fraction(decimal) - eps) <= abs(eps) / 10**12:
            return decimal
        levels = round(eps * 255)
        if abs(eps * 255 - levels) <= eps * 255 / 10**12:
            return f"{levels}/255"
        return str(eps) if eps.denominator < 10**6 else repr(float(eps))

    def __str__(self) -> str:
        """Return norm and radius, e.g. `Linf 8/255`."""
        return f"{self.norm.capitalize()} {self.label}"

    @property
    def constraint(self) -> str | None:
        """What samples must satisfy beside `bounds` and instead of a radius, for native code."""
        return None

    def check_inputs(self, x: NDArray[np.float32]) -> None:
        """Refuse inputs [n, *input_shape] that the threat model is not for.

        Raises:
            InputError: what is wrong with which.
        """

    def describe(self) -> dict[str, Any]:
        """Return the threat model in exact terms that JSON can hold; `parse` reads it."""
        return {"norm": self.norm, "eps": str(self.eps), "bounds": list(self.bounds)}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["eps"], bounds=tuple(value["bounds"]))
