"""Numbers as people read them."""

from __future__ import annotations

import math

NONE = "\u2013"
"""An en dash, where there is no number; between two numbers it means to."""
TIMES = "\u00d7"
UNIT = "\u00a0%"


def percent(fraction: float) -> str:
    """Return `12.3 %` with a space that does not break.

    `100 %` always means all and `0 %` none: what only rounds to them is shown a tenth short.
    """
    if not math.isfinite(fraction):
        return NONE
    if fraction in (0.0, 1.0):
        return f"{fraction:.0%}".replace("%", UNIT)
    shown = min(max(round(fraction * 100, 1), 0.1), 99.9)
    return f"{shown:.1f}{UNIT}"


def between(low: float, high: float) -> str:
    """Return `12.3 to 45.6 %` with a dash, or one number where both ends read the same."""
    a, b = percent(low), percent(high)
    return a if a == b else f"{a.removesuffix(UNIT)}\u00a0{NONE}\u00a0{b}"


def count(value: int) -> str:
    """Return an integer with thin spaces between thousands, short above a million."""
    if value >= 10_000_000_000:
        return f"{value / 1e9:.1f} G"
    if value >= 10_000_000:
        return f"{value / 1e6:.1f} M"
    return f"{value:,}".replace(",", "\u202f")


def number(value: float) -> str:
    """Return a measured value with four significant digits; a dash where there is none."""
    return f"{value:.4g}".replace("-", "\u2212") if math.isfinite(value) else NONE


def plural(value: int, noun: str) -> str:
    """Return `1 sample`, `2 samples`."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"
