"""A source whose first pass was done before, in shards: counts, means and products of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from ..source import Batch


@dataclass(frozen=True, eq=False)
class GatheredSource(Source):
    """Rows of another source, with what a pass over all of them found."""

    source: Source
    statistics: bytes
    """What `Statistics.to_bytes` gave for all rows, in float64."""
    label: NDArray[np.int64]
    """[n]."""

    @property
    def window_bytes(self) -> int:
        """As the source behind it."""
        return self.source.window_bytes

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of the source behind it."""
        return self.source.batches(rows, first)


def gathered(source: Source, statistics: bytes, label: NDArray[np.int64]) -> GatheredSource:
    """Return the source with what a pass over it found."""
    return GatheredSource(source.name, source.rows, source.row_bytes, source, statistics, label)
