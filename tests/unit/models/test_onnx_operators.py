"""ONNX forms that exporters produce, each against onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aisec_eval.errors import ModelImportError, UnsupportedOperationError
from aisec_eval.models import load_model
from aisec_eval.models.lowering import onnx_ops
from helpers.onnx_models import OnnxBuilder, run_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def agree(
    tmp_path: Path,
    b: OnnxBuilder,
    output: str,
    *,
    declared: tuple[int | str, ...] = ("n", "k"),
    full: tuple[int, ...] | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> Any:
    """Load the network and compare it with onnxruntime; return the model."""
    path = b.save(tmp_path / "net.onnx", output, declared)
    model = load_model(path, input_shape=input_shape)
    x = (2 * b.rng.standard_normal((5, *model.input_shape))).astype(np.float32)
    shape = full or (1, *model.input_shape)
    expected = np.stack([run_onnxruntime(path.read_bytes(), one.reshape(shape)) for one in x])
    scale = np.abs(expected).max()
    assert np.abs(model.logits(x) - expected.reshape(5, -1)).max() <= 1e-4 * scale + 1e-6
    return model


def ops(model: Any) -> list[str]:
    return [model.graph.node_op(i) for i in range(model.graph.num_nodes)]


def test_normalisation_and_batch_norm_fold_into_convolutions(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 3, 6, 6))
    mean, std = b.weights(1, 3, 1, 1), b.constant(0.5 + b.rng.random((1, 3, 1, 1)), np.float32)
    x = b.op("Div", b.op("Sub", "input", mean), std)
    x = b.op("Conv", x, b.weights(4, 3, 3, 3), b.weights(4))
    moments = [b.weights(4), b.weights(4), b.weights(4), b.constant([0.5, 1, 2, 3], np.float32)]
    x = b.op("Relu", b.op("BatchNormalization", x, *moments))
    model = agree(tmp_path, b, b.op("Gemm", b.op("Flatten", x), b.weights(64, 5)))
    assert ops(model) == ["input", "conv2d", "relu", "reshape", "affine"]


def test_padded_convolution_keeps_the_shift_before_it(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 1, 6, 6))
    x = b.op("Sub", "input", b.constant(0.3, np.float32))
    x = b.op(
        "Conv", b.op("Div", x, b.constant(0.5, np.float32)), b.weights(2, 1, 3, 3), pads=[1] * 4
    )
    model = agree(tmp_path, b, b.op("MatMul", b.op("Flatten", x), b.weights(72, 3)))
    assert ops(model) == ["input", "add_const", "conv2d", "reshape", "affine"]


def test_channels_last_network(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 6, 5, 3))
    x = b.op("Transpose", "input", perm=[0, 3, 1, 2])
    x = b.op("Relu", b.op("Conv", x, b.weights(4, 3, 3, 3), pads=[1] * 4))
    x = b.op("Transpose", x, perm=[0, 2, 3, 1])
    x = b.op("Add", x, b.weights(4))
    x = b.op("Reshape", x, b.ints(-1, 120))
    model = agree(tmp_path, b, b.op("MatMul", x, b.weights(120, 4)))
    assert model.input_shape == (6, 5, 3)
    # The second transpose is in the weights of the affine map.
    assert ops(model).count("transpose") == 1


@pytest.mark.parametrize("shape", [(6,), (1, 6), ("N", 6)])
def test_batch_axis_fixed_symbolic_or_absent(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    b = OnnxBuilder(shape)
    hidden = b.op("Relu", b.op("Add", b.op("MatMul", "input", b.weights(6, 5)), b.weights(5)))
    y = b.op("MatMul", hidden, b.weights(5, 3))
    full = (6,) if len(shape) == 1 else (1, 6)
    declared = (3,) if len(shape) == 1 else ("n", 3)
    model = agree(tmp_path, b, y, declared=declared, full=full)
    assert (model.input_shape, model.num_classes) == ((6,), 3)


def test_matrix_on_the_left(tmp_path: Path) -> None:
    b = OnnxBuilder((1, 6, 1))
    y = b.op("MatMul", b.weights(4, 6), "input")
    agree(tmp_path, b, b.op("Add", y, b.weights(4, 1)), declared=(1, 4, 1))


def test_gemm_with_every_option(tmp_path: Path) -> None:
    b = OnnxBuilder((6, 1))
    y = b.op("Gemm", "input", b.weights(3, 6), b.weights(1, 3), transA=1, transB=1, beta=0.5)
    agree(tmp_path, b, y, full=(6, 1), input_shape=(6, 1))


def test_one_dimensional_convolution(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 2, 9))
    x = b.op("Conv", "input", b.weights(3, 2, 3), b.weights(3), pads=[1, 0], strides=[2])
    x = b.op("MaxPool", x, kernel_shape=[2])
    agree(tmp_path, b, b.op("MatMul", b.op("Flatten", x), b.weights(9, 3)))


def test_gather_split_and_negative_axes(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 4, 3, 3), opset=18)
    x = b.op("Gather", "input", b.ints(3, 0, 1), axis=1)
    y = b.op("Gather", "input", b.constant(2, np.int64), axis=-3)
    y = b.axes("Unsqueeze", y, [-3], 13)
    x = b.op("Concat", x, y, axis=-3)
    agree(tmp_path, b, b.axes("ReduceMean", x, [-1, -2], 18, keepdims=0))


def test_expand_and_dynamic_shapes(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 4), opset=15)
    shape = b.op("Shape", "input")
    rows = b.op("Slice", shape, b.ints(0), b.ints(1))
    target = b.op("Concat", rows, b.ints(3, 4), axis=0)
    x = b.op("Expand", b.axes("Unsqueeze", "input", [1], 13), target)
    x = b.op("Mul", x, b.weights(1, 3, 4))
    x = b.op("Flatten", x)
    agree(tmp_path, b, b.op("MatMul", x, b.weights(12, 3)))


def test_constants_are_folded(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 6), opset=13)
    scale = b.op("Sqrt", b.op("Abs", b.op("Add", b.weights(6), b.constant(2.0, np.float32))))
    weight = b.op("Transpose", b.op("Mul", b.weights(3, 6), scale), perm=[1, 0])
    zeros = b.op("ConstantOfShape", b.ints(3))
    bias = b.op("Where", b.op("Equal", zeros, zeros), b.weights(3), zeros)
    model = agree(tmp_path, b, b.op("Add", b.op("MatMul", "input", weight), bias))
    assert ops(model) == ["input", "affine"]


BENT: dict[str, Callable[[OnnxBuilder], str]] = {
    "Softmax": lambda b: b.op("Softmax", "input"),
    "LogSoftmax": lambda b: b.op("LogSoftmax", "input", axis=1),
    "Elu": lambda b: b.op("Elu", "input", alpha=0.7),
    "Selu": lambda b: b.op("Selu", "input"),
    "Softplus": lambda b: b.op("Softplus", "input"),
    "Gelu": lambda b: b.op("Gelu", "input"),
    "Gelu by tanh": lambda b: b.op("Gelu", "input", approximate="tanh"),
    "Erf": lambda b: b.op("Erf", "input"),
    "Exp": lambda b: b.op("Exp", "input"),
    "Log": lambda b: b.op("Log", _positive(b)),
    "Sqrt": lambda b: b.op("Sqrt", _positive(b)),
    "Reciprocal": lambda b: b.op("Reciprocal", _positive(b)),
    "Sin": lambda b: b.op("Sin", "input"),
    "Cos": lambda b: b.op("Cos", "input"),
    "Sign": lambda b: b.op("Sign", "input"),
    "Pow 2": lambda b: b.op("Pow", "input", b.constant(2.0, np.float32)),
    "Pow 5": lambda b: b.op("Pow", "input", b.constant(5.0, np.float32)),
    "Pow -3": lambda b: b.op("Pow", _positive(b), b.constant(-3.0, np.float32)),
    "Mul": lambda b: b.op("Mul", "input", b.op("Tanh", "input")),
    "Div": lambda b: b.op("Div", "input", b.op("Exp", "input")),
    "Div of a constant": lambda b: b.op("Div", b.constant(1.0, np.float32), b.op("Exp", "input")),
    "HardSwish": lambda b: b.op("HardSwish", "input"),
    "MatMul": lambda b: b.op("Flatten", b.op("MatMul", *_two(b))),
    "ReduceL2": lambda b: b.axes("ReduceL2", "input", [1], 18),
    "LayerNormalization": lambda b: b.op(
        "LayerNormalization", "input", b.weights(6), b.weights(6), axis=1
    ),
}


def _positive(b: OnnxBuilder) -> str:
    return b.op("Add", b.op("Abs", "input"), b.constant(0.1, np.float32))


def _two(b: OnnxBuilder) -> tuple[str, str]:
    left = b.op("Reshape", b.op("Tanh", "input"), b.ints(-1, 3, 2))
    return left, b.op("Reshape", "input", b.ints(-1, 2, 3))


@pytest.mark.parametrize("kind", BENT)
def test_operators_that_bend_are_native(tmp_path: Path, kind: str) -> None:
    b = OnnxBuilder(("N", 6), opset=20)
    model = agree(tmp_path, b, BENT[kind](b))
    graph, x = model.graph, b.rng.standard_normal((20, 6))
    low, high = graph.interval(x - 0.1, x + 0.1)
    for step in (-0.1, 0.0, 0.07, 0.1):
        y = graph.forward64(x + step)
        assert (low <= y).all()
        assert (y <= high).all()
    apply, params = model.jax_function()
    y = np.asarray(apply(params, x.astype(np.float32)))
    assert np.allclose(y, graph.forward(x.astype(np.float32)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_gates_become_one_operator(tmp_path: Path, scale: float) -> None:
    b = OnnxBuilder(("N", 6))
    x = b.op("MatMul", "input", b.weights(6, 6))
    inner = x if scale == 1.0 else b.op("Mul", x, b.constant(scale, np.float32))
    swish = agree(tmp_path, b, b.op("Mul", b.op("Sigmoid", inner), x))
    assert "silu" in ops(swish)
    assert "mul" not in ops(swish)
    b = OnnxBuilder(("N", 6))
    x = b.op("MatMul", "input", b.weights(6, 6))
    gate = b.op("Erf", b.op("Div", x, b.constant(np.sqrt(2.0) / scale, np.float32)))
    gate = b.op("Add", gate, b.constant(1.0, np.float32))
    gelu = agree(tmp_path, b, b.op("Mul", b.op("Mul", x, gate), b.constant(0.5, np.float32)))
    assert "gelu" in ops(gelu)
    assert "mul" not in ops(gelu)


def test_attention_block(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 4, 6), opset=17)
    parts = [b.op("MatMul", "input", b.weights(6, 6)) for _ in range(3)]
    heads = [
        b.op("Transpose", b.op("Reshape", x, b.ints(-1, 4, 2, 3)), perm=perm)
        for x, perm in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    ]
    scores = b.op("Mul", b.op("MatMul", heads[0], heads[1]), b.constant(0.57, np.float32))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), heads[2])
    joined = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints(-1, 4, 6))
    y = b.op("LayerNormalization", b.op("Add", joined, "input"), b.weights(6), b.weights(6))
    model = agree(tmp_path, b, b.axes("ReduceMean", y, [1], 18, keepdims=0))
    assert model.graph is not None


def test_wide_softmax_still_runs_under_jax(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 600), opset=20)
    model = agree(tmp_path, b, b.op("Softmax", "input"))
    assert model.graph is None
    assert model.capabilities.gradient
    assert not model.capabilities.graph
    assert model.report.not_certifiable == 'operator Softmax (node "n_softmax0_0")'
    assert any("look like probabilities" in w for w in model.report.warnings)
    assert any("without its softmax to certify" in w for w in model.report.warnings)
    assert len(model.digest) == 64
    assert model.logits(np.zeros((0, 600), np.float32)).shape == (0, 600)


UNSUPPORTED: dict[str, tuple[Callable[[OnnxBuilder], str], str]] = {
    "comparison": (
        lambda b: b.op("Not", b.op("Greater", "input", b.constant(0.0, np.float32))),
        "operator Greater",
    ),
    "choice": (lambda b: b.op("ArgMax", "input", axis=1), "operator ArgMax"),
    "step": (lambda b: b.op("Floor", "input"), "operator Floor"),
    "power": (lambda b: b.op("Pow", "input", b.constant(0.3, np.float32)), "a power of 0.3"),
    "pool_ceil": (
        lambda b: b.op("MaxPool", "input", kernel_shape=[1, 1], strides=[3, 3], ceil_mode=1),
        "ceil_mode",
    ),
    "local response": (lambda b: b.op("LRN", "input", size=3), "operator LRN"),
    "training": (
        lambda b: b.op("Dropout", "input", "", b.constant(True, np.bool_)),
        "training mode",
    ),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_operator_is_named(tmp_path: Path, kind: str) -> None:
    build, part = UNSUPPORTED[kind]
    b = OnnxBuilder(("N", 1, 5, 5), opset=11 if kind == "softmax" else 17)
    path = b.save(tmp_path / "net.onnx", build(b))
    with pytest.raises(UnsupportedOperationError) as caught:
        load_model(path)
    message = str(caught.value)
    assert part in message
    assert '(node "n_' in message
    assert "attacks still work" in message


def test_wrong_lowering_names_the_first_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = OnnxBuilder(("N", 1, 5, 5))
    x = b.op("Relu", b.op("Conv", "input", b.weights(2, 1, 3, 3)))
    x = b.op("Tanh", b.op("LeakyRelu", x, alpha=0.1))
    path = b.save(tmp_path / "net.onnx", b.op("MatMul", b.op("Flatten", x), b.weights(18, 3)))
    load_model(path)
    monkeypatch.setitem(onnx_ops.OPERATORS, "Tanh", lambda e, _s, _o, x: e.unary("sigmoid", x))
    with pytest.raises(ModelImportError, match=r'differs from the model, first at node "tanh3_0"'):
        load_model(path)


def test_input_shape_fills_symbolic_sizes(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 1, "H", "W"))
    x = b.op("Conv", "input", b.weights(2, 1, 3, 3))
    path = b.save(tmp_path / "net.onnx", b.axes("ReduceMean", x, [2, 3], 18, keepdims=0))
    with pytest.raises(ModelImportError, match=r"\['\?', 1, '\?', '\?'\].*input_shape="):
        load_model(path)
    with pytest.raises(ModelImportError, match="does not fit"):
        load_model(path, input_shape=(3, 8, 8))
    assert load_model(path, input_shape=(1, 8, 8)).input_shape == (1, 8, 8)


def test_fixed_batch_is_refused(tmp_path: Path) -> None:
    b = OnnxBuilder((8, 6))
    path = b.save(tmp_path / "net.onnx", b.op("MatMul", "input", b.weights(6, 3)), (8, 3))
    with pytest.raises(ModelImportError, match="a batch of 8"):
        load_model(path)


def test_digest_is_of_what_is_computed(tmp_path: Path) -> None:
    def build(seed: int, name: str) -> str:
        b = OnnxBuilder(("N", 6), seed=seed)
        path = b.save(tmp_path / name, b.op("MatMul", "input", b.weights(6, 3)))
        return load_model(path).digest

    assert build(0, "a.onnx") == build(0, "b.onnx")
    assert build(0, "a.onnx") != build(1, "b.onnx")
