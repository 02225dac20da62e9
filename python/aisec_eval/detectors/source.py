"""Where features come from: anything that can be read twice, batch by batch, in the same order."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.npy import load as load_npy
from ..datasets.parquet import features as feature_columns
from ..errors import AisecError, DatasetError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import RawIOBase

    import polars as pl
    from numpy.typing import NDArray

    Batch = tuple[NDArray[np.float32] | NDArray[np.float64], NDArray[np.int64]]

MIB = 1 << 20


@dataclass(frozen=True)
class Source(ABC):
    """Rows of features with labels that can be read any number of times."""

    name: str
    rows: int | None
    """Number of rows, where it is known without reading them."""
    row_bytes: int
    """Bytes of one row in a batch."""

    @abstractmethod
    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield features [<= rows, d], float32 or float64 and C-contiguous, with int64 labels."""


def open_source(features: Any, labels: Any) -> Source:
    """Choose the source for what the user passed; see `scan`.

    Raises:
        InputError: an array of the wrong shape or dtype.
        DatasetError: a file that is missing or cannot be read.
    """
    if isinstance(features, str | Path):
        path = Path(features)
        if not path.exists():
            raise DatasetError(f"{path}: no such file")
        if path.suffix.lower() == ".npy":
            return _npy(path, labels)
        if path.suffix.lower() in (".parquet", ".pq"):
            import polars as pl

            with _polars_errors(str(path)):
                lazy = pl.scan_parquet(path, glob=False, parallel="none", cache=False)
                rows = lazy.select(pl.len()).collect().item()
                return _frame(str(path), lazy, labels, rows)
        raise DatasetError(f"{path}: features are read from .parquet and .npy files")
    if type(features).__module__.partition(".")[0] == "polars":
        with _polars_errors("features"):
            return _frame("features", features.lazy(), labels, getattr(features, "height", None))
    return _arrays(features, labels)


@dataclass(frozen=True)
class ArraySource(Source):
    """An array in memory, or a mapped one."""

    x: NDArray[Any]
    y: NDArray[np.int64]

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield slices; copied only where dtype or layout ask for it."""
        for first in range(0, len(self.x), rows):
            yield as_features(self.x[first : first + rows]), self.y[first : first + rows]


@dataclass(frozen=True)
class NpySource(Source):
    """A C-ordered `.npy` file, read and not mapped: pages of a mapped file stay in memory."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    y: NDArray[np.int64]

    def batches(self, rows: int) -> Iterator[Batch]:
        """Read into one buffer that every batch uses again."""
        buffer = np.empty((min(rows, self.shape[0]), *self.shape[1:]), dtype=self.dtype)
        with _file_errors(self.path), self.path.open("rb", buffering=0) as file:
            file.seek(self.offset)
            for first in range(0, self.shape[0], rows):
                x = buffer[: min(rows, self.shape[0] - first)]
                _fill(file, x.data.cast("B"), self.path)
                yield as_features(x), self.y[first : first + len(x)]


@dataclass(frozen=True)
class FrameSource(Source):
    """A polars query, run once a pass."""

    lazy: pl.LazyFrame
    label: str | None

    def batches(self, rows: int) -> Iterator[Batch]:
        """Collect record batches in order."""
        first = 0
        with _polars_errors(self.name):
            for frame in self.lazy.collect_batches(chunk_size=rows, maintain_order=True):
                if frame.height:
                    yield self._split(frame, first)
                    first += frame.height

    def _split(self, frame: pl.DataFrame, first: int) -> Batch:
        if self.label is None:
            y = np.zeros(frame.height, dtype=np.int64)
        else:
            column = frame[self.label]
            if column.null_count():
                row = first + int(column.is_null().arg_max() or 0)
                raise InputError(f"{self.name}: label is null in row {row}; drop the row")
            y = column.to_numpy().astype(np.int64)
            frame = frame.drop(self.label)
        return as_features(feature_columns(self.name, frame, first=first)), y


def as_features(x: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return rows [n, d] as the engine takes them: float16 and small integers become float32."""
    rows = x.reshape(len(x), -1)
    exact = rows.dtype in (np.float16, np.float32, np.bool_) or (
        rows.dtype.kind in "iu" and rows.dtype.itemsize < 4
    )
    if exact:
        return np.ascontiguousarray(rows, dtype=np.float32)
    return np.ascontiguousarray(rows, dtype=np.float64)


def _arrays(features: Any, labels: Any) -> Source:
    try:
        x = np.asarray(features)
    except (TypeError, ValueError) as error:
        raise InputError(f"features are not an array: {' '.join(str(error).split())}") from None
    _check_array("features", x, InputError)
    return ArraySource("features", len(x), _row_bytes(x), x, _labels(labels, len(x)))


def _npy(path: Path, labels: Any) -> Source:
    x = load_npy(path)
    _check_array(str(path), x, DatasetError)
    name = "labels"
    if isinstance(labels, str | Path):
        name, labels = str(labels), load_npy(Path(labels))
    y, size = _labels(labels, len(x), name=name), _row_bytes(x)
    # Values begin at `np.memmap.offset`.
    offset = x.offset if isinstance(x, np.memmap) else None
    if offset is None or not x.flags.c_contiguous or not x.dtype.isnative:
        return ArraySource(str(path), len(x), size, x, y)
    return NpySource(str(path), len(x), size, path, offset, x.shape, x.dtype, y)


def _frame(name: str, lazy: pl.LazyFrame, labels: Any, rows: int | None) -> Source:
    import polars as pl

    schema = lazy.collect_schema()
    label = labels if labels is not None else ("label" if "label" in schema else None)
    if label is not None and (not isinstance(label, str) or label not in schema):
        raise InputError(
            f"{name}: labels={label!r} must name one of its columns: {', '.join(schema)}"
        )
    if label is not None and not schema[label].is_integer():
        raise InputError(
            f"{name}: label column {label!r} has type {schema[label]}; expected integers "
            f'(pl.col("{label}").rank("dense") numbers texts)'
        )
    values = 0
    for column, dtype in schema.items():
        if isinstance(dtype, pl.Array):
            values += math.prod(dtype.shape)
        elif isinstance(dtype, pl.List):
            values += lazy.select(pl.col(column).list.len().first()).collect().item() or 1
        elif column != label:
            values += 1
    return FrameSource(name, rows, 8 * max(1, values), lazy, label)


def _check_array(name: str, x: NDArray[Any], error: type[AisecError]) -> None:
    if x.ndim < 2 or x.size == 0:
        raise error(
            f"{name}: shape {list(x.shape)}, expected [n, d] with at least one row and column"
        )
    if x.dtype.kind not in "fiub":
        raise error(f"{name}: dtype {x.dtype}, expected floats or integers")


def _labels(labels: Any, n: int, *, name: str = "labels") -> NDArray[np.int64]:
    if labels is None:
        return np.zeros(n, dtype=np.int64)
    if isinstance(labels, str | Path):
        raise InputError(
            f"labels={str(labels)!r} names a column or file; beside an array pass an array"
        )
    y = np.asarray(labels)
    if y.dtype.kind not in "iu":
        raise InputError(
            f"{name}: dtype {y.dtype}, expected integers "
            "(np.unique(labels, return_inverse=True)[1] numbers them)"
        )
    if y.shape != (n,):
        raise InputError(f"{name}: shape {list(y.shape)}, expected one a sample: [{n}]")
    return np.ascontiguousarray(y, dtype=np.int64)


def _row_bytes(x: NDArray[Any]) -> int:
    return max(1, x.size // len(x)) * max(4, x.dtype.itemsize)


def _fill(file: RawIOBase, buffer: memoryview, path: Path) -> None:
    while len(buffer):
        count = file.readinto(buffer)
        if not count:
            raise DatasetError(f"{path}: ends early; the file changed while it was read")
        buffer = buffer[count:]


@contextmanager
def _polars_errors(name: str) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{name}: cannot be read ({reason})") from None


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from None
