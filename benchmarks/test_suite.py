"""What a suite costs beside the evaluations: reading the file, and storing a shard durably."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

QUICKSTART = Path(__file__).resolve().parents[1] / "suites" / "quickstart.toml"


def test_load_suite(benchmark: BenchmarkFixture) -> None:
    """The quickstart's file, checked, with a line for every key."""
    from aisec_eval.suite import load_suite

    benchmark(load_suite, QUICKSTART)


@pytest.mark.benchmark(group="shard")
def test_store_a_shard(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A shard of 256 digits: three result files, a digest of each, flushed and renamed."""
    from aisec_eval.suite.inputs import DataSource, ModelSource
    from aisec_eval.suite.shard import Shard
    from aisec_eval.suite.store import Store
    from aisec_eval.threats import Linf
    from helpers.make_run import make_evaluation

    evaluation = make_evaluation("net", Linf("0.1"), samples=256)
    evaluation.frame  # noqa: B018 - cached: building the table is not what is measured
    store = Store(tmp_path)
    store.prepare()
    number = iter(range(1_000_000))

    def write() -> None:
        identity = {"kind": "evaluate", "number": next(number)}
        source = DataSource("d", "d")
        store.write(Shard(identity, ModelSource("net", "net.onnx"), source, (0, 256)), evaluation)

    benchmark(write)


@pytest.mark.benchmark(group="shard")
def test_the_flushes_alone(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The floor: as many small files created and flushed as a shard has, with their folder."""
    number = iter(range(1_000_000))

    def write() -> None:
        folder = tmp_path / str(next(number))
        folder.mkdir()
        for name in "abcd":
            with (folder / name).open("wb") as file:
                file.write(b"0" * 4096)
                file.flush()
                os.fsync(file.fileno())
            handle = os.open(folder, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)

    benchmark(write)
