"""Reading a source: labels once, features in whole or batch by batch, and what memory allows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DatasetError, InputError
from .source import MIB
from .sources.gathered import GatheredSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from .._core import Statistics
    from .source import Batch, Source

    Progress = Callable[[int, int, str], None] | None

_BATCH = 16 * MIB


class Reader:
    """Reads one source several times and checks that it stays the same.

    Attributes:
        limit: bytes the detector may use.
        label: int64 [n], once the first pass is over.
    """

    def __init__(
        self, source: Source, memory_limit: int | None, progress: Progress, passes: int
    ) -> None:
        self.source = source
        self.limit = memory_limit if memory_limit is not None else physical_memory() // 2
        self.batch = min(_BATCH, self.limit // 4)
        self.label: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._total = passes * (source.rows or 0)
        self._progress = progress
        self._done = 0
        self._read = False
        self._gathered: bytes | None = None
        if isinstance(source, GatheredSource):
            self.label, self._read = source.label, True
            self._gathered = source.statistics

    def statistics(self, dim: int, limit: int) -> Statistics:
        """Counts, means and products of the classes, in float64: the first pass.

        Args:
            dim: number of features.
            limit: bytes for them.

        Raises:
            MemoryError: they do not fit.
            ValueError: a feature is not finite.
        """
        from .._core import Statistics

        if self._gathered is not None:
            return Statistics.from_bytes(self._gathered, limit)
        statistics = Statistics(dim, limit)
        for _, (x, y) in self.batches("statistics"):
            statistics.update(x, y)
        return statistics

    def batches(self, note: str) -> Iterator[tuple[int, Batch]]:
        """Yield (first row, (features, labels)) over the whole source.

        Raises:
            InputError: the source is empty.
            DatasetError: the width or the labels differ from what was read before.
        """
        first, parts, width = 0, [], 0
        for x, y in self.source.batches(max(1, self.batch // self.source.row_bytes)):
            width = width or x.shape[1]
            if x.shape[1] != width:
                raise DatasetError(
                    f"{self.source.name}: {x.shape[1]} features in row {first}, {width} before"
                )
            if not self._read:
                parts.append(y.copy())
            elif not np.array_equal(y, self.label[first : first + len(y)]):
                raise DatasetError(f"{self.source.name}: changed between two passes over it")
            yield first, (x, y)
            first += len(y)
            self._done += len(y)
            if self._progress is not None:
                self._progress(self._done, self._total, note)
        if not first:
            raise InputError(f"{self.source.name}: holds no rows")
        if not self._read:
            self.label, self._read = np.concatenate(parts), True
        elif first != len(self.label):
            raise DatasetError(f"{self.source.name}: changed between two passes over it")

    def width(self) -> int:
        """Return the number of features.

        Raises:
            InputError: the source is empty.
        """
        source = self.source.source if isinstance(self.source, GatheredSource) else self.source
        known = getattr(source, "dim", None)
        if known is not None:
            return int(known)
        for x, _ in source.batches(1):
            return int(x.shape[1])
        raise InputError(f"{self.source.name}: holds no rows")


def physical_memory() -> int:
    """Bytes of memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
