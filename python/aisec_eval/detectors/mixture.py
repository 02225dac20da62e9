"""Two parts of one class: exact splits on a line, a linear discriminant, a Gaussian mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RIDGE = 1e-2
_PRIOR_RIDGE = 0.05


def split_line(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the threshold that leaves least variance on its two sides, and the share explained.

    Exact, from sums over the sorted values; (value, 0.0) where all are equal.
    """
    ordered = np.sort(values - values.mean())
    total = float(ordered @ ordered)
    n = len(ordered)
    if n < 2 or total <= 0 or ordered[0] == ordered[-1]:
        return float(values[0]), 0.0
    low = np.arange(1, n)
    below = np.cumsum(ordered)[:-1]
    between = below**2 * (1 / low + 1 / (n - low))
    # No threshold lies between equal values.
    between[ordered[1:] == ordered[:-1]] = -1.0
    best = int(between.argmax())
    middle = 0.5 * (ordered[best] + ordered[best + 1])
    return float(middle + values.mean()), float(min(1.0, between[best] / total))


def discriminant_split(
    z: NDArray[np.float64], part: NDArray[np.bool_], rounds: int = 30
) -> tuple[NDArray[np.bool_], float]:
    """Refine a split: project on Fisher's discriminant of the parts, split the line, repeat.

    Args:
        z: samples [n, d].
        part: where to start [n].
        rounds: at most so many.

    Returns:
        The parts, and the share of the variance on the last line that lies between them.
    """
    share = 0.0
    for _ in range(rounds):
        one, two = z[part], z[~part]
        if min(len(one), len(two)) < 5:
            break
        within = _scatter(one) + _scatter(two)
        within /= len(z)
        within += _RIDGE * np.trace(within) / len(within) * np.eye(len(within))
        line = z @ np.linalg.solve(within, one.mean(0) - two.mean(0))
        threshold, share = split_line(line)
        moved = line > threshold
        if np.array_equal(moved, part):
            break
        part = moved
    return part, share


@dataclass(frozen=True)
class Mixture:
    """Two Gaussians of any shape."""

    weight: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    likelihood: float
    """Mean log-likelihood of the samples it was fitted to."""

    def log_densities(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log of weight times density [2, n], less a constant."""
        return np.stack(
            [
                np.log(self.weight[i]) + _log_normal(z - self.mean[i], self.covariance[i])
                for i in range(2)
            ]
        )

    def log_odds(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of the first part [n]."""
        first, second = self.log_densities(z)
        odds: NDArray[np.float64] = first - second
        return odds


def fit_mixture(
    z: NDArray[np.float64], starts: list[NDArray[np.bool_]], rounds: int = 40
) -> Mixture | None:
    """Fit two Gaussians by expectation maximisation, the most likely of several starts.

    A part of no more samples than twice the dimension is given up; None if all are.
    """
    best = None
    for start in starts:
        fitted = _maximise(z, start, rounds)
        if fitted is not None and (best is None or fitted.likelihood > best.likelihood):
            best = fitted
    return best


def fit_with_prior(
    z: NDArray[np.float64], prior: NDArray[np.float64], rounds: int = 15
) -> Mixture | None:
    """Fit two Gaussians where something else already speaks for the parts of single samples.

    Args:
        z: samples [n, d].
        prior: log-odds of the first part [n].
        rounds: of expectation maximisation.

    Returns:
        A mixture whose `log_odds` are to be added to the prior; None where a part has no more
        samples than twice the dimension.
    """
    d = z.shape[1]
    ridge = _PRIOR_RIDGE * np.trace(_scatter(z)) / len(z) / d * np.eye(d)
    odds, fitted = prior, None
    for _ in range(rounds):
        first = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
        shares = np.stack([first, 1 - first])
        if shares.sum(1).min() <= 2 * d:
            return fitted
        mean, covariance = _moments(z, shares, ridge)
        fitted = Mixture(np.full(2, 0.5), mean, covariance, 0.0)
        odds = prior + fitted.log_odds(z)
    return fitted


def _moments(
    z: NDArray[np.float64], shares: NDArray[np.float64], ridge: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and covariances of the parts, weighted by the shares [2, n]."""
    weight = shares.sum(1)
    mean = shares @ z / weight[:, None]
    covariance = np.stack(
        [((z - mean[i]) * shares[i][:, None]).T @ (z - mean[i]) / weight[i] + ridge for i in (0, 1)]
    )
    return mean, covariance


def _maximise(z: NDArray[np.float64], start: NDArray[np.bool_], rounds: int) -> Mixture | None:
    n, d = z.shape
    ridge = _RIDGE * np.trace(_scatter(z)) / n / d * np.eye(d)
    share = np.where(start, 0.99, 0.01)
    fitted = None
    for _ in range(rounds):
        shares = np.stack([share, 1 - share])
        weight = shares.sum(1)
        if weight.min() < 2 * d:
            return None
        mean, covariance = _moments(z, shares, ridge)
        fitted = Mixture(weight / n, mean, covariance, 0.0)
        logs = fitted.log_densities(z)
        whole = np.logaddexp(*logs)
        fitted = Mixture(weight / n, mean, covariance, float(whole.mean()))
        moved = np.exp(logs[0] - whole)
        change = np.abs(moved - share).max()
        share = moved
        if change < 1e-3:
            break
    return fitted


def _scatter(z: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = z - z.mean(0)
    scatter: NDArray[np.float64] = centred.T @ centred
    return scatter


def _log_normal(
    centred: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log density of a Gaussian [n], without the constant."""
    root = np.linalg.cholesky(covariance)
    scaled = np.linalg.solve(root, centred.T)
    log: NDArray[np.float64] = -0.5 * (scaled**2).sum(0) - np.log(np.diag(root)).sum()
    return log
