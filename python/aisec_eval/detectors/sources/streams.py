"""Arrow streams: record batches from anywhere that speaks the Arrow C interface."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import dataclass
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError, InputError
from ..source import MIB, Source
from .frames import columns, polars_errors, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl
    from numpy.typing import NDArray

    from ..source import Batch

_PART = 16 * MIB


def is_stream(features: Any) -> bool:
    """Whether `features` gives Arrow data: once, or by a function that starts again."""
    return (
        hasattr(features, "__arrow_c_stream__")
        or hasattr(features, "__next__")
        or (callable(features) and not hasattr(features, "__array__"))
    )


def open_stream(features: Any, labels: Any) -> Source:
    """Take a function that starts a stream, or a stream that can be read once.

    A stream that can be read once is kept in a temporary file, as rows, until the scan ends.

    Raises:
        InputError: it does not give Arrow record batches, or `labels` is none of their columns.
        DatasetError: the stream is empty.
    """
    start = features if callable(features) else None
    stream = _frames(features() if start else features)
    with polars_errors("stream"):
        head = next((frame for frame in stream if frame.height), None)
        if head is None:
            raise DatasetError("stream: holds no rows")
        label, values = columns("stream", head.lazy(), labels)
    if start is not None:
        return StreamSource("stream", None, 8 * values, start, label)
    size = 8 * values
    rest = _parts(chain([head], stream), max(1, _PART // size))
    return SpoolSource("stream", None, size, rest, label, _Spool())


def _frames(stream: Any) -> Iterator[pl.DataFrame]:
    """Yield record batches as frames, without copying them."""
    import polars as pl

    if hasattr(stream, "__next__") or (
        not hasattr(stream, "__arrow_c_stream__") and hasattr(stream, "__iter__")
    ):
        for part in stream:
            if isinstance(part, pl.DataFrame):
                yield part
            elif hasattr(part, "__arrow_c_stream__") or hasattr(part, "__arrow_c_array__"):
                with polars_errors("stream"):
                    yield _frame(part)
            else:
                raise InputError(
                    f"stream: gave a {type(part).__name__}, expected Arrow record batches or "
                    "polars frames"
                )
    elif hasattr(stream, "__arrow_c_stream__"):
        with polars_errors("stream"):
            frame = _frame(stream)
        yield frame
    else:
        raise InputError(
            f"stream: a {type(stream).__name__} is no Arrow stream; give an iterator of record "
            "batches, or a function that returns one"
        )


def _frame(part: Any) -> pl.DataFrame:
    import polars as pl

    data = pl.from_arrow(part)
    if isinstance(data, pl.DataFrame):
        return data
    # A record batch is an array of structs to those who do not know its type.
    if not isinstance(data.dtype, pl.Struct):
        raise InputError("stream: gave an array, expected record batches with named columns")
    return data.struct.unnest()


@dataclass(frozen=True)
class StreamSource(Source):
    """A stream that a function starts again for each pass."""

    start: Callable[[], Any]
    label: str | None

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Cut the record batches; they are never joined."""
        row = 0
        with polars_errors(self.name):
            for frame in _frames(self.start()):
                for part in frame.slice(max(0, first - row)).iter_slices(rows):
                    if part.height:
                        yield split(self.name, part, self.label, max(row, first))
                row += frame.height


@dataclass(frozen=True)
class SpoolSource(Source):
    """A stream that can be read once: the first pass keeps its rows in a temporary file."""

    rest: Iterator[pl.DataFrame]
    """Parts of the stream that were not read yet."""
    label: str | None
    spool: _Spool

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Read what earlier passes kept of the stream, then the stream."""
        row = 0
        for x, y in chain(self.spool.parts(), self._keep()):
            for start in range(max(0, first - row), len(y), rows):
                yield x[start : start + rows], y[start : start + rows]
            row += len(y)

    def _keep(self) -> Iterator[Batch]:
        with polars_errors(self.name):
            for part in self.rest:
                x, y = split(self.name, part, self.label, self.spool.rows)
                self.spool.append(x, y)
                yield x, y


def _parts(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Record batches may have any size; they are cut."""
    for frame in frames:
        for part in frame.iter_slices(rows):
            if part.height:
                yield part


class _Spool:
    """Parts of rows in a file without a name, gone with the object."""

    def __init__(self) -> None:
        self.rows = 0
        self._file: IO[bytes] | None = None
        self._parts: list[tuple[tuple[int, int], np.dtype[Any]]] = []

    def append(self, x: NDArray[Any], y: NDArray[np.int64]) -> None:
        """Add rows at the end."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        if self._parts and self._parts[-1][0][1] != x.shape[1]:
            raise DatasetError(f"stream: {x.shape[1]} features, {self._parts[-1][0][1]} before")
        self._file.seek(0, 2)
        try:
            self._file.write(x.data.cast("B"))
            self._file.write(y.data.cast("B"))
        except OSError as error:
            raise DatasetError(
                f"stream: cannot be kept in {tempfile.gettempdir()} for the second pass "
                f"({error.strerror or error}); set TMPDIR, or give a function that starts it again"
            ) from None
        self._parts.append(((x.shape[0], x.shape[1]), x.dtype))
        self.rows += len(y)

    def parts(self) -> Iterator[Batch]:
        """Read the rows again."""
        if self._file is None:
            return
        self._file.seek(0)
        for shape, dtype in tuple(self._parts):
            x, y = np.empty(shape, dtype), np.empty(shape[0], np.int64)
            for array in (x, y):
                if self._file.readinto(array.data.cast("B")) != array.nbytes:  # type: ignore[attr-defined]
                    raise DatasetError("stream: its temporary file was cut")
            yield x, y
