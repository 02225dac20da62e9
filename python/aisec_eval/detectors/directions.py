"""The leading direction of every class: from covariances where they fit, else by passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .._core import Spectral
    from .source import Source

WIDE = 4096
"""Features up to which covariance matrices are gathered, if memory allows."""
_MOST_PASSES = 12


def leading_directions(
    source: Source, size: int, limit: int, advance: Callable[[int, str], None]
) -> tuple[Spectral, NDArray[np.int64], dict[str, Any]]:
    """Find the leading eigenvector of each class's covariance.

    One pass gathers the covariances; of 128 features or more, products beyond the first 2,048 rows
    of a class are float32 and their sums float64, which changes an entry by about 1e-6 / sqrt(rows)
    of the two standard deviations. Where `limit` does not allow covariances, or features are wider
    than `WIDE`, block Lanczos finds the vectors in up to 12 passes with `64 * dim` bytes a class
    and pass; its relative residual is in the result.

    Args:
        source: what to read.
        size: rows of a batch.
        limit: bytes for statistics.
        advance: told of rows done.

    Returns:
        The directions, the labels int64 [n], and how they were found.

    Raises:
        InputError: no rows, or not even one direction a class fits in `limit`.
        DatasetError: the data changed between passes.
    """
    from .._core import Krylov, Spectral, Statistics

    label = _Labels(source.rows)
    gathered: Statistics | None = None
    try:
        for x, y in source.batches(size):
            if gathered is None:
                if x.shape[1] > WIDE:
                    break
                gathered = Statistics(x.shape[1], limit, single=True)
            _check_width(source, x, gathered.dim, gathered.rows)
            gathered.update(x, y)
            label.append(y)
            advance(len(y), "statistics")
        else:
            if gathered is None:
                raise InputError(f"{source.name}: holds no rows")
            return Spectral(gathered), label.whole(), {"directions": "covariance matrices"}
    except MemoryError:
        pass
    del gathered

    label = _Labels(source.rows)
    search = Krylov(next(source.batches(1))[0].shape[1], limit)
    for number in range(_MOST_PASSES):
        first = 0
        for x, y in source.batches(size):
            _check_width(source, x, search.dim, first)
            if number:
                check_labels(source, y, label.whole(), first)
            else:
                label.append(y)
            search.update(x, y)
            first += len(y)
            advance(len(y), f"pass {number + 1}")
        if not search.finish_pass() or (number and not search.fits):
            break
    spectral, residuals = search.spectral()
    worst = float(residuals.max())
    found = {
        "directions": f"block Lanczos, {number + 1} passes",
        "residual": worst,
        "note": (
            f"leading directions by block Lanczos in {number + 1} passes: an eigenvalue of each "
            f"covariance lies within {worst:.1e} of the one stated, relatively"
        ),
    }
    return spectral, label.whole(), found


def check_labels(
    source: Source, y: NDArray[np.int64], label: NDArray[np.int64], first: int
) -> None:
    """Raise DatasetError where a later pass meets other labels than the first one."""
    if not np.array_equal(y, label[first : first + len(y)]):
        raise DatasetError(f"{source.name}: changed between the passes over it")


def _check_width(source: Source, x: NDArray[Any], dim: int, row: int) -> None:
    if x.shape[1] != dim:
        raise DatasetError(f"{source.name}: {x.shape[1]} features in row {row}, {dim} before")


class _Labels:
    """Labels of the first pass, in one array where their number is known."""

    def __init__(self, rows: int | None):
        self._values = np.empty(rows or 0, dtype=np.int64)
        self._count = 0

    def append(self, y: NDArray[np.int64]) -> None:
        count = self._count + len(y)
        if count > len(self._values):
            grown = np.empty(max(count, 3 * len(self._values) // 2), dtype=np.int64)
            grown[: self._count] = self._values[: self._count]
            self._values = grown
        self._values[self._count : count] = y
        self._count = count

    def whole(self) -> NDArray[np.int64]:
        return self._values[: self._count]
