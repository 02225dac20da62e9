"""Manifests of what stands at URLs now."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .fetch import Fetch, UnreachableError, fetch
from .journal import work_through
from .manifest import COLUMNS, Manifest, check_suffix, schema
from .perceptual import NotAnImageError, describe, pillow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def build_manifest(
    urls: Iterable[str],
    path: str | Path | None = None,
    *,
    perceptual: bool = True,
    fetch: Fetch | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Manifest:
    """Download every URL and record what came.

    Args:
        urls: of http or https; a URL may occur more than once.
        path: where the manifest is written, Parquet or JSON lines by its end, once it is complete.
            Beside it `<path>.part` keeps what is done: a call that was stopped goes on from there.
        perceptual: hash images by what they look like, too (needs Pillow: `aisec-eval[web]`).
        fetch: how to download.
        progress: called as `progress(URLs done, all, note)`.

    Returns:
        A row a URL; where nothing came, the row says why.

    Raises:
        InputError: no text where a URL should be, a path of another kind, or Pillow is missing.
        DatasetError: the manifest cannot be written.
    """
    import polars as pl

    options = Fetch() if fetch is None else fetch
    if isinstance(urls, str | bytes):
        raise InputError("urls: expected a list of URLs, got one text")
    items = list(urls)
    for row, url in enumerate(items):
        if not isinstance(url, str):
            raise InputError(f"urls: row {row} is no text but {type(url).__name__}")
    if perceptual:
        pillow()
    target = None if path is None else Path(path)
    if target is not None:
        check_suffix(target)
    journal = None if target is None else target.with_name(f"{target.name}.part")
    rows = work_through(
        items,
        lambda url: record(url, options, perceptual),
        workers=options.workers,
        journal=journal,
        identity=["manifest", perceptual, options.max_bytes],
        progress=progress,
        note="URLs",
    )
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    manifest = Manifest(pl.DataFrame(columns, schema=schema()))
    if target is not None and journal is not None:
        manifest.save(target)
        with suppress(FileNotFoundError):
            journal.unlink()
    return manifest


def record(url: str, options: Fetch, perceptual: bool) -> dict[str, Any]:
    """Return the row of one URL."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["url"] = url
    try:
        body = fetch(url, options)
    except UnreachableError as error:
        row["error"] = str(error)
        return row
    row |= {
        "sha256": hashlib.sha256(body.data).hexdigest(),
        "size": len(body.data),
        "mime": body.mime or None,
    }
    if perceptual:
        # What a body is, not what its server says.
        with suppress(NotAnImageError):
            row["phash"], row["mime"] = describe(body.data)
    return row
