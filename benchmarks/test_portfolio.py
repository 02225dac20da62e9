"""What method "fast" leaves standing and spends, and what a curve costs beside one radius."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPEN = ae.VERDICTS.index(ae.OPEN)
WORKLOADS = {
    # model, samples, threat, AutoAttack's and best known verdicts, most robust, gradients, forwards
    "MNIST Linf 0.3": (
        "mnist",
        ae.Linf("0.3"),
        "mnist_cnn_a_adv_linf_0.3_first500",
        354,
        350,
        1400,
    ),
    "MNIST L2 2.0": ("mnist", ae.L2(2), "mnist_cnn_a_adv_l2_2.0_first500", 45, 300, 300),
    "CIFAR Linf 2/255": (
        "cifar",
        ae.Linf("2/255"),
        "cifar_cnn_a_adv_linf_2of255_sdp200",
        100,
        30,
        100,
    ),
}
"""Counts in thousands."""


def load(reference: Path, data: str) -> tuple[ae.Model, Any, Any]:
    if data == "mnist":
        images = np.load(reference / "images" / "mnist_test.npz")
        x = images["x"][:500, None].astype(np.float32) / 255
    else:
        images = np.load(reference / "images" / "cifar10_sdp200.npz")
        x = np.ascontiguousarray(images["x"].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    model = ae.load_model(reference / "models" / f"{data}_cnn_a_adv.onnx")
    return model, x, images["y"][: len(x)].astype(np.int64)


def spent(result: Any) -> tuple[int, int]:
    """Gradients, and all evaluations, those of gradients included."""
    gradients = int(result.spent.gradients.sum())
    return gradients, int(result.spent.forwards.sum() + result.spent.queries.sum())


@pytest.mark.parametrize("workload", WORKLOADS)
def test_fast(
    workload: str, reference: Path, benchmark: Any, report: Callable[[str], None]
) -> None:
    """As many broken as AutoAttack and more, for less."""
    data, threat, name, most, gradients, forwards = WORKLOADS[workload]
    model, x, y = load(reference, data)
    known = np.load(reference / "reference" / f"attack_{name}.npz")
    result = benchmark.pedantic(lambda: ae.attack(model, x, y, threat), rounds=1)
    robust = result.verdict == OPEN
    used = spent(result)
    missed = int((robust & ~known["autoattack_robust"]).sum())
    report(
        f"{workload}: {robust.sum()} robust (AutoAttack {known['autoattack_robust'].sum()}, best "
        f"known {known['best_known_robust'].sum()}; {missed} broken by AutoAttack only), "
        f"{used[0]} gradients + {used[1]} forwards in {benchmark.stats.stats.min:.1f} s"
    )
    assert robust.sum() <= most
    assert used[0] <= 1000 * gradients
    assert used[1] <= 1000 * forwards


def test_curve(reference: Path, benchmark: Any, report: Callable[[str], None]) -> None:
    """Eight radii beside one, in evaluations."""
    model, x, y = load(reference, "cifar")
    radii = [f"{k}/510" for k in (1, 2, 3, 4, 6, 8, 12, 16)]
    options: Any = {"norm": "linf", "certify": None}
    curve = benchmark.pedantic(
        lambda: ae.robustness_curve(model, x, y, eps=radii, **options), rounds=1
    )
    singles = [sum(spent(ae.attack(model, x, y, ae.Linf(eps), method="light"))) for eps in radii]
    fast = sum(spent(ae.attack(model, x, y, ae.Linf("2/255"))))
    cost = sum(spent(curve))
    report(
        f"curve of {len(radii)} radii: {cost} evaluations, {cost / max(singles):.2f} x the "
        f"dearest light radius, {cost / np.mean(singles):.2f} x the mean one; all, one by one, "
        f"{sum(singles) / cost:.1f} x the curve; {cost / fast:.2f} x fast at 2/255"
    )
    assert cost <= 1.5 * max(singles)
