"""Running a suite: plan, resume, execute, merge."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .. import _files
from ..errors import InputError, RunError
from ..runs import load_run
from . import local, ray_executor
from .load import load_suite
from .merge import merge
from .outcome import where
from .plan import make_plan
from .spec import Suite
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..results import Run
    from .outcome import Outcome
    from .shard import Shard


MARK = "suite.json"
"""Names the suite whose run a folder is, from before the first shard on."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped; everything finished is kept and the same call resumes it."""

    def __init__(self, folder: Path, done: int, total: int) -> None:
        super().__init__(f"interrupted with {done} of {total} shards done, kept in {folder}")
        self.folder = folder
        self.done = done
        self.total = total


def run(
    suite: str | Path | Suite,
    *,
    executor: Literal["local", "ray"] = "local",
    workers: int | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> Run:
    """Run a suite and return its results; what an earlier run finished is not computed again.

    Results depend on the suite alone: not on the executor, the number of workers, or on how often
    the run was killed and resumed.

    Args:
        suite: a suite file, or one already loaded.
        executor: `"local"` for processes on this machine, `"ray"` for a Ray cluster.
        workers: processes or tasks at once; chosen from the number of cores when None.
        out: the run folder; `runs/<suite name>` when None.
        resume: whether `out` may hold an earlier run of the suite.
        progress: called with samples done, samples in total, and what was last done.

    Returns:
        The run, read back from its folder. Shards that failed are listed in its `errors`.

    Raises:
        SuiteError: the suite is invalid.
        InputError: an option is.
        RunError: the folder cannot be used, or holds something else.
        Interrupted: Ctrl-C or SIGTERM; call again with the same arguments to resume.
    """
    if executor not in ("local", "ray"):
        raise InputError(f'executor={executor!r} is not known; there are "local" and "ray"')
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers} must be at least 1")
    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    if executor == "ray":
        ray_executor.import_ray()
    folder = Path(out) if out is not None else Path("runs") / loaded.name
    check_folder(folder, loaded, resume=resume)
    plan = make_plan(loaded)
    claim(folder, loaded)
    with locked(folder), stoppable() as stopping:
        store = Store(folder)
        store.prepare()
        todo, damaged = store.missing(plan.shards)
        report = _Reporter(plan.shards, todo, progress)
        for line in damaged:
            report.note(line)
        report.note(f"{len(todo)} of {len(plan.shards)} shards to compute")
        execute = local.execute if executor == "local" else ray_executor.execute
        errors: dict[str, str] = {}
        for stage in sorted({shard.stage for shard in todo}):
            ready = _ready([shard for shard in todo if shard.stage == stage], store, errors, report)
            if not ready or stopping():
                continue
            with contextlib.closing(
                execute(ready, folder, workers=workers, stopping=stopping)
            ) as outcomes:
                _collect(outcomes, ready, folder, errors, report)
        merge(plan, store, errors)
        store.clean()
        done = sum((store.shards / shard.key).is_dir() for shard in plan.shards)
        if done + len(errors) < len(plan.shards):
            raise Interrupted(folder, done, len(plan.shards))
    return load_run(folder)


def _ready(
    shards: Sequence[Shard], store: Store, errors: dict[str, str], report: _Reporter
) -> list[Shard]:
    """Return the shards whose needs are met; those that need one that failed fail, too."""
    ready = []
    for shard in shards:
        failed = next((key for key in shard.needs if key in errors), None)
        if failed is not None:
            errors[shard.key] = f"{where(shard)}: needs a shard that failed ({errors[failed]})"
            report.finished(shard, errors[shard.key])
        elif all((store.shards / key).is_dir() for key in shard.needs):
            ready.append(shard)
    return ready


def _collect(
    outcomes: Iterator[Outcome],
    todo: Sequence[Shard],
    folder: Path,
    errors: dict[str, str],
    report: _Reporter,
) -> None:
    shards = {shard.key: shard for shard in todo}
    timings = folder / "timings.jsonl"
    for outcome in outcomes:
        shard = shards[outcome.key]
        if outcome.error is not None:
            errors[outcome.key] = f"{where(shard)}: {outcome.error}"
        with _files._write_errors(timings), timings.open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(outcome), sort_keys=True) + "\n")
        report.finished(shard, outcome.error)


class _Reporter:
    """Counts samples for a progress callable."""

    def __init__(
        self,
        shards: Sequence[Shard],
        todo: Sequence[Shard],
        progress: Callable[[int, int, str], None] | None,
    ) -> None:
        self.progress = progress
        self.total = sum(shard.rows[1] - shard.rows[0] for shard in shards)
        self.done = self.total - sum(shard.rows[1] - shard.rows[0] for shard in todo)

    def note(self, line: str) -> None:
        if self.progress is not None:
            self.progress(self.done, self.total, line)

    def finished(self, shard: Shard, error: str | None) -> None:
        self.done += shard.rows[1] - shard.rows[0]
        self.note(where(shard) if error is None else f"{where(shard)}: {error}")


def check_folder(folder: Path, suite: Suite, *, resume: bool) -> None:
    """Check that a folder may be used for a run of `suite`; writes nothing.

    Raises:
        RunError: it is not a folder, cannot be written, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is not a folder; give another --out")
    if not folder.exists():
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise RunError(f"cannot write {folder}: read-only; choose a folder that can be written")
    if not any(folder.iterdir()):
        return
    if not resume:
        raise RunError(f"{folder}: is not empty; resume it, remove it or give another folder")
    mark = folder / MARK
    if not mark.exists():
        raise RunError(f"{folder}: holds something that is no suite's run; give another folder")
    found = _files.read_json(mark)
    name = found.get("name") if isinstance(found, dict) else None
    if name != suite.name:
        raise RunError(f'{folder}: holds a run of suite "{name}"; give another folder')


def claim(folder: Path, suite: Suite) -> None:
    """Make the run folder and mark it as the suite's.

    Raises:
        RunError: it cannot be written.
    """
    with _files._write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARK).exists():
        _files.write_json(folder / MARK, {"name": suite.name})


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second run out of the folder.

    Raises:
        RunError: there is one already.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"{folder}: another run is using it; wait for it or stop it") from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop; a second one interrupts at once.

    Yields a function that tells whether to stop. Outside the main thread signals are left alone.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def handle(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
