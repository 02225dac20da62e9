"""verify() on all ACAS Xu properties of VNN-COMP: how many are decided, in what time."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

CAP = 10.0
"""Seconds an instance may take."""


def test_acasxu(
    benchmark: BenchmarkFixture, reference: Path, report: Callable[[str], None]
) -> None:
    folder = reference / "vnncomp" / "acasxu"
    with (folder / "instances.csv").open() as lines:
        instances = list(csv.DictReader(lines))

    def decide_all() -> list[ae.VerifyResult]:
        return [
            ae.verify(
                folder / "onnx" / row["onnx"],
                folder / "vnnlib" / f"{row['vnnlib']}.gz",
                timeout=CAP,
            )
            for row in instances
        ]

    results = benchmark.pedantic(decide_all, rounds=1)
    wrong = [
        (row["onnx"], row["vnnlib"], result.status)
        for row, result in zip(instances, results, strict=True)
        if {row["truth"], result.status} == {"sat", "unsat"}
    ]
    assert not wrong
    decided = [result for result in results if result.status != "unknown"]
    seconds = sorted(result.seconds for result in results)
    report(
        f"ACAS Xu, {CAP:g} s each: {len(decided)} of {len(results)} decided, none wrong, "
        f"{sum(seconds):.0f} s in all, median {seconds[len(seconds) // 2]:.2f} s, "
        f"slowest {seconds[-1]:.1f} s, {sum(r.domains for r in results)} boxes"
    )


@pytest.mark.parametrize("splits", [64, 512])
def test_planes_of_acasxu_boxes(
    benchmark: BenchmarkFixture, reference: Path, report: Callable[[str], None], splits: int
) -> None:
    import numpy as np

    from aisec_eval import _core

    folder = reference / "vnncomp" / "acasxu" / "onnx"
    graph = ae.load_model(folder / "ACASXU_run2a_1_1_batch_2000.onnx").graph
    assert graph is not None
    rng = np.random.default_rng(0)
    lower = rng.uniform(-0.5, 0.4, (splits, *graph.input_shape))
    spec = np.array([[1.0, -1.0, 0.0, 0.0, 0.0]])
    benchmark(_core.margin_planes, graph, lower, lower + 0.1, spec=spec)
    mean = benchmark.stats.stats.median / splits
    report(f"planes of {splits} ACAS Xu boxes of width 0.1: {1e6 * mean:.0f} us a box")
