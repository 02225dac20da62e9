"""Manifests of what stands at URLs now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from .bodies import Look
from .fetch import Fetch
from .journal import Output, work_through
from .manifest import COLUMNS, EMBEDDING, Manifest, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .bodies import Embed


def build_manifest(
    urls: Iterable[str],
    path: str | Path | None = None,
    *,
    perceptual: bool = True,
    embed: Embed | None = None,
    fetch: Fetch | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Manifest:
    """Download every URL and record what came.

    Args:
        urls: of http or https; a URL may occur more than once.
        path: where the manifest is written, Parquet or JSON lines by its end, once it is complete.
            Beside it `<path>.part` keeps what is done: a call that was stopped goes on from there.
        perceptual: hash images by what they look like, too (needs Pillow: `aisec-eval[web]`).
        embed: gives the embedding of a body, a list of at most 65,536 numbers, or None where it
            has none; called with bytes, by one thread at a time. It goes into a column more,
            `embedding`, and `verify` compares cosines.
        fetch: how to download.
        progress: called as `progress(URLs done, all, note)`.

    Returns:
        A row a URL; where nothing came, the row says why.

    Raises:
        InputError: no text where a URL should be, a path of another kind, `embed` fails, or Pillow
            is missing.
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
    look = Look(options, perceptual, embed)
    look.check()
    output = Output(None if path is None else Path(path))
    rows = work_through(
        items,
        lambda url: {"url": url, **look.at(url)[0]},
        workers=options.workers,
        journal=output.journal,
        identity=["manifest", perceptual, embed is not None, options.max_bytes],
        progress=progress,
        note="URLs",
    )
    names = COLUMNS if embed is None else (*COLUMNS, EMBEDDING)
    columns = {name: [row[name] for row in rows] for name in names}
    manifest = Manifest(pl.DataFrame(columns, schema=schema(names)))
    output.finish(manifest.frame)
    return manifest
