"""From scores or p-values to flags; ties are broken by row, so flags are reproducible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PART = 1 << 20


def benjamini_hochberg(p_value: NDArray[np.float64], level: float) -> NDArray[np.bool_]:
    """Flag p-values such that the expected share of false alarms among the flags is <= `level`.

    Benjamini & Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995): all up to the
    largest sorted p_(k) with p_(k) <= level * k / n.
    """
    n = len(p_value)
    ordered = np.sort(p_value)
    # From the end, a part at a time: the last one below the line is sought.
    for end in range(n, 0, -_PART):
        first = max(0, end - _PART)
        line = level * np.arange(first + 1, end + 1) / n
        below = np.flatnonzero(ordered[first:end] <= line)
        if len(below):
            flagged: NDArray[np.bool_] = p_value <= ordered[first + below[-1]]
            return flagged
    return np.zeros(n, dtype=np.bool_)


def highest_in_class(
    score: NDArray[np.float64], label: NDArray[np.int64], fraction: float
) -> NDArray[np.bool_]:
    """Flag the `floor(fraction * n_c)` highest scores of each class, the earlier row on a tie."""
    order = np.lexsort((-score, label))
    _, starts, counts = np.unique(label[order], return_index=True, return_counts=True)
    rank = np.empty(len(score), dtype=np.int64)
    rank[order] = np.arange(len(score)) - np.repeat(starts, counts)
    quota = np.empty(len(score), dtype=np.int64)
    quota[order] = np.repeat((fraction * counts).astype(np.int64), counts)
    flagged: NDArray[np.bool_] = rank < quota
    return flagged
