"""Where documents come from: sequences, polars columns, files; always read in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError, InputError
from ..sources.frames import polars_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from numpy.typing import NDArray

_ROWS = 4096
_BYTES = 4 << 20
_LINES = (".txt", ".text")
_JSON = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_LABELS = 1 << 16
_MIXED = "labels: expected integers or strings, all of one kind"

Part = tuple[list[Any], list[Any] | None]
"""Documents, str or bytes, and their labels where a column has them."""


@dataclass(frozen=True)
class Documents:
    """Documents that can be read as often as a method needs, unless they are an iterator."""

    name: str
    parts: Callable[[], Iterator[Part]]
    once: bool = False
    """They come from an iterator, which ends."""

    def batches(self) -> Iterator[Part]:
        """Yield lists of at most 4,096 documents."""
        return self.parts()

    def twice(self) -> Documents:
        """Return these documents if they can be read again.

        Raises:
            InputError: they come from an iterator.
        """
        if self.once:
            raise InputError(
                f"{self.name}: an iterator is read once and this method reads twice; give a list, "
                "a file, a frame, or a function that returns a new iterator"
            )
        return self


def documents(source: Any, *, column: str | None = None, label: str | None = None) -> Documents:
    """Take documents from wherever they are.

    Args:
        source: a sequence, array or iterable of str or bytes, or a function without arguments that
            returns one; a polars Series, DataFrame or LazyFrame; a path, or list of `pathlib.Path`,
            to text files (`.txt`: one document a line), JSON lines (`.jsonl`, `.ndjson`) or Parquet
            files (`.parquet`, `.pq`), read one after the other. A str that is no path to such a
            file is refused: one document is a list of one.
        column: the text column of frames, JSON lines and Parquet files; default `"text"`, or the
            only column of strings.
        label: the column of labels, where the method takes some.

    Raises:
        InputError: no such column, or no documents.
        DatasetError: a file is missing or cannot be read.
    """
    import polars as pl

    if isinstance(source, Documents):
        return source
    if isinstance(source, str | Path):
        return _files([Path(source)], column, label)
    if isinstance(source, list | tuple) and source and all(isinstance(s, Path) for s in source):
        return _files(list(source), column, label)
    if isinstance(source, pl.Series):
        source = source.to_frame("text")
        column = "text"
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        return Documents("texts", lambda: _frame("texts", source.lazy(), column, label))
    if label is not None:
        raise InputError(f"label={label!r} names a column, but the texts are no table")
    if callable(source):
        return Documents("texts", lambda: _cut(source()))
    if isinstance(source, bytes) or not isinstance(source, Iterable):
        raise InputError(
            f"texts: expected documents, a frame or a path, got {type(source).__name__}"
        )
    return Documents("texts", lambda: _cut(source), once=iter(source) is source)


def _cut(source: Any) -> Iterator[Part]:
    part: list[Any] = []
    size = 0
    for document in source:
        part.append(document)
        size += len(document) if isinstance(document, str | bytes) else 0
        if len(part) == _ROWS or size >= _BYTES:
            yield part, None
            part, size = [], 0
    if part:
        yield part, None


def _files(paths: list[Path], column: str | None, label: str | None) -> Documents:
    for path in paths:
        if path.suffix.lower() not in (*_LINES, *_JSON, *_PARQUET):
            raise InputError(
                f"{path}: not a path that ends in {', '.join((*_LINES, *_JSON, *_PARQUET))}; "
                "documents themselves go into a list"
            )
        if not path.is_file():
            raise DatasetError(f"{path}: no such file")
        if label is not None and path.suffix.lower() in _LINES:
            raise InputError(f"{path}: lines of text have no column {label!r}")

    def parts() -> Iterator[Part]:
        for path in paths:
            yield from _file(path, column, label)

    return Documents(str(paths[0]), parts)


def _file(path: Path, column: str | None, label: str | None) -> Iterator[Part]:
    import polars as pl

    suffix = path.suffix.lower()
    if suffix in _LINES:
        try:
            with path.open("rb") as file:
                yield from _cut(line.rstrip(b"\r\n") for line in file)
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}") from None
        return
    with polars_errors(str(path)):
        lazy = pl.scan_parquet(path) if suffix in _PARQUET else pl.scan_ndjson(path)
    yield from _frame(str(path), lazy, column, label)


def _frame(name: str, lazy: pl.LazyFrame, column: str | None, label: str | None) -> Iterator[Part]:
    import polars as pl

    with polars_errors(name):
        schema = lazy.collect_schema()
        texts = [c for c, dtype in schema.items() if dtype in (pl.String, pl.Binary)]
        if column is None:
            others = [c for c in texts if c != label]
            column = "text" if "text" in texts else others[0] if len(others) == 1 else None
        if column is None or column not in texts:
            what = f"column={column!r} is none" if column is not None else "name one"
            raise InputError(f"{name}: {what} of its text columns: {', '.join(texts) or 'none'}")
        if label is not None and label not in schema:
            raise InputError(f"{name}: no column {label!r}; there are {', '.join(schema)}")
        wanted = [column] if label is None else [column, label]
        first = 0
        batches = lazy.select(wanted).collect_batches(chunk_size=_ROWS, maintain_order=True)
        for frame in batches:
            for part in frame.iter_slices(_ROWS):
                for name_of in wanted:
                    if part[name_of].null_count():
                        row = first + int(part[name_of].is_null().arg_max() or 0)
                        raise InputError(
                            f"{name}: {name_of!r} is null in row {row}; fill it or drop the row"
                        )
                labels = None if label is None else part[label].to_list()
                yield part[column].to_list(), labels
                first += part.height


class LabelCodes:
    """Labels as numbers of classes, four bytes each however they were given."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._parts: list[NDArray[np.uint32]] = []

    def add(self, labels: Any) -> None:
        """Take the labels of more documents: integers or strings, in an array, column or list.

        Raises:
            InputError: something else, or a label that is missing.
        """
        values = labels.to_list() if hasattr(labels, "to_list") else labels
        if isinstance(values, np.ndarray):
            for start in range(0, len(values), _LABELS):
                self._add(values[start : start + _LABELS].tolist())
        else:
            self._add(list(values))

    def _add(self, values: list[Any]) -> None:
        numbers = self._numbers
        try:
            for value in set(values).difference(numbers):
                if value != value:
                    raise InputError("labels: some are NaN; remove those documents")
                numbers[value] = len(numbers)
        except TypeError:
            raise InputError(_MIXED) from None
        self._parts.append(np.fromiter((numbers[v] for v in values), np.uint32, len(values)))

    def codes(self) -> tuple[NDArray[np.uint32], list[Any]]:
        """Return the numbers [n], by the order of the labels, and the labels.

        Raises:
            InputError: labels that have no order.
        """
        try:
            classes = sorted(self._numbers)
        except TypeError:
            raise InputError(_MIXED) from None
        place = np.empty(len(classes), dtype=np.uint32)
        place[[self._numbers[value] for value in classes]] = np.arange(len(classes))
        codes = np.concatenate(self._parts or [np.empty(0, dtype=np.uint32)])
        return place[codes], [c.item() if isinstance(c, np.generic) else c for c in classes]
