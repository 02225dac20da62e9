"""A worker process: reads shards as JSON lines, puts results into the store, answers in JSON lines.

Run as `python -m aisec_eval.suite.worker FOLDER NAME THREADS [CPU ...]`. It ends when its standard
input does, so no worker outlives the run that started it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .outcome import Outcome
    from .shard import Shard


def main(arguments: list[str]) -> None:
    """Serve shards until standard input ends."""
    folder, name, threads, *cpus = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what Ctrl-C means
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus})  # the one limit XLA obeys
    work: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(work,), daemon=True).start()
    use_threads(int(threads))

    from .shard import Shard

    answers.write('{"ready": true}\n')
    answers.flush()
    while True:
        outcome = compute(Shard.from_json(work.get()), Path(folder), worker=name)
        answers.write(json.dumps(vars(outcome)) + "\n")
        answers.flush()


def use_threads(threads: int) -> None:
    """Give the native engine this many threads."""
    from .. import _core

    _core.set_threads(threads)


def compute(shard: Shard, folder: Path, *, worker: str) -> Outcome:
    """Execute a shard and store its result; never raises for what the shard does wrong."""
    from .execute_shard import execute_shard, one_line
    from .outcome import Outcome
    from .store import Store

    started = time.monotonic()
    error = None
    try:
        store = Store(folder)
        store.write(shard, execute_shard(shard, store))
    except Exception as problem:
        error = one_line(problem)
    return Outcome(shard.key, round(time.monotonic() - started, 3), worker, error)


def _listen(work: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        work.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
