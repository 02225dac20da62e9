"""verify() on the instances of VNN-COMP: how many are right, in what time.

One command runs one competition:

    pytest benchmarks/test_verify.py -k "competition and mnistfc"
"""

from __future__ import annotations

import csv
import time
from typing import TYPE_CHECKING

import pytest

import aisec_eval as ae
from aisec_eval import _core

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

    def decide_all() -> list[tuple[ae.VerifyResult, float]]:
        results = []
        for row in instances:
            started = time.process_time()
            result = ae.verify(
                folder / "onnx" / row["onnx"],
                folder / "vnnlib" / f"{row['vnnlib']}.gz",
                timeout=CAP,
            )
            results.append((result, time.process_time() - started))
        return results

    results = benchmark.pedantic(decide_all, rounds=1)
    wrong = [
        (row["onnx"], row["vnnlib"], result.status)
        for row, (result, _) in zip(instances, results, strict=True)
        if {row["truth"], result.status} == {"sat", "unsat"}
    ]
    assert not wrong
    table: dict[str, list[tuple[str, ae.VerifyResult, float]]] = {}
    for row, (result, spent) in zip(instances, results, strict=True):
        for key in (row["vnnlib"].removesuffix(".vnnlib"), "all"):
            table.setdefault(key, []).append((row["truth"], result, spent))
    report(f"ACAS Xu, at most {CAP:g} s each, {_core.get_threads()} threads")
    report("property  instances  right  unsat    sat  seconds    cpu  worst     boxes  boxes/cpu s")
    for key, rows in sorted(table.items(), key=lambda item: (item[0] == "all", item[0])):
        statuses = [result.status for _, result, _ in rows]
        seconds = [result.seconds for _, result, _ in rows]
        boxes = sum(result.domains for _, result, _ in rows)
        spent = sum(spent for _, _, spent in rows)
        right = sum(truth == result.status for truth, result, _ in rows)
        report(
            f"{key:8}  {len(rows):9}  {right:5}  {statuses.count('unsat'):5}  "
            f"{statuses.count('sat'):5}  {sum(seconds):7.1f}  {spent:5.1f}  {max(seconds):5.2f}  "
            f"{boxes:8}  {boxes / spent:11.0f}"
        )


WIDE_CAP = 60.0
"""Seconds an instance of a wide network may take."""


@pytest.mark.reference
@pytest.mark.parametrize("family", ["mnistfc", "cifar10_resnet", "eran"])
def test_competition(
    benchmark: BenchmarkFixture, reference: Path, report: Callable[[str], None], family: str
) -> None:
    folder = reference / "vnncomp" / family
    with (folder / "instances.csv").open() as lines:
        instances = list(csv.DictReader(lines))

    def decide_all() -> list[ae.VerifyResult]:
        return [
            ae.verify(
                folder / "onnx" / row["onnx"],
                folder / "vnnlib" / f"{row['vnnlib']}.gz",
                timeout=min(WIDE_CAP, float(row["timeout_s"])),
            )
            for row in instances
        ]

    results = benchmark.pedantic(decide_all, rounds=1)
    wrong = [
        (row["onnx"], row["vnnlib"], result.status)
        for row, result in zip(instances, results, strict=True)
        if {row["truth"], result.status} == {"sat", "unsat"}
    ]
    report(f"{family}, at most {WIDE_CAP:g} s each, {_core.get_threads()} threads")
    report("network                     instances  known  decided  unsat    sat  wrong  seconds")
    table: dict[str, list[tuple[str, ae.VerifyResult]]] = {}
    for row, result in zip(instances, results, strict=True):
        for key in (row["onnx"].removesuffix(".onnx"), "all"):
            table.setdefault(key, []).append((row["truth"], result))
    for key, rows in sorted(table.items(), key=lambda item: item[0] == "all"):
        statuses = [result.status for _, result in rows]
        known = sum(truth != "unknown" for truth, _ in rows)
        counts = [statuses.count(status) for status in ("unsat", "sat")]
        seconds = sum(result.seconds for _, result in rows)
        bad = sum({truth, result.status} == {"sat", "unsat"} for truth, result in rows)
        report(
            f"{key:26}  {len(rows):9}  {known:5}  {sum(counts):7}  {counts[0]:5}  {counts[1]:5}  "
            f"{bad:5}  {seconds:7.1f}"
        )
    assert not wrong


@pytest.mark.parametrize("splits", [64, 512])
def test_planes_of_acasxu_boxes(
    benchmark: BenchmarkFixture, reference: Path, report: Callable[[str], None], splits: int
) -> None:
    import numpy as np

    folder = reference / "vnncomp" / "acasxu" / "onnx"
    graph = ae.load_model(folder / "ACASXU_run2a_1_1_batch_2000.onnx").graph
    assert graph is not None
    rng = np.random.default_rng(0)
    lower = rng.uniform(-0.5, 0.4, (splits, *graph.input_shape))
    spec = np.array([[1.0, -1.0, 0.0, 0.0, 0.0]])
    benchmark(_core.margin_planes, graph, lower, lower + 0.1, spec=spec)
    mean = benchmark.stats.stats.median / splits
    report(f"planes of {splits} ACAS Xu boxes of width 0.1: {1e6 * mean:.0f} us a box")
