"""Published networks: load, agree with onnxruntime, and have the published accuracy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aisec_eval.models import load_model
from aisec_eval.models.lowering.to_jax import to_jax

if TYPE_CHECKING:
    from pathlib import Path
from helpers.onnx_models import run_onnxruntime

pytestmark = pytest.mark.reference

MNIST = {
    "mnist_cnn_a_adv": 0.9633,
    "kw_mnist": 0.9820,
    "mnist_conv_small_nat": 0.9825,
    "mnist_6_100_nat": 0.9629,
}
CIFAR = ["cifar_cnn_a_adv", "cifar_resnet2b"]


@pytest.mark.parametrize("name", [*MNIST, *CIFAR])
def test_agrees_with_onnxruntime(reference: Path, name: str) -> None:
    path = reference / "models" / f"{name}.onnx"
    model = load_model(path)
    assert model.report.warnings == ()
    assert model.capabilities.graph
    x = np.random.default_rng(0).random((32, *model.input_shape), np.float32)
    expected = run_onnxruntime(path.read_bytes(), x)
    assert np.abs(model.logits(x) - expected).max() <= 1e-4 * np.abs(expected).max()
    apply, params = model.jax_function()
    assert np.abs(np.asarray(apply(params, x)) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", MNIST)
def test_published_accuracy(reference: Path, name: str) -> None:
    with np.load(reference / "images" / "mnist_test.npz", allow_pickle=False) as data:
        x, y = data["x"], data["y"].astype(np.int64)
    x = (x[:, None] / np.float32(255)).astype(np.float32)
    model = load_model(
        reference / "models" / f"{name}.onnx", samples=x[:64], labels=y[:64], name=name
    )
    assert model.report.warnings == ()
    accuracy = (model.logits(x).argmax(axis=1) == y).mean()
    assert accuracy == pytest.approx(MNIST[name], abs=1.5e-4)


def test_layout_and_range_of_real_images(reference: Path) -> None:
    with np.load(reference / "images" / "cifar10_sdp200.npz", allow_pickle=False) as data:
        x, y = data["x"], data["y"].astype(np.int64)
    model = load_model(reference / "models" / "cifar_cnn_a_adv.onnx", samples=x, labels=y)
    words = "\n".join(model.report.warnings)
    assert "they are HWC (channels last), the model is CHW" in words
    assert "divide by 255" in words


def test_every_vnncomp_network(reference: Path) -> None:
    paths = sorted((reference / "vnncomp").glob("*/onnx/*.onnx"))
    assert len(paths) >= 51
    for path in paths:
        model = load_model(path)
        assert model.capabilities.graph, path.name
        x = np.random.default_rng(0).random((4, *model.input_shape), np.float32)
        data = path.read_bytes()
        shape = (1, *model.input_shape)
        expected = np.concatenate([run_onnxruntime(data, one.reshape(shape)) for one in x])
        gap = np.abs(model.logits(x) - expected.reshape(4, -1)).max()
        assert gap <= 1e-4 * np.abs(expected).max(), path.name


def test_loading_is_quick(reference: Path) -> None:
    path = reference / "models" / "mnist_cnn_a_adv.onnx"
    load_model(path)
    start = time.process_time()
    load_model(path)
    # Processor time, so that a busy machine does not matter; imports are not part of it.
    assert time.process_time() - start < 0.5


def test_same_architecture_gives_the_same_parameter_structure(reference: Path) -> None:
    from aisec_eval.models.lowering import onnx, onnx_lower

    shapes = []
    for name in ("mnist_cnn_a_adv", "kw_mnist"):
        network = onnx.read(reference / "models" / f"{name}.onnx")
        _, params = to_jax(onnx_lower.lower(network))
        shapes.append([{key: leaf.shape for key, leaf in node.items()} for node in params])
    assert shapes[0] == shapes[1]
