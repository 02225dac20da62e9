"""Arrays in memory, and `.npy` files."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...datasets.npy import load as load_npy
from ...errors import AisecError, DatasetError, InputError
from ..source import Source, as_features, as_labels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import RawIOBase

    from numpy.typing import NDArray

    from ..source import Batch


@dataclass(frozen=True)
class ArraySource(Source):
    """An array in memory, or a mapped one."""

    x: NDArray[Any]
    y: NDArray[np.int64]

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Yield slices; copied only where dtype or layout ask for it."""
        for start in range(first, len(self.x), rows):
            yield as_features(self.x[start : start + rows]), self.y[start : start + rows]


@dataclass(frozen=True)
class NpySource(Source):
    """A C-ordered `.npy` file, read and not mapped: pages of a mapped file stay in memory."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    y: NDArray[np.int64]
    modified: tuple[int, int]

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Read into one buffer that every batch uses again."""
        buffer = np.empty((min(rows, self.shape[0]), *self.shape[1:]), dtype=self.dtype)
        with _file_errors(self.path), self.path.open("rb", buffering=0) as file:
            if _modified(self.path) != self.modified:
                raise DatasetError(f"{self.path}: changed since it was opened")
            file.seek(self.offset + first * buffer[:1].nbytes)
            for start in range(first, self.shape[0], rows):
                x = buffer[: min(rows, self.shape[0] - start)]
                _fill(file, x.data.cast("B"), self.path)
                yield as_features(x), self.y[start : start + len(x)]


def open_arrays(features: Any, labels: Any) -> Source:
    """Take anything numpy makes an array of."""
    try:
        x = np.asarray(features)
    except (TypeError, ValueError) as error:
        raise InputError(f"features are not an array: {' '.join(str(error).split())}") from None
    _check("features", x.shape, x.dtype, InputError)
    size = _row_bytes(x.shape, x.dtype)
    return ArraySource("features", len(x), size, x, as_labels(labels, len(x)))


def open_npy(path: Path, labels: Any) -> Source:
    """Take a `.npy` file; `labels` may be another one."""
    name = "labels"
    if isinstance(labels, str | Path):
        name, labels = str(labels), load_npy(Path(labels))
    with _file_errors(path):
        modified, header = _modified(path), _plain_header(path)
    if header is None:
        x = load_npy(path)
        _check(str(path), x.shape, x.dtype, DatasetError)
        y = as_labels(labels, len(x), name=name)
        return ArraySource(str(path), len(x), _row_bytes(x.shape, x.dtype), x, y)
    shape, dtype, offset = header
    _check(str(path), shape, dtype, DatasetError)
    y = as_labels(labels, shape[0], name=name)
    size = _row_bytes(shape, dtype)
    return NpySource(str(path), shape[0], size, path, offset, shape, dtype, y, modified)


def _plain_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int] | None:
    """Return shape, dtype and where the values begin, of what can be read row after row.

    Nothing is mapped, so that the address space may be smaller than the file. None for other
    layouts and for what is no `.npy` file.
    """
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with path.open("rb") as file:
        try:
            shape, fortran, dtype = read_header[np.lib.format.read_magic(file)](file)
        except (ValueError, KeyError, EOFError, SyntaxError, TypeError):
            return None
        if fortran or dtype.hasobject or not dtype.isnative:
            return None
        offset = file.tell()
    if path.stat().st_size < offset + math.prod(shape) * dtype.itemsize:
        raise DatasetError(f"{path}: is shorter than its header says; it was cut")
    return shape, dtype, offset


def _check(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], error: type[AisecError]
) -> None:
    if len(shape) < 2 or 0 in shape:
        raise error(
            f"{name}: shape {list(shape)}, expected [n, d] with at least one row and column"
        )
    if dtype.kind not in "fiub":
        raise error(f"{name}: dtype {dtype}, expected floats or integers")


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape[1:]) * max(4, dtype.itemsize)


def _modified(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _fill(file: RawIOBase, buffer: memoryview, path: Path) -> None:
    while len(buffer):
        count = file.readinto(buffer)
        if not count:
            raise DatasetError(f"{path}: ends early; the file changed while it was read")
        buffer = buffer[count:]


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from None
