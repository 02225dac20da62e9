"""Real models: how much each attack breaks, against published and best known figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import APGD, Square

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def mnist(reference: Path) -> tuple[Any, Any, Any]:
    images = np.load(reference / "images" / "mnist_test.npz")
    x = (images["x"][:500].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    return model, x, images["y"][:500].astype(np.int64)


def robust(result: Any) -> Any:
    return result.verdict == ae.VERDICTS.index(ae.OPEN)


def test_apgd_ce_on_mnist_linf(mnist: Any, reference: Path) -> None:
    model, x, y = mnist
    known = np.load(reference / "reference" / "attack_mnist_cnn_a_adv_linf_0.3_first500.npz")
    result = ae.attack(model, x, y, ae.Linf("0.3"), method="apgd-ce")
    clean = result.verdict != ae.VERDICTS.index(ae.MISCLASSIFIED)
    np.testing.assert_array_equal(clean, known["clean_correct"])
    assert robust(result).sum() <= 380
    assert result.flags == ()


def test_square_on_mnist_linf(mnist: Any, reference: Path) -> None:
    """The first 100 samples; `benchmarks/test_attacks.py` runs all 500 (at most 362 robust)."""
    model, x, y = mnist
    known = np.load(reference / "reference" / "attack_mnist_cnn_a_adv_linf_0.3_first500.npz")
    result = ae.attack(model, x[:100], y[:100], ae.Linf("0.3"), method=Square())
    assert robust(result).sum() <= known["autoattack_robust"][:100].sum() + 2
    assert result.spent.queries.max() == 5000


def test_apgd_and_square_on_mnist_l2(mnist: Any) -> None:
    """AutoAttack's APGD-CE leaves about half of the samples here; Square finds many more."""
    model, x, y = mnist
    result = ae.attack(model, x[:100], y[:100], ae.L2(2), method=[APGD(), Square(queries=1000)])
    assert robust(result).sum() <= 48
    assert "square" in result.found_by


def test_apgd_ce_on_cifar_linf(reference: Path) -> None:
    images = np.load(reference / "images" / "cifar10_sdp200.npz")
    x = np.ascontiguousarray(images["x"].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    y = images["y"].astype(np.int64)
    known = np.load(reference / "reference" / "attack_cifar_cnn_a_adv_linf_2of255_sdp200.npz")
    model = ae.load_model(reference / "models" / "cifar_cnn_a_adv.onnx")
    result = ae.attack(model, x, y, ae.Linf("2/255"), method="apgd-ce")
    # AutoAttack leaves 101.
    assert robust(result).sum() <= known["autoattack_robust"].sum() + 6
    assert not (robust(result) & ~known["clean_correct"]).any()
