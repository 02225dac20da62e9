"""Margins against auto_LiRPA's on the same images: nowhere looser by more than 1e-3 relative."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers import METHODS, AlphaCROWN, Regions
from aisec_eval.certifiers.certify import margin_spec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.reference


def images(
    reference: Path, name: str, index: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if name == "mnist":
        data = np.load(reference / "images" / "mnist_test.npz")
        pixels, labels = data["x"][index][:, None], data["y"][index]
    else:
        data = np.load(reference / "images" / "cifar10_test_0000_2000.npz")
        pixels, labels = data["x"][index].transpose(0, 3, 1, 2), data["y"][index]
    x = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(x), labels.astype(np.int64)


CASES = [
    ("mnist", "mnist_cnn_a_adv", "0.1", "0.1", "IBP", 0),
    ("mnist", "mnist_cnn_a_adv", "0.3", "0.3", "IBP", 0),
    ("mnist", "mnist_cnn_a_adv", "0.1", "0.1", "CROWN", 29),
    ("mnist", "mnist_cnn_a_adv", "0.3", "0.3", "CROWN", 0),
    ("cifar", "cifar_cnn_a_adv", "2d255", "2/255", "IBP", 0),
    ("mnist", "mnist_cnn_a_adv", "0.1", "0.1", "CROWN-IBP", 14),
    ("mnist", "mnist_cnn_a_adv", "0.3", "0.3", "CROWN-IBP", 0),
    ("cifar", "cifar_cnn_a_adv", "2d255", "2/255", "CROWN-IBP", 0),
    ("mnist", "mnist_cnn_a_adv", "0.1", "0.1", "alphaFix20", 30),
    ("mnist", "mnist_cnn_a_adv", "0.3", "0.3", "alphaFix20", 0),
    ("cifar", "cifar_cnn_a_adv", "2d255", "2/255", "alphaFix20", 10),
    ("cifar", "cifar_cnn_a_adv", "2d255", "2/255", "CROWN", 10),
]


@pytest.mark.parametrize(("data", "net", "tag", "eps", "method", "certified"), CASES)
def test_margins_are_no_looser(
    reference: Path, data: str, net: str, tag: str, eps: str, method: str, certified: int
) -> None:
    name = net.removesuffix("_adv")
    known = np.load(reference / "reference" / f"lirpa_{name}_{tag}_{method}.npz")
    x, y = images(reference, data, known["test_index"])
    assert np.array_equal(y, known["y"])
    model = ae.load_model(reference / "models" / f"{net}.onnx")
    threat = ae.Linf(eps)
    # Twenty steps for every row, as the reference took, not only where the sign is open.
    certifier = AlphaCROWN(stop=False) if method == "alphaFix20" else METHODS[method.lower()]
    result = ae.certify(model, x, y, threat, method=certifier)
    assert result.certified.sum() >= certified
    # The reference judges misclassified images too, so ask the certifier itself for them.
    assert model.graph is not None
    ours = certifier.lower_bounds(
        model.graph, Regions.around(x, threat), margin_spec(y, model.num_classes)
    )
    theirs = known["margin_lower"]
    loosest = 0.0 if method == "alphaFix20" else -1e-3
    assert ((ours - theirs) / np.maximum(1.0, np.abs(theirs))).min() >= loosest
    judged = np.isfinite(result.margin_lower)
    np.testing.assert_array_equal(result.margins_lower[judged], ours[judged])
