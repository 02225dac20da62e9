"""Features in Parquet files that a suite scans where they are: never loaded whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DatasetError, SuiteError, UnsafeArtifactError
from .identity import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..detectors.sources.parquet import ParquetSource
    from .inputs import DataSource

_MARKS = "*?["


def is_table(source: str, labels: str | None) -> bool:
    """Whether a suite means files to scan in place: a folder, a pattern, or a label column."""
    return labels is not None or source.endswith("/") or any(mark in source for mark in _MARKS)


def table_files(source: str) -> list[Path]:
    """Return the Parquet files a folder, a pattern or a path stands for, in their order."""
    path = Path(source)
    if path.is_dir():
        return sorted(f for f in path.rglob("*") if f.suffix.lower() in (".parquet", ".pq"))
    if any(mark in source for mark in _MARKS):
        return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    return [path]


@dataclass(frozen=True)
class Table:
    """An open table."""

    source: ParquetSource
    rows: int
    footers: str
    """Digest of what the files' footers say: cheap to compare before every shard."""


def open_table(data: DataSource) -> Table:
    """Open the files of a table; messages and results call it by its id.

    Raises:
        DatasetError: no file, one cannot be read, or their columns differ.
        InputError: the labels are no column of integers.
    """
    from ..detectors.source import WINDOW
    from ..detectors.sources.parquet import open_parquet

    files = table_files(data.source)
    if not files:
        raise DatasetError(f"data {data.name}: {data.source} holds no Parquet files")
    opened: Any = open_parquet(files, data.labels, WINDOW)
    footers = digest([[file.rows, file.state[0]] for file in opened.files])
    return Table(replace(opened, name=data.name), opened.rows, footers)


@cache
def _file_digest(path: Path, size: int, modified: int) -> str:
    del size, modified  # what tells one state of a file from the next
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None


def content_digest(data: DataSource) -> str:
    """Return the SHA-256 of the files' contents, in order; reads all of them once."""
    found = []
    for path in table_files(data.source):
        status = path.stat()
        found.append(_file_digest(path, status.st_size, status.st_mtime_ns))
    return digest(found)


def table_identity(data: DataSource, table: Table) -> dict[str, Any]:
    """Return what names a table in the identity of a shard."""
    return {
        "content": content_digest(data),
        "footers": table.footers,
        "labels": data.labels,
        "rows": table.rows,
    }


def same_table(data: DataSource, planned: Mapping[str, Any]) -> ParquetSource:
    """Open a table again and check that it is the one a shard was planned for.

    Raises:
        DatasetError: it changed.
    """
    table = open_table(data)
    if table.footers != planned["footers"] or table.rows != planned["rows"]:
        raise DatasetError(f"data {data.name}: changed since the run was planned; run it again")
    return table.source


def check_confined(source: str, folder: Path) -> None:
    """Check that every file of a table stands inside the suite's folder.

    Raises:
        SuiteError: there is none.
        UnsafeArtifactError: one does not.
    """
    files = table_files(source)
    if not files:
        raise SuiteError("matches no Parquet file beside the suite")
    for file in files:
        if not file.resolve().is_relative_to(folder):
            raise UnsafeArtifactError(f'"{file.name}" leaves the suite\'s folder')
        if not file.is_file():
            raise SuiteError(f'no file "{file.name}" beside the suite')
