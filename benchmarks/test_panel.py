"""What `method="auto"` costs beside the exact neighbours that it contains; time and memory."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

_CLASSES, _DIM = 10, 64
_ALONE = """
import resource, sys, time
import numpy as np
import aisec_eval as ae
sys.path.insert(0, {folder!r})
from test_panel import draw
x, y = draw({n})
ae.scan(x[:500], y[:500], method="auto")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter(), time.process_time()
ae.scan(x, y, method="auto")
print(
    time.perf_counter() - start[0],
    time.process_time() - start[1],
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,
)
"""


def draw(n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Gaussian classes of one shape."""
    random = np.random.default_rng(0)
    y = random.integers(0, _CLASSES, n)
    x = random.standard_normal((n, _DIM), dtype=np.float32)
    return x + 2 * random.standard_normal((_CLASSES, _DIM), dtype=np.float32)[y], y


@pytest.mark.parametrize("n", [5_000, 20_000])
def test_panel_beside_neighbours(
    benchmark: BenchmarkFixture, n: int, report: Callable[[str], None]
) -> None:
    """How many times the neighbours, in turn."""
    x, y = draw(n)
    best = {"neighbours": float("inf"), "auto": float("inf")}
    for _ in range(2):
        for method in best:
            start = time.perf_counter()
            ae.scan(x, y, method=method)
            best[method] = min(best[method], time.perf_counter() - start)
    ratio = best["auto"] / best["neighbours"]
    benchmark.extra_info["ratio"] = ratio
    report(
        f"auto {n} x {_DIM}: {best['auto']:.2f} s = {ratio:.2f} x its neighbours alone "
        f"({best['neighbours']:.2f} s)"
    )
    benchmark.pedantic(functools.partial(ae.scan, x, y, method="auto"), rounds=1)


@pytest.mark.parametrize("n", [20_000, 200_000])
def test_time_and_memory(
    benchmark: BenchmarkFixture, n: int, report: Callable[[str], None]
) -> None:
    """Of a process of its own, above what it holds before."""
    from pathlib import Path

    code = _ALONE.format(n=n, folder=str(Path(__file__).parent))

    def run() -> tuple[float, float, float]:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        wall, spent, above = map(float, done.stdout.split())
        return wall, spent, above

    wall, spent, above = benchmark.pedantic(run, rounds=1)
    data = n * _DIM * 4 / 2**20
    report(
        f"auto {n} x {_DIM}: {wall:.1f} s ({spent:.1f} s of CPU), {above / 2**10:.0f} MiB above "
        f"the {data:.0f} MiB of the data"
    )
