"""Method "fast" beside "standard" on models, norms and radii that its stages were not made on.

Several minutes; run alone: `pytest benchmarks/test_held_out.py --benchmark-enable`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPEN = ae.VERDICTS.index(ae.OPEN)
CASES: list[tuple[str, Any, int, int]] = [
    # model, threat model, first test sample, samples
    ("kw_mnist", ae.Linf("0.1"), 1000, 100),
    ("kw_mnist", ae.Linf("0.2"), 1200, 60),
    ("kw_mnist", ae.L2(2), 1000, 60),
    ("kw_mnist", ae.L1(10), 1000, 40),
    ("mnist_conv_small_nat", ae.Linf("0.1"), 1100, 60),
    ("mnist_conv_small_nat", ae.L2(1), 1100, 60),
    ("mnist_conv_small_nat", ae.L1(5), 1100, 50),
    ("mnist_6_100_nat", ae.Linf("0.02"), 2000, 100),
    ("mnist_6_100_nat", ae.L2("0.3"), 2000, 100),
    ("mnist_6_100_nat", ae.L1(2), 2000, 60),
    ("mnist_cnn_a_adv", ae.Linf("0.2"), 3000, 100),
    ("mnist_cnn_a_adv", ae.Linf("0.35"), 3100, 60),
    ("mnist_cnn_a_adv", ae.L2("1.5"), 3000, 60),
    ("mnist_cnn_a_adv", ae.L1(8), 3000, 40),
    ("cifar_cnn_a_adv", ae.Linf("1/255"), 900, 60),
    ("cifar_cnn_a_adv", ae.Linf("4/255"), 800, 100),
    ("cifar_cnn_a_adv", ae.L2("0.3"), 800, 60),
    ("cifar_cnn_a_adv", ae.L1(6), 800, 30),
    ("cifar_resnet2b", ae.Linf("1/255"), 500, 60),
    ("cifar_resnet2b", ae.Linf("2/255"), 560, 60),
    ("cifar_resnet2b", ae.L2("0.25"), 500, 60),
    ("cifar_resnet2b", ae.L1(4), 600, 30),
]


@pytest.mark.parametrize(
    ("name", "threat", "first", "count"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES]
)
def test_fast(
    name: str,
    threat: Any,
    first: int,
    count: int,
    reference: Path,
    benchmark: Any,
    report: Callable[[str], None],
) -> None:
    """Whatever "standard" breaks, "fast" breaks, for less."""
    mnist = "mnist" in name
    images = np.load(
        reference / "images" / ("mnist_test.npz" if mnist else "cifar10_test_0000_2000.npz")
    )
    x = images["x"][first : first + count].astype(np.float32) / 255
    x = np.ascontiguousarray(x[:, None] if mnist else x.transpose(0, 3, 1, 2))
    y = images["y"][first : first + count].astype(np.int64)
    model = ae.load_model(reference / "models" / f"{name}.onnx")
    start = time.perf_counter()
    standard = ae.attack(model, x, y, threat, method="standard")
    wall = time.perf_counter() - start
    fast = benchmark.pedantic(lambda: ae.attack(model, x, y, threat), rounds=1)
    missed = (fast.verdict == OPEN) & (standard.verdict != OPEN)
    beyond = (fast.verdict != OPEN) & (standard.verdict == OPEN)
    sides = {"fast": fast, "standard": standard}
    cost = ", ".join(
        f"{side} {(result.verdict == OPEN).sum()} robust for {result.spent.gradients.sum()} "
        f"gradients + {(result.spent.forwards + result.spent.queries).sum()} evaluations"
        for side, result in sides.items()
    )
    report(
        f"{name} {threat}, {count} samples: {cost}; {missed.sum()} broken by standard only, "
        f"{beyond.sum()} by fast only; {wall / benchmark.stats.stats.min:.1f} x faster"
    )
    assert not missed.any(), np.flatnonzero(missed).tolist()
