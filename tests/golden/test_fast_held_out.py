"""Method "fast" on models, norms and radii that its stages were not made on: never weaker.

A few samples of each; `benchmarks/test_held_out.py` runs more of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference

OPEN = ae.VERDICTS.index(ae.OPEN)
CASES: list[tuple[str, Any, int, int]] = [
    # model, threat model, first MNIST test sample, samples
    ("mnist_6_100_nat", ae.Linf("0.025"), 4000, 25),
    ("mnist_6_100_nat", ae.L2("0.4"), 4100, 25),
    ("mnist_6_100_nat", ae.L1(2), 4200, 20),
    ("mnist_conv_small_nat", ae.Linf("0.12"), 4300, 20),
    ("mnist_conv_small_nat", ae.L1(6), 4400, 15),
    ("kw_mnist", ae.L2(2), 1020, 15),
    ("kw_mnist", ae.L1(10), 4500, 25),
    ("mnist_cnn_a_adv", ae.L2("1.5"), 3038, 20),
    ("mnist_cnn_a_adv", ae.L1(8), 3010, 25),
]


@pytest.mark.parametrize(
    ("name", "threat", "first", "count"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES]
)
def test_fast_breaks_what_standard_breaks(
    name: str, threat: Any, first: int, count: int, reference: Path
) -> None:
    images = np.load(reference / "images" / "mnist_test.npz")
    part = slice(first, first + count)
    x = images["x"][part, None].astype(np.float32) / 255
    y = images["y"][part].astype(np.int64)
    model = ae.load_model(reference / "models" / f"{name}.onnx")
    fast = ae.attack(model, x, y, threat)
    standard = ae.attack(model, x, y, threat, method="standard")
    assert not ((fast.verdict == OPEN) & (standard.verdict != OPEN)).any()
    cost = [
        int((r.spent.gradients + r.spent.forwards + r.spent.queries).sum())
        for r in (fast, standard)
    ]
    # Where nearly everything breaks at once there is nothing to save.
    assert cost[0] <= max(0.6 * cost[1], 1000 * count)
