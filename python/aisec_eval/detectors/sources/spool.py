"""Rows of features that were computed: in memory where they fit, else in a temporary file."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError
from ..source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ..source import Batch


@dataclass(frozen=True)
class RowsSource(Source):
    """Rows that were kept, float32 [n, d], with their labels."""

    kept: Rows
    y: NDArray[np.int64]

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Yield slices of memory, or of the file in one buffer that every batch uses again."""
        for start, x in self.kept.read(rows, first):
            yield x, self.y[start : start + len(x)]


class Rows:
    """Rows [n, *shape] float32, appended once and read any number of times.

    Up to `memory` bytes stay in memory; beyond, all are in a file without a name, gone with the
    object.
    """

    def __init__(self, name: str, shape: tuple[int, ...], memory: int) -> None:
        self.name = name
        self.shape = shape
        self.count = 0
        self._memory = memory
        self._parts: list[NDArray[np.float32]] = []
        self._file: IO[bytes] | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return 4 * int(np.prod(self.shape))

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return sum(part.nbytes for part in self._parts)

    def append(self, x: NDArray[np.float32]) -> None:
        """Add rows at the end; `x` is kept and must not change.

        Raises:
            DatasetError: the temporary file cannot be written.
        """
        if not len(x):
            return
        self.count += len(x)
        self._parts.append(x)
        if self._file is not None or self.held > self._memory:
            self._write()

    def finish(self) -> None:
        """Join what is in memory, so that reading copies nothing."""
        if self._file is None and len(self._parts) != 1:
            joined = np.empty((self.count, *self.shape), np.float32)
            first = 0
            self._parts.reverse()
            while self._parts:
                part = self._parts.pop()
                joined[first : first + len(part)] = part
                first += len(part)
            self._parts = [joined]

    def read(self, rows: int, first: int = 0) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, up to `rows` rows); from a file, in one buffer used again."""
        if self._file is None:
            for start in range(first, self.count, rows):
                yield start, self._parts[0][start : start + rows]
            return
        buffer = np.empty((min(rows, self.count), *self.shape), np.float32)
        for start in range(first, self.count, rows):
            x = buffer[: min(rows, self.count - start)]
            self._file.seek(start * self.row_bytes)
            if self._file.readinto(x.data.cast("B")) != x.nbytes:  # type: ignore[attr-defined]
                raise DatasetError(f"{self.name}: its temporary file was cut")
            yield start, x

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows, ascending, as a new array."""
        if self._file is None:
            found: NDArray[np.float32] = self._parts[0][rows]
            return found
        found = np.empty((len(rows), *self.shape), np.float32)
        for place, row in enumerate(rows.tolist()):
            self._file.seek(row * self.row_bytes)
            if self._file.readinto(found[place].data.cast("B")) != self.row_bytes:  # type: ignore[attr-defined]
                raise DatasetError(f"{self.name}: its temporary file was cut")
        return found

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        try:
            for part in self._parts:
                self._file.write(np.ascontiguousarray(part).data.cast("B"))
        except OSError as error:
            raise DatasetError(
                f"{self.name}: cannot be kept in {tempfile.gettempdir()} "
                f"({error.strerror or error}); set TMPDIR to a larger one, or raise memory_limit"
            ) from None
        self._parts = []


def rows_source(name: str, rows: Rows, labels: NDArray[Any]) -> RowsSource:
    """Return finished rows of one axis as a source of features."""
    return RowsSource(name, rows.count, rows.row_bytes, rows, np.ascontiguousarray(labels))
