"""The local executor: worker processes on this machine.

Workers are fresh interpreters that speak JSON over pipes: nothing is pickled, the caller's script
is not imported again, and a crash in a model takes one worker with it, not the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Any, cast

from ..errors import RunError
from .outcome import ATTEMPTS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from .shard import Shard

GRACE = 5.0
"""Seconds that shards in flight get to finish after an interruption."""


def execute(
    shards: Sequence[Shard],
    folder: Path,
    *,
    workers: int | None,
    stopping: Callable[[], bool],
) -> Generator[Outcome]:
    """Compute shards on `workers` processes; yield an outcome for each, in order of completion.

    Args:
        shards: what to compute.
        folder: the run folder; workers write results into its store.
        workers: how many processes; one for every four cores when None. The cores are split
            among them.
        stopping: asked often; once true, nothing new starts and what does not finish within
            `GRACE` seconds is dropped.

    Raises:
        RunError: workers cannot be started at all.
    """
    cores = usable_cores()
    count = min(workers or max(1, len(cores) // 4), len(shards))
    pool = _Pool(shards, folder, [split_cores(cores, count, i) for i in range(count)], stopping)
    yield from pool.outcomes()


def usable_cores() -> list[int]:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def split_cores(cores: Sequence[int], workers: int, index: int) -> list[int]:
    """Return the cores of worker `index`: a fair, contiguous part; shared if there are too few."""
    if workers >= len(cores):
        return [cores[index % len(cores)]]
    return list(cores[index * len(cores) // workers : (index + 1) * len(cores) // workers])


class _Worker:
    """One worker process and the shard it holds."""

    def __init__(self, name: str, folder: Path, cores: Sequence[int]) -> None:
        self.name = name
        self.cores = cores
        self.ready = False
        self.shard: Shard | None = None
        self.pending = ""
        """An answer that has not come whole yet."""
        threads = str(len(cores))
        environment = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"),
            threads,
        )
        environment["POLARS_MAX_THREADS"] = "1"
        log = folder / ".tmp" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log.open("w+", encoding="utf-8", errors="replace")
        pinned = [str(core) for core in cores] if len(cores) < len(usable_cores()) else []
        command = [sys.executable, "-P", "-m", "aisec_eval.suite.worker"]
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, str(folder), name, threads, *pinned],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            encoding="utf-8",
            env=os.environ | environment,
        )
        self.questions = cast("IO[str]", self.process.stdin)
        self.answers = cast("IO[str]", self.process.stdout)

    def give(self, shard: Shard) -> None:
        """Hand a shard over; a worker that is already dead shows at its answers."""
        self.shard = shard
        with contextlib.suppress(BrokenPipeError):
            self.questions.write(json.dumps(shard.to_json()) + "\n")
            self.questions.flush()

    def hear(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the answers that have come, and whether there will be no more."""
        data = os.read(self.answers.fileno(), 1 << 16)
        *lines, self.pending = (self.pending + data.decode()).split("\n")
        return [json.loads(line) for line in lines], not data

    def end(self, patience: float = 0.0) -> str:
        """End the process; return how it ended and what it said last."""
        try:
            code = self.process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        for pipe in (self.questions, self.answers):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.log.seek(0)
        last = next((x.strip() for x in reversed(self.log.readlines()) if x.strip()), "")
        self.log.close()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{how}; last output: {last[:200]}" if last else how


class _Pool:
    """Keeps every worker busy, and replaces the ones that die."""

    def __init__(
        self,
        shards: Sequence[Shard],
        folder: Path,
        cores: Sequence[Sequence[int]],
        stopping: Callable[[], bool],
    ) -> None:
        self.todo = deque(shards)
        self.folder = folder
        self.cores = cores
        self.stopping = stopping
        self.workers: list[_Worker] = []
        self.attempts: dict[str, int] = {}
        self.failed_starts = 0
        self.selector = selectors.DefaultSelector()

    def outcomes(self) -> Iterator[Outcome]:
        deadline = None
        try:
            for index, cores in enumerate(self.cores):
                self.start(f"local-{index}", cores)
            while self.todo or any(worker.shard for worker in self.workers):
                if self.stopping():
                    self.todo.clear()
                    deadline = deadline or time.monotonic() + GRACE
                    if time.monotonic() > deadline:
                        return
                for key, _ in self.selector.select(timeout=0.2):
                    yield from self.serve(key.data)
        finally:
            for worker in self.workers:
                worker.end()
            self.selector.close()

    def start(self, name: str, cores: Sequence[int]) -> None:
        try:
            worker = _Worker(name, self.folder, cores)
        except OSError as error:
            raise RunError(f"cannot start a worker process: {error.strerror}") from None
        self.workers.append(worker)
        self.selector.register(worker.answers, selectors.EVENT_READ, worker)

    def serve(self, worker: _Worker) -> Iterator[Outcome]:
        """Take a worker's answers, give it the next shard, or replace it if it has died."""
        answers, ended = worker.hear()
        for answer in answers:
            worker.shard = None
            if worker.ready:
                yield Outcome(**answer)
            worker.ready = True
            self.failed_starts = 0
        if ended:
            yield from self.bury(worker)
        elif answers and self.todo:
            worker.give(self.todo.popleft())

    def bury(self, worker: _Worker) -> Iterator[Outcome]:
        """Retry or give up the shard a dead worker held, and start another worker."""
        self.selector.unregister(worker.answers)
        self.workers.remove(worker)
        how = worker.end(patience=5.0)
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts >= ATTEMPTS:
                raise RunError(f"worker processes do not start ({how}); try: aisec-eval doctor")
        shard = worker.shard
        if shard is not None:
            attempts = self.attempts[shard.key] = self.attempts.get(shard.key, 0) + 1
            if attempts < ATTEMPTS:
                self.todo.appendleft(shard)
            else:
                died = f"its worker died {attempts} times ({how})"
                yield Outcome(shard.key, worker=worker.name, error=died)
        if self.todo and not self.stopping():
            self.start(worker.name, worker.cores)
