"""Substrings that documents share, exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ..source import MIB
from .documents import documents
from .near import temporary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

MEMORY = 1024 * MIB
"""Bytes for documents and positions, unless told."""


@dataclass(frozen=True, eq=False)
class DuplicateSubstrings:
    """Bytes of documents that are in windows which also occur elsewhere; a row a span [m]."""

    document: NDArray[np.int64]
    start: NDArray[np.int64]
    """First byte of the span in its document (of its UTF-8, where it is a str)."""
    end: NDArray[np.int64]
    """One past its last byte."""
    copy: NDArray[np.bool_]
    """Every window of the span occurs earlier, too. Spans of windows that occur here first and
    again later have False; the two kinds may overlap."""
    source_document: NDArray[np.int64]
    """Where the span's first window occurs first; the span itself where it is no copy."""
    source_start: NDArray[np.int64]
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def frame(self) -> pl.DataFrame:
        """The spans as a table."""
        import polars as pl

        columns = ("document", "start", "end", "copy", "source_document", "source_start")
        return pl.DataFrame({name: getattr(self, name) for name in columns})


def duplicate_substrings(
    texts: Any,
    *,
    length: int = 50,
    within: bool = False,
    column: str | None = None,
    memory_limit: int | None = None,
    folder: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> DuplicateSubstrings:
    """Find all substrings of at least `length` bytes that occur in more than one document.

    Exact: a byte is in a span if and only if some window of `length` bytes over it occurs in
    another document (Lee et al., ACL 2022, arXiv:2107.06499, who use a suffix array; here windows
    are found by winnowing, Schleimer et al., SIGMOD 2003, and their bytes are compared). Without
    the spans that are copies, one occurrence of everything is left. Nothing is folded: case, white
    space and Unicode forms count. Spans of a str may begin or end inside a character.

    Args:
        texts: documents, a polars frame or files: see `documents`.
        length: bytes of the shortest substring, at least 2; best 20 or more.
        within: count windows that occur twice in one document only, too.
        column: the text column of tables.
        memory_limit: bytes for the documents, which stay in memory (up to three quarters of it;
            they take 2.1 times their bytes), and for positions; the rest goes to temporary files
            of 12 bytes an anchor (about 4 / `length` a byte) or repeated window, twice.
        folder: of the temporary files; default the system's.
        progress: called as `progress(documents done, 0, note)`.

    Returns:
        Spans in the order of documents and positions.

    Raises:
        InputError: an option or document does not fit, or documents do not fit in memory.
        DatasetError: a file cannot be read, or temporary files not be written.
    """
    from ..._core import Substrings

    if not isinstance(length, int) or not 2 <= length <= 1 << 30:
        raise InputError(f"length={length!r} must be at least 2 bytes")
    source = documents(texts, column=column)
    limit = MEMORY if memory_limit is None else memory_limit
    with temporary(limit, folder, source.name) as (scratch, memory):
        search = Substrings(length, within, scratch, memory)
        count = 0
        for part, _ in source.batches():
            search.add(part)
            count += len(part)
            if progress is not None:
                progress(count, 0, "documents")
        rows, copy = search.finish()
    document, start, end, source_document, source_start = rows.T.astype(np.int64)
    info = {"length": length, "within": within, "documents": count}
    return DuplicateSubstrings(document, start, end, copy, source_document, source_start, info)
