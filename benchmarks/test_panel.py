"""What `method="auto"` costs beside the exact neighbours that it contains."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("n", [5_000, 20_000])
def test_panel_beside_neighbours(benchmark: BenchmarkFixture, n: int) -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 10, n)
    x = (2 * random.normal(size=(10, 64))[y] + random.normal(size=(n, 64))).astype(np.float32)

    def neighbours() -> float:
        start = time.perf_counter()
        ae.scan(x, y, method="neighbours")
        return time.perf_counter() - start

    floor = min(neighbours() for _ in range(3))
    benchmark.pedantic(lambda: ae.scan(x, y, method="auto"), rounds=3)
    benchmark.extra_info["ratio"] = benchmark.stats["min"] / floor
