"""Columns of a table: what kind a feature is, and how it may change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from ._exact import exact, round_down, round_up
from .errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

Direction = Literal["both", "up", "down", "fixed"]
Real = float | int | str | Fraction

LARGEST_INTEGER = 1 << 24
"""Whole numbers up to here are float32 numbers."""
_LARGEST_WEIGHT = 1 << 26
"""Weights below, times changes of whole numbers, add up in float64 without rounding."""


@dataclass(frozen=True)
class Feature:
    """A number in one column.

    Args:
        lower: least value it may take.
        upper: greatest value it may take.
        kind: "continuous", or "integer": whole numbers only.
        change: "both", only "up" or "down" from the clean value, or "fixed" (immutable).
        scale: the change that counts 1 towards the budget; the whole range when None.

    Raises:
        InputError: not a range, an unknown kind or change, or a scale that is not positive.
    """

    lower: float
    upper: float
    kind: Literal["continuous", "integer"] = "continuous"
    change: Direction = "both"
    scale: Fraction | None = None

    def __init__(
        self,
        lower: Real,
        upper: Real,
        kind: Literal["continuous", "integer"] = "continuous",
        change: Direction = "both",
        scale: Real | None = None,
    ) -> None:
        low, high = (float(exact(end, name="a feature's range")) for end in (lower, upper))
        if not low <= high:
            raise InputError(f"a feature's range [{low:g}, {high:g}] must have lower <= upper")
        if kind not in ("continuous", "integer"):
            raise InputError(f"kind={kind!r} must be continuous or integer")
        if change not in ("both", "up", "down", "fixed"):
            raise InputError(f"change={change!r} must be both, up, down or fixed")
        if kind == "integer" and max(abs(low), abs(high)) > LARGEST_INTEGER:
            raise InputError(
                f"an integer feature in [{low:g}, {high:g}]: float32 holds whole numbers up to "
                f"{LARGEST_INTEGER} only; make it continuous"
            )
        unit = None if scale is None else exact(scale, name="scale")
        if unit is not None and unit <= 0:
            raise InputError(f"scale={scale!r} must be positive: the change that counts 1")
        for name, value in (
            ("lower", low),
            ("upper", high),
            ("kind", kind),
            ("change", change),
            ("scale", unit),
        ):
            object.__setattr__(self, name, value)

    @property
    def columns(self) -> int:
        """One."""
        return 1

    @property
    def unit(self) -> Fraction:
        """The change that counts 1 towards the budget."""
        width = Fraction(self.upper) - Fraction(self.lower)
        return self.scale if self.scale is not None else width or Fraction(1)

    def describe(self) -> dict[str, Any]:
        """Return the feature in exact terms that JSON can hold."""
        return {
            "lower": self.lower,
            "upper": self.upper,
            "kind": self.kind,
            "change": self.change,
            "scale": None if self.scale is None else str(self.scale),
        }


@dataclass(frozen=True)
class OneHot:
    """A category in several columns, of which one is 1 and the others are 0.

    Args:
        size: number of categories and columns.
        change: "both", or "fixed" (immutable).
        cost: what another category counts towards the budget.

    Raises:
        InputError: no columns, an unknown change, or a negative cost.
    """

    size: int
    change: Literal["both", "fixed"] = "both"
    cost: Fraction = Fraction(1)

    def __init__(
        self, size: int, change: Literal["both", "fixed"] = "both", cost: Real = 1
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"size={size!r} of a one-hot feature must be an integer from 1 on")
        if change not in ("both", "fixed"):
            raise InputError(f"change={change!r} of a one-hot feature must be both or fixed")
        price = exact(cost, name="cost")
        if price < 0:
            raise InputError(f"cost={cost!r} must be at least 0")
        for name, value in (("size", size), ("change", change), ("cost", price)):
            object.__setattr__(self, name, value)

    @property
    def columns(self) -> int:
        """As many as categories."""
        return self.size

    def describe(self) -> dict[str, Any]:
        """Return the feature in exact terms that JSON can hold."""
        return {"onehot": self.size, "change": self.change, "cost": str(self.cost)}


def feature(value: Mapping[str, Any]) -> Feature | OneHot:
    """Return what `describe` described.

    Raises:
        InputError: not a feature.
        TypeError: an unknown key.
    """
    options = dict(value)
    if "onehot" in options:
        return OneHot(options.pop("onehot"), **options)
    return Feature(**options)


def native(features: tuple[Feature | OneHot, ...], metric: str, eps: Fraction) -> dict[str, Any]:
    """Return features and budget as the native code takes them.

    Limits are rounded down and weights up, so that what is found lies within the exact threat
    model. Sums are scaled so that weights are whole numbers where there are such of a fitting
    size: then nothing is rounded.
    """
    common = _common([f for f in features if f.change != "fixed"])
    limit = eps if metric == "l0" else eps * common
    found: list[dict[str, Any]] = []
    column = 0
    for part in features:
        size = part.columns
        if part.change == "fixed":
            pass
        elif isinstance(part, OneHot):
            if metric != "linf" or part.cost <= eps:
                weight = round_up(part.cost * common)
                found.append({"kind": "onehot", "column": column, "size": size, "weight": weight})
        else:
            found.append(
                {
                    "kind": "number",
                    "column": column,
                    "integer": part.kind == "integer",
                    "down": part.change != "up",
                    "up": part.change != "down",
                    "reach": None if metric == "l0" else round_down(eps * part.unit),
                    "weight": round_up(common / part.unit),
                }
            )
        column += size
    return {"tabular": {"metric": metric, "limit": round_down(limit), "features": found}}


def _common(features: list[Feature | OneHot]) -> Fraction:
    """Return a factor that turns all weights into whole numbers below 2^26, or 1."""
    weights = [f.cost if isinstance(f, OneHot) else 1 / f.unit for f in features]
    denominators = [weight.denominator for weight in weights]
    if max(denominators, default=1) >= _LARGEST_WEIGHT:
        return Fraction(1)
    common = Fraction(math.lcm(*denominators))
    return common if all(common * w < _LARGEST_WEIGHT for w in weights) else Fraction(1)
