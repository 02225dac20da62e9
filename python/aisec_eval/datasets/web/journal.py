"""Work on many URLs at once, kept as it is done, so that what was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import DatasetError
from .manifest import check_suffix, save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import polars as pl


@dataclass(frozen=True)
class Output:
    """A table that appears at `path` once it is whole, if anywhere; until then there is a journal.

    Raises:
        InputError: the path ends in nothing known.
    """

    path: Path | None

    def __post_init__(self) -> None:
        if self.path is not None:
            check_suffix(self.path)

    @property
    def journal(self) -> Path | None:
        """Where what is done is kept."""
        return None if self.path is None else self.path.with_name(f"{self.path.name}.part")

    def finish(self, frame: pl.DataFrame) -> None:
        """Write the table and remove the journal.

        Raises:
            DatasetError: it cannot be written.
        """
        if self.path is not None and self.journal is not None:
            save(frame, self.path)
            with suppress(FileNotFoundError):
                self.journal.unlink()


def work_through(
    items: Sequence[Any],
    work: Callable[[Any], dict[str, Any]],
    *,
    workers: int,
    journal: Path | None,
    identity: Any,
    progress: Callable[[int, int, str], None] | None,
    note: str,
) -> list[dict[str, Any]]:
    """Return `work(item)` of every item, in their order.

    Args:
        items: what to work on.
        work: gives something JSON can hold; runs on threads.
        workers: threads.
        journal: a file that gets a line for each item when it is done. What a file of an earlier,
            unfinished call with the same items and identity has is not done again. The caller
            removes it when the result is safe.
        identity: what the results depend on besides the items.
        progress: called as `progress(done, all, note)`.
        note: for `progress`.

    Raises:
        DatasetError: the journal cannot be written.
    """
    results: dict[int, dict[str, Any]] = {}
    with ExitStack() as stack:
        file = None
        if journal is not None:
            try:
                results = _open(journal, items, identity)
                file = stack.enter_context(journal.open("a", encoding="utf-8"))
            except OSError as error:
                raise DatasetError(f"{journal}: {error.strerror}") from None
        left = iter([index for index in range(len(items)) if index not in results])
        pool = ThreadPoolExecutor(workers, thread_name_prefix="aisec-web")
        # An interrupt waits for nothing but the downloads under way.
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        running: dict[Future[dict[str, Any]], int] = {}
        while True:
            for index in left:
                running[pool.submit(work, items[index])] = index
                if len(running) >= 2 * workers:
                    break
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                index = running.pop(future)
                results[index] = future.result()
                if file is not None:
                    file.write(json.dumps([index, results[index]], ensure_ascii=False) + "\n")
            if file is not None:
                file.flush()
            if progress is not None:
                progress(len(results), len(items), note)
    return [results[index] for index in range(len(items))]


def _open(journal: Path, items: Sequence[Any], identity: Any) -> dict[int, dict[str, Any]]:
    """Return what is done, and leave a file that lines can be added to."""
    text = json.dumps([identity, list(items)], ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    results: dict[int, dict[str, Any]] = {}
    lines: list[str] = []
    if journal.exists():
        lines = journal.read_text(encoding="utf-8", errors="replace").split("\n")
    if lines and lines[0] == digest:
        for line in lines[1:]:
            try:
                index, result = json.loads(line)
            except (ValueError, TypeError):
                continue  # The last line of a call that was killed.
            if isinstance(index, int) and 0 <= index < len(items) and isinstance(result, dict):
                results[index] = result
    journal.parent.mkdir(parents=True, exist_ok=True)
    kept = [json.dumps(pair, ensure_ascii=False) for pair in results.items()]
    part = journal.with_name(f".{journal.name}.tmp")
    part.write_text("\n".join([digest, *kept]) + "\n", encoding="utf-8")
    os.replace(part, journal)
    return results
