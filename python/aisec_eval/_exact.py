"""Numbers as people write them, exactly, and their neighbours in float64."""

from __future__ import annotations

import math
import re
import sys
from fractions import Fraction
from functools import lru_cache

import numpy as np

from .errors import InputError

_EXPONENT = re.compile(r"e[+-]?0*([0-9]+)\s*$", re.IGNORECASE)
_LARGEST = Fraction(sys.float_info.max)


def exact(value: float | int | str | Fraction, *, name: str = "eps") -> Fraction:
    """Return `value` as the exact rational it denotes: `"8/255"`, `0.1`, `Fraction(8, 255)`.

    A float stands for the binary number it is; a string for the decimal or ratio it spells.

    Raises:
        InputError: not a finite number that float64 can hold.
    """
    number = value.item() if isinstance(value, np.generic) else value
    try:
        if isinstance(number, str):
            exponent = _EXPONENT.search(number)
            # `Fraction("1e999999999")` would first write out a billion digits.
            if len(number) > 400 or (exponent and len(exponent[1]) > 3):
                raise ValueError
        result = Fraction(number)
        if isinstance(number, bool) or abs(result) > _LARGEST:
            raise ValueError
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        shown = repr(number) if len(repr(number)) < 60 else f"{repr(number)[:60]}..."
        raise InputError(
            f"{name}={shown} is not a finite number; give a float, a Fraction or a string "
            'like "8/255"'
        ) from None
    return result


@lru_cache(maxsize=256)
def round_up(value: Fraction) -> float:
    """Return the smallest float64 that is at least `value`."""
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


@lru_cache(maxsize=256)
def round_down(value: Fraction) -> float:
    """Return the largest float64 that is at most `value`."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)
