"""Parquet files: local, in a store that fsspec knows, or open in binary mode."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError, InputError
from ..source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..._core import Table
    from ..source import Batch


@dataclass(frozen=True)
class File:
    """Something that opens as a table, and how it looked when it was first opened."""

    name: str
    open: Callable[[], tuple[Table, object]]
    """Gives the table and what changes when the file is written again."""
    rows: int
    state: object


@dataclass(frozen=True)
class ParquetSource(Source):
    """Files of one schema, read one after the other."""

    files: tuple[File, ...]
    dim: int
    single: bool
    window: int
    label: str | None = None

    @property
    def window_bytes(self) -> int:
        """Decoded columns, a row group at a time where it fits."""
        return self.window

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Fill one buffer again and again; batches go over the ends of files."""
        size = max(1, min(rows, (self.rows or rows) - first))
        x = np.empty((size, self.dim), dtype=np.float32 if self.single else np.float64)
        y = np.empty(size, dtype=np.int64)
        filled = 0
        for file in self.files:
            if first >= file.rows:
                first -= file.rows
                continue
            with _one_line(file.name):
                table, state = file.open()
                if state != file.state:
                    raise DatasetError(f"{file.name}: changed since it was opened")
                reader = table.scan(first, memory_limit=self.window)
                first = 0
                while count := reader.read(x[filled:], y[filled:]):
                    filled += count
                    if filled == size:
                        yield x, y.copy()
                        filled = 0
        if filled:
            yield x[:filled], y[:filled].copy()


def open_parquet(files: Sequence[Any], labels: Any, window: int) -> Source:
    """Open files of one schema; URLs, folders and patterns of a store stand for many.

    Raises:
        InputError: `labels` is no column of integers.
        DatasetError: a file cannot be read, or has other columns than the first.
    """
    if labels is not None and not isinstance(labels, str):
        raise InputError(f"labels={labels!r} must name a column of the file")
    opened = []
    tables = []
    for name, open_file in (pair for file in files for pair in _expand(file, labels)):
        with _one_line(name):
            table, state = open_file()
        opened.append(File(name, open_file, table.rows, state))
        tables.append(table)
        _check_schema(name, table, opened[0].name, tables[0])
    name = opened[0].name if len(opened) == 1 else f"{opened[0].name} and {len(opened) - 1} more"
    dim, single = tables[0].dim, all(table.single for table in tables)
    if not single and any(table.single for table in tables):
        odd = next(file.name for file, t in zip(opened, tables, strict=True)
                   if t.single != tables[0].single)  # fmt: skip
        raise DatasetError(f"{odd}: its columns have other types than those of {opened[0].name}")
    rows = sum(file.rows for file in opened)
    size = dim * (4 if single else 8)
    label = tables[0].label
    return ParquetSource(name, rows, size, tuple(opened), dim, single, window, label)


def _check_schema(name: str, table: Table, first_name: str, first: Table) -> None:
    if table.features != first.features or table.label != first.label:
        ours = [*table.features, *([table.label] if table.label else [])]
        theirs = [*first.features, *([first.label] if first.label else [])]
        missing = [column for column in theirs if column not in ours]
        added = [column for column in ours if column not in theirs]
        if missing:
            what = f"column {missing[0]!r} is missing"
        elif added:
            what = f"column {added[0]!r} is not"
        else:
            what = "columns are in another order than"
        raise DatasetError(f"{name}: {what} in {first_name}; every file needs the same columns")
    if table.dim != first.dim:
        raise DatasetError(f"{name}: {table.dim} features a row, {first.dim} in {first_name}")


def _expand(file: Any, label: str | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    if isinstance(file, Path) or (isinstance(file, str) and "://" not in file):
        yield str(file), _local(Path(file), label)
    elif isinstance(file, str):
        yield from _remote(file, label)
    else:
        yield str(getattr(file, "name", "features")), _open_file(file, label)


def _local(path: Path, label: str | None) -> Callable[[], tuple[Table, object]]:
    def open_file() -> tuple[Table, object]:
        from ..._core import Table

        table = Table(str(path), label=label)
        return table, (table.fingerprint, path.stat().st_mtime_ns)

    return open_file


def _remote(url: str, label: str | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    try:
        import fsspec
    except ImportError:
        raise InputError(f"{url}: URLs need fsspec: pip install fsspec") from None
    with _one_line(url):
        try:
            system, path = fsspec.core.url_to_fs(url)
            if system.isdir(path):
                pattern = path.rstrip("/") + "/**/*.parquet"
                paths = sorted(system.glob(pattern))
            elif any(mark in path for mark in "*?[") and not system.exists(path):
                paths = sorted(system.glob(path))
            else:
                paths = [path]
        except (ValueError, ImportError) as error:
            raise OSError(str(error)) from None
    if not paths:
        raise DatasetError(f"{url}: no .parquet files there")
    for path in paths:
        yield (url if len(paths) == 1 else path), _object(system, path, label)


def _object(system: Any, path: str, label: str | None) -> Callable[[], tuple[Table, object]]:
    def open_file() -> tuple[Table, object]:
        from ..._core import Table

        system.invalidate_cache()
        information = system.info(path)
        # The names that stores give to what changes with the content.
        state = tuple(str(information.get(key)) for key in ("ETag", "etag", "mtime", "created"))

        def read(offset: int, length: int) -> bytes:
            return bytes(system.cat_file(path, start=offset, end=offset + length))

        table = Table(read, information["size"], label)
        return table, (table.fingerprint, state)

    return open_file


def _open_file(file: Any, label: str | None) -> Callable[[], tuple[Table, object]]:
    lock = threading.Lock()

    def read(offset: int, length: int) -> bytes:
        with lock:
            file.seek(offset)
            parts = []
            while length and (part := file.read(length)):
                parts.append(part)
                length -= len(part)
        return b"".join(parts)

    def open_file() -> tuple[Table, object]:
        from ..._core import Table

        with lock:
            size = file.seek(0, 2)
        table = Table(read, size, label)
        return table, table.fingerprint

    return open_file


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{name}: no such file") from None
    except OSError as error:
        reason = " ".join(str(error.strerror or error).split())
        raise DatasetError(f"{name}: {reason}") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: {' '.join(str(error).split())}") from None
