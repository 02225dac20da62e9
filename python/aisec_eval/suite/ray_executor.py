"""The Ray executor: shards as tasks on a cluster. The only file that imports `ray`.

Tasks write their results into the run folder themselves, which every node must therefore see under
the same path, and return an outcome only. Ray starts a task again when its worker or node dies;
that is safe because a shard's bytes depend on its inputs alone.

The cluster is the one in `RAY_ADDRESS`, or one started on this machine for the run. Whoever can
reach a Ray cluster can run code on it: keep it on a trusted network.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CapabilityError, RunError
from .local import GRACE, usable_cores
from .outcome import ATTEMPTS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from .shard import Shard


def execute(
    shards: Sequence[Shard],
    folder: Path,
    *,
    workers: int | None,
    stopping: Callable[[], bool],
) -> Generator[Outcome]:
    """Compute shards as Ray tasks; yield an outcome for each, in order of completion.

    Args:
        shards: what to compute.
        folder: the run folder, on a file system all nodes share.
        workers: how many tasks run at once; as many as the cluster has cores when None.
        stopping: asked often; once true, nothing new starts and what does not finish within
            `GRACE` seconds is cancelled.

    Raises:
        CapabilityError: Ray is not installed.
        RunError: the cluster cannot be reached or started.
    """
    ray = import_ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, workers)
    try:
        slots = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        threads = max(1, len(usable_cores()) // slots) if _is_local(ray) else 1
        yield from _outcomes(ray, shards, folder.resolve(), slots, threads, stopping)
    finally:
        if ours:
            ray.shutdown()


def import_ray() -> Any:
    """Import Ray without its usage reports.

    Raises:
        CapabilityError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise CapabilityError(
            "executor 'ray' needs Ray, which is not installed: pip install 'aisec-eval[ray]'"
        ) from None
    return ray


def _connect(ray: Any, workers: int | None) -> None:
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = (
        {"address": address}
        if address
        else {
            "address": "local",
            "num_cpus": workers or len(usable_cores()),
            "include_dashboard": False,
        }
    )
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            # JAX warns of every fork; Ray's are followed by exec at once, which is safe.
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
            ray.init(logging_level="ERROR", log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        place = f"reach the Ray cluster at {address}" if address else "start Ray on this machine"
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"cannot {place}: {reason}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray takes it over; how a run stops is the run's


def _is_local(ray: Any) -> bool:
    return len([node for node in ray.nodes() if node["Alive"]]) == 1


def _task(shard: dict[str, Any], folder: str, threads: int) -> dict[str, Any]:
    """Compute one shard in a Ray worker; models and data stay loaded between tasks."""
    from .shard import Shard
    from .worker import compute, use_threads

    use_threads(threads)
    return vars(compute(Shard.from_json(shard), Path(folder), worker=f"ray-{os.getpid()}"))


def _outcomes(
    ray: Any,
    shards: Sequence[Shard],
    folder: Path,
    slots: int,
    threads: int,
    stopping: Callable[[], bool],
) -> Generator[Outcome]:
    remote = ray.remote(max_retries=ATTEMPTS - 1, num_cpus=1)(_task)
    todo = deque(shards)
    running: dict[Any, Shard] = {}
    deadline = None
    while todo or running:
        if stopping():
            todo.clear()
            deadline = deadline or time.monotonic() + GRACE
            if time.monotonic() > deadline:
                for reference in running:
                    ray.cancel(reference, force=True)
                return
        while todo and len(running) < slots:
            shard = todo.popleft()
            running[remote.remote(shard.to_json(), str(folder), threads)] = shard
        done, _ = ray.wait(list(running), num_returns=1, timeout=0.2)
        for reference in done:
            shard = running.pop(reference)
            try:
                yield Outcome(**ray.get(reference))
            except ray.exceptions.RayError as error:
                reason = type(error).__name__
                yield Outcome(
                    shard.key,
                    worker="ray",
                    error=f"its worker died {ATTEMPTS} times ({reason})",
                )
