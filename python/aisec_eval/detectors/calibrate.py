"""Tails of distributions, and p-values from how many clean samples there are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST = 1e-300
FREEDOM = 8
"""How many classes' worth a variance known beforehand is."""


def leave_one_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-value of every value against the others, as normal ones of unknown mean and variance.

    `(v - mean of the others) / (their deviation * sqrt(1 + 1 / (m - 1)))` is Student's t of m - 2
    degrees of freedom; large values are extreme. Needs at least three values.
    """
    from scipy.special import stdtr

    m = len(values)
    p = np.ones(m)
    for i in range(m):
        others = np.delete(values, i)
        deviation = float(others.std(ddof=1))
        if deviation > 0:
            t = (values[i] - others.mean()) / deviation / math.sqrt(1 + 1 / (m - 1))
            p[i] = stdtr(m - 2, -t)
    return p


def moderated(values: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """P-value of every value against the others, whose variance is known a little beforehand.

    As `leave_one_out`, with the variance of the others shrunk towards `spread ** 2`, which counts
    as much as `FREEDOM` more classes (moderated t, Smyth, 2004). Few classes that happen to be
    alike make no class stand out by little, and a class that stands out by much is told from few.
    """
    from scipy.special import stdtr

    m = len(values)
    p = np.ones(m)
    for i in range(m):
        others = np.delete(values, i)
        own = float(others.var(ddof=1)) if m > 2 else 0.0
        freedom = FREEDOM + max(m - 2, 0)
        variance = (FREEDOM * spread**2 + max(m - 2, 0) * own) / freedom
        t = (values[i] - others.mean()) / math.sqrt(variance * (1 + 1 / (m - 1)))
        p[i] = stdtr(freedom, -t)
    return p


def both(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """Combine independent p-values elementwise where neither alone shall do: `max(p, q) ** 2`."""
    combined: NDArray[np.float64] = np.maximum(one, two) ** 2
    return combined


def stouffer(*tests: NDArray[np.float64]) -> NDArray[np.float64]:
    """Combine independent p-values elementwise: their normal quantiles add up."""
    from scipy.special import ndtr, ndtri

    quantiles = sum(ndtri(np.clip(p, _LEAST, 1 - 1e-16)) for p in tests)
    combined: NDArray[np.float64] = ndtr(quantiles / math.sqrt(len(tests)))
    return combined


def binomial_tails(successes: NDArray[np.int64], trials: NDArray[np.int64]) -> NDArray[np.float64]:
    """`binomial_tail` of every pair."""
    pairs = zip(successes.tolist(), trials.tolist(), strict=True)
    return np.array([binomial_tail(s, t) for s, t in pairs])


def binomial_tail(successes: int, trials: int) -> float:
    """P(at least `successes` heads in `trials` throws of a fair coin)."""
    from scipy.special import betainc

    return float(betainc(successes, trials - successes + 1, 0.5)) if successes > 0 else 1.0


def share_interval(odds: NDArray[np.float64]) -> list[float]:
    """Interval of the share of poison: from samples that surely are to those that may be.

    Sure is a probability of 95 %, possible one of 5 %; each count is widened by two standard
    deviations of a binomial one.

    Args:
        odds: log-odds of poison [n].
    """
    n, sure = len(odds), math.log(0.95 / 0.05)
    low, high = float((odds >= sure).mean()), float((odds >= -sure).mean())
    return [
        max(0.0, low - 1.96 * math.sqrt(low * (1 - low) / n)),
        min(1.0, high + 1.96 * math.sqrt(high * (1 - high) / n)),
    ]


def clean_shares(order: NDArray[np.int64], clean: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-value of each sample: the share of clean samples that are as suspicious.

    Args:
        order: samples, the most suspicious first.
        clean: probability that a sample is clean [n].
    """
    p_value = np.empty(len(order))
    p_value[order] = np.cumsum(clean[order]) / clean.sum()
    return p_value
