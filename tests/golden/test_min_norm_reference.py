"""Minimum-norm attacks on a real model: distances against the best known ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import DDN, FMN, SigmaZero, nearest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference

N = 500
"""Samples data starts are taken from."""
PART = 40
"""Samples attacked."""


@pytest.fixture(scope="module")
def mnist(reference: Path) -> tuple[Any, Any, Any]:
    images = np.load(reference / "images" / "mnist_test.npz")
    x = (images["x"][:N].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    return model, x, images["y"][:N].astype(np.int64)


@pytest.mark.parametrize("method", [FMN(), DDN()], ids=lambda method: method.name)
def test_l2_distances_are_the_best_known(method: Any, mnist: Any, reference: Path) -> None:
    model, x, y = mnist
    known = np.load(reference / "reference" / "minnorm_mnist_cnn_a_adv_l2_first500.npz")
    best = known["best_known"][:PART]
    found = nearest(model, x[:PART], y[:PART], ae.L2(0), method, pool=(x, y))
    np.testing.assert_array_equal(found.distance == 0, best == 0)
    ratio = found.distance[best > 0] / best[best > 0]
    assert np.median(ratio) <= 1.005
    assert (ratio > 1.1).mean() <= 0.1
    assert found.spent.gradients.max() <= 600


def test_data_starts_win_where_gradients_are_masked(mnist: Any) -> None:
    model, x, y = mnist
    clean = nearest(model, x[:PART], y[:PART], ae.L2(0), FMN(starts=0))
    found = nearest(model, x[:PART], y[:PART], ae.L2(0), FMN(starts=3), pool=(x, y))
    assert np.median(found.distance) < 0.85 * np.median(clean.distance)
    assert (found.distance <= clean.distance).all()


def test_sigma_zero_changes_few_pixels(mnist: Any) -> None:
    model, x, y = mnist
    found = nearest(model, x[:PART], y[:PART], ae.L0(0), SigmaZero(), pool=(x, y))
    assert np.median(found.distance) <= 14
    delta = found.x_adv != x[:PART]
    np.testing.assert_array_equal(delta.sum(axis=(1, 2, 3)), found.distance)
