"""What a scan shows beside its scores: a class along its leading directions, the worst samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..results import ScanEvidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..results import ScanResult
    from .source import Source

ROWS = 3000
VALUES = 4_000_000
"""Rows, and features in all, that are looked at; every so many of the data."""
TOP = 24
INPUT_VALUES = 1_000_000
"""Input values kept of the worst samples."""
_BATCH = 16 << 20
_WIDE = 2048
"""Features of the covariance that is drawn; of wider ones every so many."""


def stride(rows: int, dim: int) -> int:
    """Return how many rows apart those are that are looked at."""
    return max(1, -(-rows // max(1, min(ROWS, VALUES // dim))))


def worst(score: NDArray[np.float64], count: int = TOP) -> NDArray[np.int64]:
    """Return the rows of the highest scores, the worst first, the earlier of equal ones."""
    ranked = np.where(np.isnan(score), -np.inf, score)
    count = min(count, len(ranked))
    least = np.partition(ranked, len(ranked) - count)[len(ranked) - count]
    candidates = np.flatnonzero(ranked >= least)
    chosen: NDArray[np.int64] = candidates[np.argsort(-ranked[candidates], kind="stable")][:count]
    return chosen


def look(
    source: Source,
    result: ScanResult,
    inputs: NDArray[np.float32] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> ScanEvidence:
    """Gather the evidence of a scan in one more pass over what was scanned.

    Args:
        source: what was scanned.
        result: what was found.
        inputs: samples a person can look at [n, *shape], where there are any.
        bounds: their range.
    """
    top = worst(result.score)
    dim = max(1, source.row_bytes // 4)
    rows = np.union1d(np.arange(0, len(result.score), stride(len(result.score), dim)), top)
    return embed(gather(source, rows), rows, result, top, inputs, bounds)


def gather(source: Source, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Read the features of some rows [m, d], which ascend."""
    found, first = [], 0
    for x, _ in source.batches(max(1, _BATCH // source.row_bytes)):
        inside = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(x))]
        found.append(x[inside - first].astype(np.float64))
        first += len(x)
    return np.concatenate(found)


def embed(
    x: NDArray[np.float64],
    rows: NDArray[np.int64],
    result: ScanResult,
    top: NDArray[np.int64],
    inputs: NDArray[np.float32] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> ScanEvidence:
    """Draw the most suspicious class from rows that were read.

    Args:
        x: features of `rows` [m, d].
        rows: ascending.
        result: what was found.
        top: the most suspicious rows.
        inputs: see `look`.
        bounds: see `look`.
    """
    flags = [int((result.flagged & (result.label == c)).sum()) for c in result.classes]
    label = int(result.classes[np.argmax(flags)] if any(flags) else result.label[top[0]])
    inside = result.label[rows] == label
    points = _leading_plane(x[inside])
    kept = np.zeros(0, dtype=np.float32)
    if inputs is not None and inputs[0].size * len(top) <= INPUT_VALUES:
        kept = np.ascontiguousarray(inputs[top], dtype=np.float32)
    return ScanEvidence(label, rows[inside], points, top, kept, bounds)


def _leading_plane(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Coordinates along the two leading eigenvectors of the covariance [m, 2], float32."""
    from .._core import Spectral, Statistics

    points = np.zeros((len(x), 2))
    x = x[:, :: -(-x.shape[1] // _WIDE)]
    left: NDArray[Any] = x - x.mean(axis=0) if len(x) else x
    one = np.zeros(len(x), dtype=np.int64)
    for axis in range(2 if len(x) > 2 else 0):
        gathered = Statistics(left.shape[1], 1 << 40)
        gathered.update(np.ascontiguousarray(left), one)
        direction = Spectral(gathered).directions[0]
        # Not by BLAS: the sums must not depend on its threads.
        points[:, axis] = (left * direction).sum(axis=1)
        left = left - points[:, axis : axis + 1] * direction
    return points.astype(np.float32)
