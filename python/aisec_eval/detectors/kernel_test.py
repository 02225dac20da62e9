"""Maximum mean discrepancy with a sum of Gaussian kernels, and what it is without a difference.

Gretton et al., "A Kernel Two-Sample Test", JMLR 13 (2012). Bandwidths are the mean squared distance
of all pairs times 1/4, 1/2, 1, 2 and 4.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MOST = 1000
_LEAST = 10
_ENOUGH = 50
_TOGETHER = 256
_STREAM = 0x4D4D44


def two_samples(
    one: NDArray[Any], two: NDArray[Any], seed: int, key: int, permutations: int
) -> float:
    """P-value of the discrepancy among permutations of which sample is where.

    Exact under exchangeability: `(1 + number as large) / (1 + permutations)`, or `50 / l` where the
    fiftieth as large comes at the l-th permutation, which is the last (Besag & Clifford,
    "Sequential Monte Carlo p-values", Biometrika 78, 1991).

    Args:
        one: samples [n, ...]; at most 1,000 are used, drawn at random.
        two: samples [m, ...], likewise.
        seed: draws subsets and permutations.
        key: a second seed, of the class.
        permutations: at most how many.
    """
    random = np.random.Generator(np.random.Philox(key=_key(seed, key)))
    one, two = (_some(part, random) for part in (one, two))
    kernel = _kernel(np.concatenate([one, two]))
    n, m = len(one), len(two)
    weights = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    observed = float(weights @ kernel @ weights)
    # Equal up to rounding counts as equal.
    level = observed - 1e-12 * abs(observed)
    larger = 0
    for start in range(0, permutations, _TOGETHER):
        drawn = np.tile(weights, (min(_TOGETHER, permutations - start), 1))
        random.permuted(drawn, axis=1, out=drawn)
        found = np.cumsum(((drawn @ kernel) * drawn).sum(axis=1) >= level)
        if larger + found[-1] >= _ENOUGH:
            last = int(np.searchsorted(found, _ENOUGH - larger)) + 1
            return _ENOUGH / (start + last)
        larger += int(found[-1])
    return (1 + larger) / (1 + permutations)


def halves_apart(x: NDArray[Any], score: NDArray[np.float64], seed: int, key: int) -> float:
    """Unbiased squared discrepancy between the half with the higher scores and the other half.

    NaN for fewer than 20 samples. At most 1,000 of each half are used.
    """
    half = len(x) // 2
    if half < _LEAST:
        return math.nan
    random = np.random.Generator(np.random.Philox(key=_key(seed, key)))
    order = np.argsort(score, kind="stable")
    low, high = (_some(x[np.sort(rows)], random) for rows in (order[:half], order[half:]))
    return discrepancy(low, high)


def discrepancy(one: NDArray[Any], two: NDArray[Any]) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of [n, ...] and [m, ...]."""
    n, m = len(one), len(two)
    kernel = _kernel(np.concatenate([one, two]))
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def _kernel(x: NDArray[Any]) -> NDArray[np.float64]:
    """The kernel of all pairs, without the diagonal."""
    z = x.reshape(len(x), -1).astype(np.float64)
    z = z - z.mean(axis=0)
    square = (z**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square - 2 * (z @ z.T), 0)
    np.fill_diagonal(distance, 0)
    mean = distance.sum() / (len(z) * (len(z) - 1))
    kernel = np.zeros((len(z), len(z)))
    for factor in BANDWIDTHS:
        kernel += np.exp(-distance / max(factor * mean, 1e-300))
    np.fill_diagonal(kernel, 0)
    return kernel


def _some(x: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    if len(x) <= _MOST:
        return x
    return x[np.sort(random.permutation(len(x))[:_MOST])]


def _key(seed: int, key: int) -> int:
    return seed + ((_STREAM + (key << 24)) % (1 << 64) << 64)
