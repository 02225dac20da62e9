"""Real models: our AutoAttack beside the reference implementation's verdicts.

The first samples of each; `benchmarks/test_autoattack.py` runs them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import APGD, APGDT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference


@pytest.mark.parametrize(
    ("threat", "name", "margin"),
    [
        (ae.Linf("0.3"), "attack_mnist_cnn_a_adv_linf_0.3_first500.npz", 1),
        (ae.L2(2), "attack_mnist_cnn_a_adv_l2_2.0_first500.npz", 4),
    ],
    ids=["linf", "l2"],
)
def test_mnist(threat: Any, name: str, margin: int, reference: Path) -> None:
    known = np.load(reference / "reference" / name)
    images = np.load(reference / "images" / "mnist_test.npz")
    n = 40
    x = (images["x"][:n].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    y = images["y"][:n].astype(np.int64)
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    result = ae.attack(model, x, y, threat, method="standard")
    open_ = result.verdict == ae.VERDICTS.index(ae.OPEN)
    expected = known["autoattack_robust"][:n]
    assert (open_ & ~expected).sum() <= margin
    # Nobody is known to have broken these; one more is progress, many are a fault.
    assert (~open_ & known["best_known_robust"][:n]).sum() <= 2


def test_cifar(reference: Path) -> None:
    known = np.load(reference / "reference" / "attack_cifar_cnn_a_adv_linf_2of255_sdp200.npz")
    images = np.load(reference / "images" / "cifar10_sdp200.npz")
    n = 60
    x = np.ascontiguousarray(images["x"][:n].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    y = images["y"][:n].astype(np.int64)
    model = ae.load_model(reference / "models" / "cifar_cnn_a_adv.onnx")
    result = ae.attack(
        model, x, y, ae.Linf("2/255"), method=[APGD(steps=40), APGDT(targets=2, steps=40)]
    )
    open_ = result.verdict == ae.VERDICTS.index(ae.OPEN)
    assert (open_ & ~known["autoattack_robust"][:n]).sum() <= 1
    assert (~open_ & known["autoattack_robust"][:n]).sum() <= 1
