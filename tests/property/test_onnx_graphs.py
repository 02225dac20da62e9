"""Random ONNX graphs: the lowered graph, its JAX function and onnxruntime agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisec_eval.models import load_model
from aisec_eval.models.lowering import onnx, onnx_lower
from helpers.onnx_models import OnnxBuilder, run_onnxruntime

if TYPE_CHECKING:
    from pathlib import Path


class Image:
    """A graph under construction whose current value is [1, C, H, W]."""

    def __init__(self, draw: Any, b: OnnxBuilder, shape: tuple[int, int, int]) -> None:
        self.draw, self.b, self.x = draw, b, "input"
        self.c, self.h, self.w = shape

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def conv(self) -> None:
        groups = self.pick(*(g for g in (1, 1, self.c) if self.c % g == 0))
        outputs = groups * self.integer(1, 2)
        kh, kw = self.integer(1, min(3, self.h)), self.integer(1, min(3, self.w))
        sh, sw = self.integer(1, 2), self.integer(1, 2)
        attrs: dict[str, Any] = {"strides": [sh, sw], "group": groups}
        mode = self.pick("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
        dh = dw = 1
        if mode == "NOTSET":
            dh, dw = self.integer(1, 2), self.integer(1, 2)
            dh, dw = (dh if (kh - 1) * dh < self.h else 1), (dw if (kw - 1) * dw < self.w else 1)
            top, left, bottom, right = (self.integer(0, 2) for _ in range(4))
            attrs |= {"pads": [top, left, bottom, right], "dilations": [dh, dw]}
            self.h = (self.h + top + bottom - dh * (kh - 1) - 1) // sh + 1
            self.w = (self.w + left + right - dw * (kw - 1) - 1) // sw + 1
        else:
            attrs["auto_pad"] = mode
            if mode == "VALID":
                self.h, self.w = (self.h - kh) // sh + 1, (self.w - kw) // sw + 1
            else:
                self.h, self.w = -(-self.h // sh), -(-self.w // sw)
        bias = [self.b.weights(outputs)] if self.pick(True, False) else []
        weight = self.b.weights(outputs, self.c // groups, kh, kw)
        self.x = self.b.op("Conv", self.x, weight, *bias, **attrs)
        self.c = outputs

    def activation(self) -> None:
        kind = self.pick("Relu", "LeakyRelu", "Sigmoid", "Tanh", "PRelu", "Clip", "Neg", "Abs")
        if kind == "Clip":
            low, high = self.pick((0.0, 6.0), (-0.5, 0.5), (None, 0.3), (-0.1, None), (0.0, None))
            self.x = self.b.clip(self.x, low, high)
        elif kind == "PRelu":
            shape = self.pick((1,), (self.c, 1, 1))
            self.x = self.b.op("PRelu", self.x, self.b.weights(*shape, scale=0.5))
        elif kind == "LeakyRelu":
            self.x = self.b.op(kind, self.x, alpha=self.pick(0.01, 0.3, 1.5, -0.2))
        else:
            self.x = self.b.op(kind, self.x)

    def batch_norm(self) -> None:
        mean, gain, shift = (self.b.weights(self.c, scale=0.5) for _ in range(3))
        var = self.b.constant(0.5 + self.b.rng.random(self.c), np.float32)
        self.x = self.b.op("BatchNormalization", self.x, gain, shift, mean, var, epsilon=1e-3)

    def with_constant(self) -> None:
        shape = self.pick((), (1,), (self.c, 1, 1), (1, self.c, 1, 1), (self.h, self.w), (self.w,))
        value = self.b.constant(0.5 + self.b.rng.random(shape), np.float32)
        kind = self.pick("Add", "Sub", "Mul", "Div", "Max", "Min")
        first = kind != "Div" and self.pick(True, False)
        self.x = self.b.op(kind, *((value, self.x) if first else (self.x, value)))

    def pool(self) -> None:
        kind = self.pick("MaxPool", "AveragePool")
        kh, kw = self.integer(1, min(3, self.h)), self.integer(1, min(3, self.w))
        sh, sw = self.integer(1, 3), self.integer(1, 3)
        pads = [self.integer(0, k - 1) for k in (kh, kw, kh, kw)]
        padded = self.h + pads[0] + pads[2], self.w + pads[1] + pads[3]
        floors = (padded[0] - kh) // sh + 1, (padded[1] - kw) // sw + 1
        ceils = -(-(padded[0] - kh) // sh) + 1, -(-(padded[1] - kw) // sw) + 1
        # Runtimes disagree on windows that start beyond the input.
        inside = (ceils[0] - 1) * sh < self.h + pads[0] and (ceils[1] - 1) * sw < self.w + pads[1]
        ceil = self.b.opset >= 10 and inside and self.pick(True, False)
        attrs: dict[str, Any] = {"kernel_shape": [kh, kw], "strides": [sh, sw], "pads": pads}
        if kind == "AveragePool":
            attrs["count_include_pad"] = 0 if ceil else self.pick(0, 1)
        if ceil:
            attrs["ceil_mode"] = 1
        self.x = self.b.op(kind, self.x, **attrs)
        self.h, self.w = ceils if ceil else floors

    def residual(self) -> None:
        weight = self.b.weights(self.c, self.c, 1, 1)
        branch = self.b.op("Relu", self.b.op("Conv", self.x, weight))
        self.x = self.b.op(self.pick("Add", "Sub", "Max", "Min"), self.x, branch)

    def concat(self) -> None:
        axis = self.pick(1, 2, 3)
        other = self.b.op("Relu", self.x)
        if self.pick(True, False):
            shape = [1, self.c, self.h, self.w]
            other = self.b.weights(*shape, scale=1.0)
        self.x = self.b.op("Concat", self.x, other, axis=axis)
        self.c, self.h, self.w = (
            d * (2 if a == axis else 1) for a, d in enumerate((self.c, self.h, self.w), 1)
        )

    def slice(self) -> None:
        axis = self.pick(1, 2, 3)
        size = (self.c, self.h, self.w)[axis - 1]
        start = self.integer(0, size - 1)
        end = self.pick(size, 2**31 - 1, -1) if start < size - 1 else 2**31 - 1
        step = self.pick(1, 2, -1) if self.b.opset >= 10 else 1
        if step < 0:
            start, end = size - 1 - start, -(2**31)
        self.x = self.b.slice(self.x, [start], [end], [axis], None if step == 1 else [step])
        count = len(range(*slice(start, end, step).indices(size)))
        self.c, self.h, self.w = (
            count if a == axis else d for a, d in enumerate((self.c, self.h, self.w), 1)
        )

    def pad(self) -> None:
        before = [0] + [self.integer(0, 1) for _ in range(3)]
        after = [0] + [self.integer(0, 2) for _ in range(3)]
        self.x = self.b.pad(self.x, before + after, self.pick(0.0, 0.5))
        self.c, self.h, self.w = (
            d + b + a
            for d, b, a in zip((self.c, self.h, self.w), before[1:], after[1:], strict=True)
        )

    def transpose(self) -> None:
        perm = self.pick([0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [0, 3, 2, 1])
        self.x = self.b.op("Transpose", self.x, perm=perm)
        sizes = (1, self.c, self.h, self.w)
        self.c, self.h, self.w = (sizes[p] for p in perm[1:])

    def split(self) -> None:
        if self.c > 1:
            first, second = self.b.split(self.x, [1, self.c - 1], 1)
            self.x = self.b.op("Concat", second, self.b.op("Tanh", first), axis=1)

    def channel_attention(self) -> None:
        pooled = self.b.op("GlobalAveragePool", self.x)
        self.x = self.b.op("Sub", self.x, pooled)

    def step(self) -> None:
        getattr(
            self,
            self.pick(
                *("conv", "conv", "activation", "activation", "batch_norm", "with_constant"),
                *("pool", "residual", "concat", "slice", "pad", "transpose", "split"),
                "channel_attention",
            ),
        )()

    def head(self) -> str:
        """Flatten in one of the ways exporters do, and classify."""
        features = self.c * self.h * self.w
        b = self.b
        way = self.pick("Flatten", "Reshape", "Shape", "Mean", "Max")
        if way == "Flatten":
            flat = b.op("Flatten", self.x)
        elif way == "Reshape":
            flat = b.op("Reshape", self.x, b.ints(*self.pick((0, -1), (-1, features))))
        elif way == "Shape":
            batch = b.op("Gather", b.op("Shape", self.x), b.constant(0, np.int64), axis=0)
            sizes = b.op("Concat", b.axes("Unsqueeze", batch, [0], 13), b.ints(-1), axis=0)
            flat = b.op("Reshape", self.x, sizes)
        else:
            kind, since = ("ReduceMean", 18) if way == "Mean" else ("ReduceMax", 18)
            flat = b.axes(kind, self.x, [2, 3], since, keepdims=0)
            features = self.c
        if self.pick(True, False):
            y = b.op("MatMul", flat, b.weights(features, 3))
            return b.op("Add", b.weights(3), y)
        weight = b.weights(3, features)
        return b.op("Gemm", flat, weight, b.weights(3), transB=1, alpha=self.pick(1.0, 0.5))


@st.composite
def networks(draw: Any) -> OnnxBuilder:
    opset = draw(st.integers(8, 21))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(3, 6), st.integers(3, 6)))
    batch = draw(st.sampled_from(["N", 1]))
    b = OnnxBuilder((batch, *shape), opset, seed=draw(st.integers(0, 1000)))
    image = Image(draw, b, shape)
    for _ in range(draw(st.integers(1, 6))):
        image.step()
    b.output = image.head()
    return b


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@given(networks())
def test_random_graphs_agree_with_onnxruntime(folder: Path, b: OnnxBuilder) -> None:
    path = b.save(folder / "net.onnx", b.output)
    spec = onnx_lower.lower(onnx.read(path))
    x = (3 * b.rng.standard_normal((4, *spec.input_shape))).astype(np.float32)
    expected = np.concatenate([run_onnxruntime(path.read_bytes(), x[i : i + 1]) for i in range(4)])
    tolerance = 1e-4 * np.abs(expected).max() + 1e-6
    graph = spec.to_core()
    assert np.abs(graph.forward(x) - expected).max() <= tolerance
    assert np.abs(graph.forward64(x.astype(np.float64)) - expected).max() <= tolerance


@settings(max_examples=10)
@given(networks())
def test_load_check_and_jax_function_agree_with_the_graph(folder: Path, b: OnnxBuilder) -> None:
    model = load_model(b.save(folder / "net.onnx", b.output))
    x = (3 * b.rng.standard_normal((2, *model.input_shape))).astype(np.float32)
    apply, params = model.jax_function()
    native = model.graph.forward(x)
    gap = np.abs(np.asarray(apply(params, x)) - native).max()
    assert gap <= 1e-4 * np.abs(native).max() + 1e-6
