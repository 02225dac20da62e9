"""Nearest adversarial examples on the MNIST CNN: distances, gradients a sample, and L2 2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import DDN, FMN, nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N = 500


@pytest.fixture(scope="module")
def mnist(reference: Path) -> tuple[ae.Model, Any, Any]:
    """Return `mnist_cnn_a_adv` and the first 500 test samples."""
    images = np.load(reference / "images" / "mnist_test.npz")
    x = (images["x"][:N].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    return model, x, images["y"][:N].astype(np.int64)


@pytest.mark.parametrize("method", [FMN(), DDN()], ids=lambda method: method.name)
def test_nearest_l2(
    method: FMN | DDN,
    mnist: tuple[ae.Model, Any, Any],
    reference: Path,
    benchmark: Any,
    report: Callable[[str], None],
) -> None:
    """The median over all 500 samples, misclassified ones at 0, is at most 1.38."""
    found = benchmark.pedantic(lambda: nearest(*mnist, ae.L2(0), method), rounds=1)
    known = np.load(reference / "reference" / "minnorm_mnist_cnn_a_adv_l2_first500.npz")
    best = known["best_known"]
    correct = best > 0
    ratio = found.distance[correct] / best[correct]
    gradients = found.spent.gradients.mean()
    report(
        f"{method.name} L2: median {np.median(found.distance):.3f} (best known "
        f"{np.median(best):.3f}), {(found.distance > 2).sum()} of {N} beyond 2.0, "
        f"{gradients:.0f} gradients + {found.spent.forwards.mean():.0f} forwards a sample in "
        f"{benchmark.stats.stats.min:.1f} s; {(ratio < 0.999).sum()} nearer than best known, "
        f"{(ratio > 1.01).sum()} further by more than 1 %"
    )
    assert np.median(found.distance) <= 1.38
    assert gradients <= 600


def test_l2_2_by_data_starts(
    mnist: tuple[ae.Model, Any, Any], benchmark: Any, report: Callable[[str], None]
) -> None:
    """FMN alone leaves at most 49 of 500 samples robust at L2 2.0; AutoAttack leaves 79."""
    result = benchmark.pedantic(lambda: ae.attack(*mnist, ae.L2(2), method=FMN()), rounds=1)
    left = int((result.verdict == ae.VERDICTS.index(ae.OPEN)).sum())
    report(
        f"fmn L2 2.0: {left} robust, {result.spent.gradients.sum()} gradients + "
        f"{result.spent.forwards.sum()} forwards in {benchmark.stats.stats.min:.1f} s "
        "(AutoAttack: 79, 376 k + 943 k)"
    )
    assert left <= 49
