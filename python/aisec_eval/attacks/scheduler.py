"""Keeps fixed-shape batches full: work that ends leaves, the next in the queue takes its place.

XLA compiles once a shape, so a batch has one of a few sizes (buckets). State lives on the device;
every few turns the host looks which rows have ended, collects them and refills their places. When
the queue is empty and few rows are left, they move to a smaller bucket.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BUCKETS = (8, 64, 128, 256, 1024)
"""Batch sizes that are compiled."""

TURNS = 8
"""Steps between two looks at which rows have ended."""


class Kernel(Protocol):
    """A search whose rows are advanced together; `State` is a dict of arrays, first axis rows."""

    def start(self, items: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the initial state of some work items, one row each; `done` is all False."""

    def step(self, state: dict[str, Any]) -> dict[str, Any]:
        """Advance the rows that are not `done`; leaves the others as they are."""

    def collect(self, items: NDArray[np.int64], state: dict[str, NDArray[Any]]) -> None:
        """Take the final rows of some work items, on the host."""


def bucket_for(rows: int, limit: int) -> int:
    """Return the smallest bucket that holds `rows`, but none above `limit` if it can be helped."""
    allowed = [b for b in BUCKETS if b <= limit] or [limit]
    return next((b for b in allowed if b >= rows), allowed[-1])


def run(
    kernel: Kernel,
    count: int,
    limit: int,
    tick: Callable[[int], None] | None = None,
) -> None:
    """Run work items 0..count-1 to their end.

    Args:
        kernel: what to run.
        count: number of work items.
        limit: largest batch.
        tick: called with the number of items that ended, after every look.
    """
    size = bucket_for(count, limit)
    waiting = 0
    items = np.full(size, -1, np.int64)
    state: dict[str, Any] | None = None
    while True:
        free = np.flatnonzero(items < 0)
        new = np.arange(waiting, min(count, waiting + len(free)), dtype=np.int64)
        waiting += len(new)
        if len(new):
            rows = free[: len(new)]
            items[rows] = new
            state = _refill(state, rows, size, kernel.start(new))
        live = np.flatnonzero(items >= 0)
        if len(live) == 0 or state is None:
            return
        smaller = bucket_for(len(live), limit)
        if waiting == count and 2 * smaller <= size:
            state = _move(state, live, smaller)
            items = np.concatenate([items[live], np.full(smaller - len(live), -1, np.int64)])
            size = smaller
        for _ in range(TURNS):
            state = kernel.step(state)
        done = np.asarray(state["done"]) & (items >= 0)
        if done.any():
            rows = np.flatnonzero(done)
            kernel.collect(items[rows], {k: np.asarray(v)[rows] for k, v in state.items()})
            items[rows] = -1
            if tick is not None:
                tick(len(rows))


def _refill(
    state: dict[str, Any] | None,
    rows: NDArray[np.int64],
    size: int,
    new: dict[str, NDArray[Any]],
) -> dict[str, Any]:
    """Put new rows into a batch of `size`; places without work are done from the start."""
    import jax.numpy as jnp

    fresh = {key: np.zeros((size, *values.shape[1:]), values.dtype) for key, values in new.items()}
    fresh["done"][:] = True
    for key, values in new.items():
        fresh[key][rows] = values
    placed = {key: jnp.asarray(values) for key, values in fresh.items()}
    if state is None:
        return placed
    is_new = np.zeros(size, np.bool_)
    is_new[rows] = True
    select, _ = _compiled()
    result: dict[str, Any] = select(is_new, placed, state)
    return result


def _move(state: dict[str, Any], rows: NDArray[np.int64], size: int) -> dict[str, Any]:
    """Gather `rows` into a smaller batch; the places left over are done."""
    index = np.zeros(size, np.int32)
    index[: len(rows)] = rows
    _, gather = _compiled()
    result: dict[str, Any] = gather(index, np.arange(size) >= len(rows), state)
    return result


@cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the two ways rows move, each one call for the whole state."""
    import jax
    import jax.numpy as jnp

    def select(is_new: Any, new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        def pick(a: Any, b: Any) -> Any:
            return jnp.where(is_new.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        return {key: pick(new[key], old[key]) for key in new}

    def gather(index: Any, unused: Any, old: dict[str, Any]) -> dict[str, Any]:
        rows = {key: value[index] for key, value in old.items()}
        return {**rows, "done": rows["done"] | unused}

    return jax.jit(select), jax.jit(gather)
