"""Tails of sums of weighted chi-squares: the law of a quadratic form of a Gaussian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRID = 400
_STEPS = 60


def weighted_chi_square_tail(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return P(sum_i weights_i z_i^2 >= value) for independent standard normal z.

    The saddlepoint approximation of Lugannani and Rice (Kuonen, Biometrika 86, 1999): relative
    errors of about 1 %, also far out. A single weight is exact. The tail is computed on a grid of
    400 values and interpolated between them on the scale of Wilson and Hilferty, where it is
    almost straight.

    Args:
        values: float64 [n], non-negative.
        weights: float64 [k], at least one positive; those below 1e-9 of the largest are left out.
    """
    from scipy.special import log_ndtr, ndtri_exp

    positive = weights[weights > 1e-9 * weights.max()]
    if len(positive) == 1:
        one: NDArray[np.float64] = 2 * np.exp(log_ndtr(-np.sqrt(values / positive[0])))
        return np.minimum(one, 1.0)
    low, high = 1e-3 * positive.sum(), max(float(values.max()), 2 * positive.sum())
    grid = np.geomspace(low, high, _GRID)
    normal = ndtri_exp(_log_tail(grid, positive))
    inside = np.interp(np.cbrt(values), np.cbrt(grid), normal)
    # Below the grid all is tail.
    tail: NDArray[np.float64] = np.where(values < low, 1.0, np.exp(log_ndtr(inside)))
    return tail


def _log_tail(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the tail at each value."""
    from scipy.special import log_ndtr

    # The saddlepoint t solves K'(t) = sum w / (1 - 2 w t) = value, by bisection below 1 / (2 w_1).
    mean = weights.sum()
    top = 1 / (2 * weights.max())
    # K'(-k / (2 value)) <= value and K'(top - 1 / (2 value)) >= value.
    left = -len(weights) / (2 * values) * 1.01
    right = np.full_like(values, top * (1 - 1e-15))
    for _ in range(_STEPS):
        middle = 0.5 * (left + right)
        slope = (weights / (1 - 2 * np.multiply.outer(middle, weights))).sum(1)
        below = slope < values
        left, right = np.where(below, middle, left), np.where(below, right, middle)
    t = 0.5 * (left + right)
    inside = 1 - 2 * np.multiply.outer(t, weights)
    cumulant = -0.5 * np.log(inside).sum(1)
    curvature = 2 * ((weights / inside) ** 2).sum(1)
    w = np.sign(t) * np.sqrt(np.maximum(2 * (t * values - cumulant), 0.0))
    v = t * np.sqrt(curvature)
    with np.errstate(divide="ignore", invalid="ignore"):
        point = w + np.log(v / w) / w
    # At the mean the formula is 0 / 0: interpolate over it.
    bad = (np.abs(values / mean - 1) < 1e-3) | ~np.isfinite(point)
    if bad.any() and not bad.all():
        point = np.interp(np.cbrt(values), np.cbrt(values[~bad]), point[~bad])
    log: NDArray[np.float64] = log_ndtr(-point)
    return log
