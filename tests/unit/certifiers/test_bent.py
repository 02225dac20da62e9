"""Networks with operators that bend and multiply: bounds hold, certificates are accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers.certificate import check_certificate
from helpers.onnx_models import OnnxBuilder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def attention(b: OnnxBuilder) -> str:
    """Softmax of products of values, mixed with a third, normalised."""
    x = b.op("Reshape", "input", b.ints(-1, 3, 4))
    query, key, value = (b.op("MatMul", x, b.weights(4, 4)) for _ in range(3))
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 2, 1]))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), value)
    y = b.op("LayerNormalization", b.op("Add", mixed, x), b.weights(4), b.weights(4))
    return b.op("Gelu", b.op("Flatten", y))


def flow(b: OnnxBuilder) -> str:
    """Products of values, angles and squares, as in power grids."""
    hidden = b.op("Relu", b.op("MatMul", "input", b.weights(12, 6)))
    angle = b.op("MatMul", "input", b.weights(12, 6))
    parts = [
        b.op("Mul", hidden, b.op("Sin", angle)),
        b.op("Mul", b.op("Cos", angle), b.op("Sigmoid", angle)),
        b.op("Pow", angle, b.constant(2.0, np.float32)),
    ]
    return b.op("Concat", *parts, axis=1)


def cardinality(b: OnnxBuilder) -> str:
    """A masked mean: products and a quotient of sums."""
    x = b.op("Reshape", "input", b.ints(-1, 3, 4))
    mask = b.op("Sigmoid", b.op("MatMul", x, b.weights(4, 1)))
    hidden = b.op("Mul", b.op("Relu", b.op("MatMul", x, b.weights(4, 5))), mask)
    total = b.axes("ReduceSum", hidden, [1], 13, keepdims=0)
    return b.op("Div", total, b.axes("ReduceSum", mask, [1], 13, keepdims=0))


def signs(b: OnnxBuilder) -> str:
    """A binarised layer."""
    return b.op("Sign", b.op("MatMul", "input", b.weights(12, 8)))


NETWORKS: dict[str, tuple[Callable[[OnnxBuilder], str], int]] = {
    "attention": (attention, 12),
    "flow": (flow, 18),
    "cardinality": (cardinality, 5),
    "signs": (signs, 8),
}
METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    build, width = NETWORKS[request.param]
    b = OnnxBuilder(("N", 12), opset=20)
    output = b.op("MatMul", build(b), b.weights(width, 3))
    path: Path = tmp_path_factory.mktemp("bent") / "net.onnx"
    model = ae.load_model(b.save(path, output), bounds=(0, 1))
    x = b.rng.random((6, 12)).astype(np.float32)
    y = model.logits(x).argmax(axis=1)
    return model, x, y


@pytest.mark.parametrize("eps", [0.002, 0.05, 0.6])
def test_no_point_is_below_a_bound(network: Any, eps: float) -> None:
    model, x, y = network
    rng = np.random.default_rng(0)
    step = rng.uniform(-1, 1, (200, 1, 12))
    step[::2] = np.sign(step[::2])
    points = np.clip(x + eps * (1 - 1e-6) * step, 0, 1).astype(np.float64)
    outputs = model.graph.forward64(points.reshape(-1, 12)).reshape(200, 6, 3)
    truth = np.take_along_axis(outputs, y[None, :, None], axis=2)
    wrong = np.where(np.arange(3) == y[:, None], -np.inf, outputs)
    least = (truth[..., 0] - wrong.max(axis=2)).min(axis=0)
    margins = {}
    for method in METHODS:
        result = ae.certify(model, x, y, ae.Linf(eps), method=method)
        margins[method] = result.margin_lower
        assert (result.margin_lower <= least + 1e-9).all(), method
    assert (margins["crown"] >= margins["ibp"] - 1e-9).all()
    assert (margins["alpha-crown"] >= margins["crown"] - 1e-9).all()


@pytest.mark.parametrize("method", ["crown", "alpha-crown", "complete"])
def test_certificates_are_accepted(network: Any, method: str) -> None:
    model, x, y = network
    result = ae.certify(model, x, y, ae.Linf(0.002), method=method)
    assert result.certified.any()
    for row in np.flatnonzero(result.certified)[:2]:
        certificate = result.certificate[row]
        if method != "crown":  # the others keep no slopes
            certificate = certificate.proven(model.graph)
        found = check_certificate(model.graph, certificate)
        assert (found.holds, found.reason) == (True, "")
