"""What `verify` decides: can an input in some box make the outputs meet some linear conditions?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Clause:
    """A conjunction of half-spaces: a counterexample has `rows @ y <= rhs` in every row.

    `rows` are exact. A right-hand side that is no float64 lies between its two roundings.
    """

    rows: NDArray[np.float64]
    """[k, outputs]; k = 0 is met by every output."""
    rhs_lower: NDArray[np.float64]
    """[k], rounded down: what is not above meets the condition."""
    rhs_upper: NDArray[np.float64]
    """[k], rounded up: what is above does not."""


@dataclass(frozen=True)
class Case:
    """A box of inputs and the clauses one of which a counterexample in it meets."""

    lower: NDArray[np.float64]
    """[inputs], rounded outward: every real input of the box lies between the corners."""
    upper: NDArray[np.float64]
    inner_lower: NDArray[np.float64]
    """[inputs], rounded inward: what lies between these corners is exactly in the box. Above
    `inner_upper` where the box holds nothing but real numbers between two neighbours in float64;
    those are `lower` and `upper` then."""
    inner_upper: NDArray[np.float64]
    clauses: tuple[Clause, ...]


@dataclass(frozen=True)
class Property:
    """A counterexample is an input in the box of some case that meets one of its clauses.

    No cases at all means that nothing can be a counterexample.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]
    unsupported: str = ""
    """What the property says that cannot be represented here; nothing can be decided then."""


def below(value: Fraction) -> float:
    """Return the largest float64 at most `value`; `-inf` under all of them."""
    nearest, past = _nearest(value)
    return math.nextafter(nearest, -math.inf) if past > 0 else nearest


def above(value: Fraction) -> float:
    """Return the smallest float64 at least `value`; `inf` over all of them."""
    return 0.0 - below(-value)  # never -0.0


def strictly_below(value: Fraction) -> float:
    """Return the largest float64 less than `value`; `-inf` under all of them."""
    return math.nextafter(above(value), -math.inf)


def strictly_above(value: Fraction) -> float:
    """Return the smallest float64 greater than `value`; `inf` over all of them."""
    return 0.0 - strictly_below(-value)


def _nearest(value: Fraction) -> tuple[float, int]:
    """Return a neighbour of `value`, and the sign of how far it is past it."""
    try:
        nearest = float(value)
    except OverflowError:
        nearest = math.inf if value > 0 else -math.inf
    if math.isinf(nearest):
        return nearest, 1 if nearest > 0 else -1
    top, bottom = nearest.as_integer_ratio()
    gap = top * value.denominator - value.numerator * bottom
    return nearest, (gap > 0) - (gap < 0)
