"""Buckets stay full, every item runs exactly to its end, and none twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aisec_eval.attacks import scheduler


class Countdown:
    """Item i needs `lengths[i]` steps; notes what it was given."""

    def __init__(self, lengths: Any) -> None:
        self.lengths = np.asarray(lengths, np.int32)
        self.ended: dict[int, int] = {}
        self.shapes: list[tuple[int, int]] = []

    def start(self, items: Any) -> dict[str, Any]:
        left = self.lengths[items]
        return {"left": left, "steps": 0 * left, "item": items, "done": left == 0}

    def step(self, state: dict[str, Any]) -> dict[str, Any]:
        import jax.numpy as jnp

        live = ~state["done"]
        self.shapes.append((len(live), int(live.sum())))
        left = state["left"] - live
        return {
            **state,
            "left": left,
            "steps": state["steps"] + live,
            "done": jnp.asarray(left <= 0),
        }

    def collect(self, items: Any, state: dict[str, Any]) -> None:
        np.testing.assert_array_equal(items, state["item"])
        for item, steps in zip(items.tolist(), state["steps"].tolist(), strict=True):
            assert item not in self.ended
            self.ended[item] = steps


@pytest.mark.parametrize(("count", "limit"), [(0, 8), (1, 8), (8, 8), (50, 8), (150, 64), (20, 3)])
def test_every_item_runs_to_its_end_once(count: int, limit: int) -> None:
    lengths = np.random.default_rng(count).integers(0, 40, count)
    kernel = Countdown(lengths)
    ticks: list[int] = []
    scheduler.run(kernel, count, limit, ticks.append)
    assert kernel.ended == dict(enumerate(lengths.tolist()))
    assert sum(ticks) == count
    assert all(size <= limit for size, _ in kernel.shapes)


def test_buckets_stay_full_while_work_remains_and_shrink_after() -> None:
    lengths = np.full(300, 5)
    lengths[::10] = 100
    kernel = Countdown(lengths)
    scheduler.run(kernel, 300, 64)
    sizes = [size for size, _ in kernel.shapes]
    assert set(sizes) == {64, 8}
    assert sizes == sorted(sizes, reverse=True)
    full = [live / size for size, live in kernel.shapes[:: scheduler.TURNS] if size == 64]
    assert np.mean(full[: len(full) // 3]) == 1.0


def test_buckets_are_nine_tenths_full_at_every_step_while_work_waits() -> None:
    """Lengths as of APGD: three in ten end within five steps, the others take a hundred."""
    rng = np.random.default_rng(0)
    lengths = np.where(rng.random(1500) < 0.3, rng.integers(1, 6, 1500), 100)
    kernel = Countdown(lengths)
    waiting: list[int] = []
    start = kernel.start

    def note(items: Any) -> dict[str, Any]:
        waiting.append(len(kernel.shapes))
        return start(items)

    kernel.start = note  # type: ignore[method-assign]
    scheduler.run(kernel, 1500, 128)
    # Until the last items took their places there was work for every place.
    busy = kernel.shapes[: waiting[-1]]
    assert sum(live for _, live in busy) >= 0.9 * sum(size for size, _ in busy)


def test_bucket_sizes() -> None:
    assert [scheduler.bucket_for(n, 256) for n in (1, 8, 9, 65, 129, 999)] == [
        8,
        8,
        64,
        128,
        256,
        256,
    ]
    assert scheduler.bucket_for(100, 5) == 5
