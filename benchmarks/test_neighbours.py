"""Exact neighbours beside a float32 matrix product of equal FLOPs, and the graph beside both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from aisec_eval import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

InTurn: TypeAlias = "Callable[..., dict[str, float]]"
DIM, K = 128, 10
SIDE = 2048


def clusters(n: int, inner: int) -> NDArray[np.float32]:
    """Gaussians of `inner` dimensions, and a little noise in all."""
    random = np.random.default_rng(0)
    count = 100
    centres = random.standard_normal((count, DIM), dtype=np.float32)
    maps = random.standard_normal((count, inner, DIM), dtype=np.float32) / np.sqrt(inner)
    x = np.empty((n, DIM), np.float32)
    for part in np.array_split(np.arange(n), max(1, n // 20_000)):
        cluster = part % count
        at = random.standard_normal((len(part), 1, inner), dtype=np.float32)
        noise = random.standard_normal((len(part), DIM), dtype=np.float32)
        x[part] = centres[cluster] + (0.7 * at @ maps[cluster])[:, 0] + 0.02 * noise
    return x


def exact(x: NDArray[np.float32], metric: str) -> None:
    search = _core.Neighbours(x, K, metric)
    while search.progress[0] < search.progress[1]:
        search.advance(1024)
    search.finish()


def graph(x: NDArray[np.float32]) -> tuple[float, float, int]:
    search = _core.NeighbourGraph(x, K, "cosine")
    while search.progress[0] < search.progress[1]:
        search.advance()
    return search.finish()[2]


@pytest.mark.parametrize("n", [20_000, 100_000])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_exact(
    n: int, metric: str, benchmark: Any, report: Callable[[str], None], in_turn: InTurn
) -> None:
    x = np.random.default_rng(0).standard_normal((n, DIM), dtype=np.float32)
    a = np.ascontiguousarray(x[:SIDE])
    b = np.random.default_rng(1).standard_normal((SIDE, SIDE), dtype=np.float32)
    a = np.resize(a, (SIDE, SIDE))
    out = np.empty((SIDE, SIDE), np.float32)
    sides = {"search": lambda: exact(x, metric), "gemm": lambda: np.dot(a, b, out=out)}
    best = in_turn(sides, seconds=4.0)
    # Every pair once: n * n / 2 products of 2 * DIM operations.
    gemm = best["gemm"] * n * n * DIM / (2 * SIDE**3)
    benchmark.extra_info["share_of_gemm_rate"] = gemm / best["search"]
    report(
        f"exact neighbours {metric:9} {n:6} x {DIM}: {best['search']:6.2f} s = "
        f"{gemm / best['search']:4.0%} of the rate of a product of {SIDE} x {SIDE} ({gemm:5.2f} s)"
    )
    benchmark.pedantic(lambda: exact(x, metric), rounds=1, iterations=1)


@pytest.mark.parametrize("inner", [4, 16, 32])
@pytest.mark.parametrize("n", [50_000, 300_000])
def test_graph(n: int, inner: int, benchmark: Any, report: Callable[[str], None]) -> None:
    import time

    x = clusters(n, inner)
    start = time.perf_counter()
    recall, low, queries = benchmark.pedantic(lambda: graph(x), rounds=1, iterations=1)
    middle = time.perf_counter()
    exact(x, "cosine")
    end = time.perf_counter()
    benchmark.extra_info |= {"recall": recall, "recall_at_least": low}
    report(
        f"graph {n:6} x {DIM}, {inner:2} dimensions: recall@{K} {recall:.4f} (at least {low:.4f}, "
        f"{queries} queries), {middle - start:6.1f} s; exact {end - middle:6.1f} s"
    )
