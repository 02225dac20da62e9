"""What single values of a suite file may be."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, StrictStr, StringConstraints

Identifier = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Text = Annotated[StrictStr, StringConstraints(min_length=1, max_length=1000)]


def _number(value: object) -> Fraction:
    """An exact rational from a TOML integer, decimal or a string such as `"8/255"`."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError('must be a number or a string such as "8/255"')
    if len(str(value)) > 64 or re.search(r"[eE][+-]?\d{4,}", str(value)):
        raise ValueError("is longer than any radius needs to be (64 characters)")
    try:
        return Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f'{value} is not a finite number; write 0.1 or "8/255"') from None


Rational = Annotated[Fraction, BeforeValidator(_number)]
