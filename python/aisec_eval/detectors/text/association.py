"""How closely n-grams are tied to labels, against how closely n-grams like them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

NULL = (
    "of the documents with an n-gram, each has the label with a probability whose log-odds differ "
    "from those of the label's share by a normal amount, one an n-gram; its deviation is estimated "
    "from all n-grams of that length and about that frequency, the least under which none of their "
    "quantiles is too large"
)
_LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)
_ABOVE = 100
"""N-grams that must be above a quantile for it to count: triggers are fewer."""
_BULK = 20
"""N-grams that tell how much log-odds vary; where there are fewer, they do not."""
_PART = 2000
_PARTS = 6
_FAR = 3.0
"""Deviations below which an n-gram is not tested further."""
_NODES = np.linspace(-6.0, 38.0, 1001)


@dataclass(frozen=True)
class Tested:
    """Pairs of an n-gram and a label that are tied to each other [m]."""

    row: NDArray[np.int64]
    """Which n-gram."""
    label: NDArray[np.int64]
    """Which class."""
    log_odds: NDArray[np.float64]
    z: NDArray[np.float64]
    p_value: NDArray[np.float64]
    q_value: NDArray[np.float64]
    spread: NDArray[np.float64]
    sets: int
    """Sets of documents that were tested: n-grams in the same documents count once."""


def _alike(units: NDArray[np.uint32], documents: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of n-grams of one length and about one frequency.

    Rare words are closer to a topic than frequent ones, so each part has its own spread.
    """
    for length in np.unique(units):
        rows = np.flatnonzero(units == length)
        rows = rows[np.argsort(documents[rows], kind="stable")]
        yield from np.array_split(rows, min(_PARTS, max(1, len(rows) // _PART)))


def associations(
    units: NDArray[np.uint32],
    counts: NDArray[np.int64],
    fingerprints: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    level: float,
) -> Tested:
    """Test every n-gram for every class.

    Args:
        units: length of each n-gram [m].
        counts: documents of each class with it [m, classes].
        fingerprints: equal for n-grams in the same documents, which are tested once [m].
        sizes: documents of each class [classes].
        level: false discovery rate.
    """
    # The shortest of those in the same documents; the order of hashes must not count.
    order = np.lexsort((units, fingerprints))
    _, first, inverse = np.unique(fingerprints[order], return_index=True, return_inverse=True)
    first = order[first]
    inverse = inverse[np.argsort(order)]
    single, total = counts[first], counts[first].sum(1)
    p_values = np.ones(single.shape)
    odds, z, spreads = (np.zeros(single.shape) for _ in range(3))
    # Log-odds of words add up in longer n-grams, so theirs vary at least as much.
    least, length = np.zeros(single.shape[1]), 0
    for rows in _alike(units[first], total):
        if units[first[rows[0]]] > length:
            length = int(units[first[rows[0]]])
            least = spreads.max(0, initial=0.0)
        for c in range(single.shape[1]):
            mine, k = single[rows, c], total[rows]
            odds[rows, c], error = log_odds(mine, k, sizes[c], sizes.sum())
            spread = max(estimate_spread(odds[rows, c], error), least[c])
            deviations = odds[rows, c] / np.sqrt(spread**2 + error**2)
            far = deviations > _FAR
            share = sizes[c] / sizes.sum()
            p_values[rows[far], c] = tail(mine[far], k[far], share, spread)
            z[rows, c], spreads[rows, c] = deviations, spread
    q_values = benjamini_yekutieli(p_values.ravel()).reshape(p_values.shape)
    row, label = np.nonzero(q_values[inverse] <= level)
    at = inverse[row], label
    return Tested(row, label, odds[at], z[at], p_values[at], q_values[at], spreads[at], len(first))


def log_odds(
    labelled: NDArray[np.int64], documents: NDArray[np.int64], size: int, total: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds ratio of a class's documents to hold the n-gram, and its standard error.

    The prior is one document with the n-gram and `(total - k) / k` without, distributed over the
    classes as all documents are (Monroe, Colaresi & Quinn, 2008, equations 15 to 20).
    """
    share = size / total
    k, mine = documents.astype(np.float64), labelled.astype(np.float64)
    without = (total - k) / np.maximum(k, 1)
    cells = (
        mine + share,
        size - mine + share * without,
        k - mine + (1 - share),
        (total - size) - (k - mine) + (1 - share) * without,
    )
    with_, without_, others, rest = (np.maximum(cell, 1e-9) for cell in cells)
    odds = np.log(with_) - np.log(without_) - np.log(others) + np.log(rest)
    return odds, np.sqrt(1 / with_ + 1 / without_ + 1 / others + 1 / rest)


def estimate_spread(odds: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Estimate how much the n-grams' own log-odds vary.

    The least s under which no quantile of `|odds| / sqrt(s^2 + error^2)` is above that of a normal
    value. Quantiles with fewer than 100 n-grams above are left out, but for the median: those may
    be triggers. 0, which says that labels do not depend on n-grams, where there are fewer than 20.
    """
    from scipy.special import ndtri

    if len(odds) < _BULK:
        return 0.0
    levels = np.array([q for q in _LEVELS if q == 0.5 or (1 - q) * len(odds) >= _ABOVE])
    most = ndtri(0.5 + levels / 2)
    # Quantiles of few values are uncertain; this is above the true one 19 times in 20.
    at = np.minimum(levels + 1.645 * np.sqrt(levels * (1 - levels) / len(odds)), 1.0)

    def fits(s: float) -> bool:
        z = np.abs(odds) / np.sqrt(s**2 + error**2)
        return bool((np.quantile(z, at, method="higher") <= most).all())

    low, high = 0.0, 1.0
    if fits(low):
        return 0.0
    while not fits(high):
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def tail(
    labelled: NDArray[np.int64], documents: NDArray[np.int64], share: float, spread: float
) -> NDArray[np.float64]:
    """P(at least `labelled` of `documents` have a label of this share), log-odds normal about it.

    The binomial tail, averaged over a normal of deviation `spread` by the trapezoid rule from -6
    to 38 deviations.
    """
    from scipy.special import bdtrc, expit, logit

    pairs, inverse = np.unique(np.stack([labelled, documents]), axis=1, return_inverse=True)
    found, trials = pairs
    if spread == 0:
        values = bdtrc(found - 1, trials, share)
    else:
        weight = np.exp(-0.5 * _NODES**2)
        weight /= weight.sum()
        chance = expit(logit(share) + spread * _NODES)
        values = np.array(
            [bdtrc(k - 1, n, chance) @ weight for k, n in zip(found, trials, strict=True)]
        )
    values = np.clip(values, 1e-300, 1.0)
    values[found <= 0] = 1.0
    p: NDArray[np.float64] = values[inverse.ravel()]
    return p


def benjamini_yekutieli(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values that control the false discovery rate under any dependence."""
    m = len(p_values)
    if m == 0:
        return p_values
    order = np.argsort(p_values)
    harmonic = float(np.log(m) + np.euler_gamma + 1 / (2 * m))
    adjusted = p_values[order] * (m * harmonic) / np.arange(1, m + 1)
    q = np.empty(m)
    q[order] = np.minimum(np.minimum.accumulate(adjusted[::-1])[::-1], 1.0)
    return q
