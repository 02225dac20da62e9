"""What counts of successes prove about a probability: limits, and evidence that stays valid.

Special functions are SciPy's float64; every result is moved to the safe side by more than their
errors, so that rounding proves nothing.
"""

from __future__ import annotations

import math

_SLACK = 1e-10
"""Relative distance that limits keep from what the special functions say (they err by 1e-13)."""


def lower_limit(hits: int, total: int, alpha: float) -> float:
    """Return a p with P(at least `hits` of `total` | p) <= `alpha` (Clopper & Pearson 1934)."""
    from scipy.special import betainc, betaincinv

    if hits == 0:
        return 0.0
    p = float(betaincinv(hits, total - hits + 1, alpha)) * (1 - _SLACK)
    # The inverse is iterative; the tail itself is not, and decides.
    for _ in range(60):
        if betainc(hits, total - hits + 1, p) <= alpha:
            return p
        p *= 1 - 1e-6
    return 0.0


def radius(p: float, sigma: float) -> float:
    """Return the L2 radius that a class of probability at least `p` has; 0 unless p > 1/2."""
    from scipy.special import ndtri

    return max(0.0, sigma * float(ndtri(p)) * (1 - _SLACK)) if 0.5 < p < 1 else 0.0


def needed(eps: float, sigma: float) -> float:
    """Return a probability from which on the radius is at least `eps`; 1 where there is none."""
    from scipy.special import ndtr

    # Above 8 sigma float64 does not tell the probability from 1.
    tail = float(ndtr(-eps / sigma)) * (1 - _SLACK)
    return 1.0 - tail + 2.0**-53 if eps < 8 * sigma else 1.0


def log_evidence_above(p: float, hits: int, total: int) -> float:
    """Return the log of an e-value against "the probability is at most `p`", 0 < p < 1.

    The mean over all q in (p, 1) of the likelihood ratio of q to p. Each ratio is a
    supermartingale where the probability is at most p, so by Ville's inequality the evidence ever
    reaches 1 / alpha with probability at most alpha (Robbins 1970, "Statistical methods related
    to the law of the iterated logarithm").
    """
    return _log_mixture(p, hits, total - hits) - _SLACK * total


def log_evidence_below(p: float, hits: int, total: int) -> float:
    """Return the log of an e-value against "the probability is at least `p`", 0 < p < 1."""
    return _log_mixture(1 - p, total - hits, hits) - _SLACK * total


def _log_mixture(p: float, hits: int, misses: int) -> float:
    """Return the log of the mean over q in (p, 1) of (q/p)^hits ((1-q)/(1-p))^misses."""
    from scipy.special import betainc, betaln

    # The part of a Beta(hits + 1, misses + 1) that lies above p.
    above = float(betainc(misses + 1, hits + 1, 1 - p))
    if above <= 0:
        return -math.inf
    likelihood = hits * math.log(p) + (misses + 1) * math.log1p(-p)
    return float(betaln(hits + 1, misses + 1)) + math.log(above) - likelihood
