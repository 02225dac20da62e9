"""Small networks in the styles of VNN-COMP's benchmark families: operators, layouts, exporters.

Weights are random and the networks small, but nodes, ranks, opsets, attributes and the way
constants are stored are those that the exporters of each family write.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

Box = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


class Net:
    """A network under construction, written as one of the usual exporters does."""

    def __init__(
        self,
        shape: tuple[int | str, ...],
        *,
        opset: int = 13,
        key: int = 0,
        constants: str = "initializer",
        dtype: Any = np.float32,
    ) -> None:
        """Begin with the input.

        Args:
            shape: of the input as declared.
            opset: of the file.
            key: of the random weights.
            constants: "initializer", "node" (Constant nodes), or "input" (initializers that are
                inputs too, as old exporters write them).
            dtype: of input, weights and output.
        """
        self.shape, self.opset, self.constants, self.dtype = shape, opset, constants, dtype
        self.rng = np.random.Generator(np.random.Philox(key=key))
        self.nodes: list[Any] = []
        self.stored: list[Any] = []
        self._count = 0

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"/{kind.lower()}.{self._count}"

    def put(self, value: Any, dtype: Any = None) -> str:
        """Add a constant."""
        name = self._name("c")
        tensor = numpy_helper.from_array(np.asarray(value, dtype or self.dtype), name)
        if self.constants == "node":
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.stored.append(tensor)
        return name

    def ints(self, *values: int) -> str:
        """Add an int64 vector."""
        return self.put(values, np.int64)

    def weights(self, *shape: int, scale: float = 1.0) -> str:
        """Add random weights whose sums over all but the first axis have variance `scale`²."""
        fan = int(np.prod(shape[1:])) or 1
        return self.put(scale * self.rng.standard_normal(shape) / np.sqrt(fan))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        """Add a node; return the names of its outputs."""
        names = [self._name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attrs))
        return names[0] if outputs == 1 else names

    def dense(self, x: str, inputs: int, outputs: int, *, gemm: bool = True) -> str:
        """Add a dense layer, as PyTorch (Gemm) or TensorFlow (MatMul, Add) writes it."""
        bias = self.put(0.3 * self.rng.standard_normal(outputs))
        if gemm:
            weight = self.weights(outputs, inputs, scale=1.4)
            return str(self.op("Gemm", x, weight, bias, alpha=1.0, beta=1.0, transB=1))
        weight = self.put(1.4 / np.sqrt(inputs) * self.rng.standard_normal((inputs, outputs)))
        return str(self.op("Add", self.op("MatMul", x, weight), bias))

    def mlp(self, x: str, *sizes: int, gemm: bool = True, activation: str = "Relu") -> str:
        """Add dense layers with an activation between."""
        for at, (inputs, outputs) in enumerate(pairwise(sizes)):
            x = self.op(activation, x) if at else x
            x = self.dense(x, inputs, outputs, gemm=gemm)
        return x

    def conv(self, x: str, inputs: int, outputs: int, kernel: int = 3, **attrs: Any) -> str:
        """Add a convolution with a bias."""
        weight = self.weights(outputs, inputs // attrs.get("group", 1), kernel, kernel, scale=1.4)
        bias = self.put(0.1 * self.rng.standard_normal(outputs))
        attrs = {"kernel_shape": [kernel, kernel], **attrs}
        return str(self.op("Conv", x, weight, bias, **attrs))

    def norm(self, x: str, channels: int) -> str:
        """Add a batch normalization."""
        gain, var = (self.put(0.8 + 0.4 * self.rng.random(channels)) for _ in range(2))
        shift, mean = (self.put(0.2 * self.rng.standard_normal(channels)) for _ in range(2))
        return str(self.op("BatchNormalization", x, gain, shift, mean, var, epsilon=1e-5))

    def cut(self, x: str, start: int, end: int, axis: int) -> str:
        """Add a Slice."""
        if self.opset < 10:
            return str(self.op("Slice", x, starts=[start], ends=[end], axes=[axis]))
        bounds = (self.ints(v) for v in (start, end, axis, 1))
        return str(self.op("Slice", x, *bounds))

    def sum(self, x: str, axis: int, *, keep: bool) -> str:
        """Add a ReduceSum."""
        if self.opset < 13:
            return str(self.op("ReduceSum", x, axes=[axis], keepdims=int(keep)))
        return str(self.op("ReduceSum", x, self.ints(axis), keepdims=int(keep)))

    def save(self, path: Path, output: str, shape: tuple[int | str, ...] | None) -> Path:
        """Write the file."""
        kind = TensorProto.DOUBLE if self.dtype == np.float64 else TensorProto.FLOAT
        inputs = [helper.make_tensor_value_info("input", kind, list(self.shape))]
        if self.constants == "input":
            inputs += [
                helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.stored
            ]
        declared = helper.make_tensor_value_info(output, kind, shape)
        graph = helper.make_graph(self.nodes, "net", inputs, [declared], initializer=self.stored)
        version = 3 if self.constants == "input" else 8
        opset = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, ir_version=version, opset_imports=opset)
        path.write_bytes(model.SerializeToString())
        return path


@dataclass(frozen=True)
class Family:
    """One style of network."""

    name: str
    build: Callable[[int], tuple[Net, str, tuple[int | str, ...] | None]]
    """Key of the weights to the network, its output's name and declared shape."""
    sample: tuple[int, ...]
    """Shape in which ONNX Runtime takes one input."""
    outputs: int
    radius: float = 0.1
    """Of the boxes to verify."""
    free: tuple[int, int] | None = None
    """The first of the inputs that are free, and the first after them; the others are fixed."""

    def box(self, key: int) -> Box:
        """Return the corners of a box of inputs, flat."""
        rng = np.random.Generator(np.random.Philox(key=1000 + key))
        count = int(np.prod(self.sample))
        middle = rng.uniform(0.2, 0.8, count)
        first, end = self.free or (0, count)
        radius = np.zeros(count)
        radius[first:end] = self.radius
        return middle - radius, middle + radius


def _acasxu(key: int) -> Any:
    n = Net((1, 1, 1, 5), opset=8, key=key, constants="input")
    x = n.op("Flatten", n.op("Sub", "input", n.put(np.full((1, 1, 1, 5), 0.1))), axis=1)
    return n, n.mlp(x, 5, 12, 12, 5, gemm=False), (1, 5)


def _mnist_fc(key: int) -> Any:
    n = Net((1, 25, 1), opset=9, key=key)
    x = n.op("Flatten", "input", axis=1)
    return n, n.mlp(x, 25, 16, 16, 10), (1, 10)


def _cifar2020(key: int) -> Any:
    n = Net((1, 3, 6, 6), opset=9, key=key, constants="node")
    mean, std = (n.put(v.reshape(1, 3, 1, 1)) for v in (n.rng.random(3), 0.2 + n.rng.random(3)))
    x = n.op("Div", n.op("Sub", "input", mean), std)
    x = n.op("Relu", n.conv(x, 3, 4, 4, strides=[2, 2], pads=[1, 1, 1, 1], group=1))
    return n, n.mlp(n.op("Flatten", x, axis=1), 36, 12, 10), (1, 10)


def _biasfield(key: int) -> Any:
    n = Net((1, 16), opset=11, key=key)
    x = n.op("Reshape", n.dense("input", 16, 75), n.ints(-1, 3, 5, 5))
    x = n.op("Relu", n.conv(x, 3, 4, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    return n, n.mlp(n.op("Flatten", x), 36, 10, 5), (1, 5)


def _resnet(key: int) -> Any:
    n = Net(("batch_size", 3, 8, 8), opset=12, key=key)
    x = n.op("Relu", n.norm(n.conv("input", 3, 4, 3, pads=[1] * 4), 4))
    y = n.op("Relu", n.norm(n.conv(x, 4, 6, 3, pads=[1] * 4, strides=[2, 2]), 6))
    y = n.norm(n.conv(y, 6, 6, 3, pads=[1] * 4), 6)
    x = n.op("Relu", n.op("Add", y, n.norm(n.conv(x, 4, 6, 1, strides=[2, 2]), 6)))
    x = n.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    batch = n.op("Gather", n.op("Shape", x), n.put(0, np.int64), axis=0)
    sizes = n.op("Concat", n.op("Unsqueeze", batch, axes=[0]), n.ints(-1), axis=0)
    return n, n.mlp(n.op("Reshape", x, sizes), 24, 10), ("batch_size", 10)


def _collins_rul(key: int) -> Any:
    n = Net(("N", 1, 8, 6), opset=11, key=key)
    weight, bias = n.weights(3, 1, 5, 1, scale=2.0), n.put(0.1 * n.rng.standard_normal(3))
    x = n.op("Conv", "input", weight, bias, kernel_shape=[5, 1], pads=[2, 0, 2, 0])
    x = n.op("Flatten", n.op("Dropout", n.op("Relu", x)), axis=1)
    return n, n.mlp(x, 144, 12, 1), ("N", 1)


def _marabou(key: int) -> Any:
    n = Net(("unk", 6, 6, 3), opset=9, key=key)
    x = n.op("Transpose", "input", perm=[0, 3, 1, 2])
    x = n.op("Relu", n.conv(x, 3, 4, 3, strides=[2, 2], auto_pad="VALID"))
    x = n.op("Reshape", n.op("Transpose", x, perm=[0, 2, 3, 1]), n.ints(-1, 16))
    return n, n.mlp(x, 16, 12, 10, gemm=False), ("unk", 10)


def _verivital(key: int) -> Any:
    n = Net((1, 1, 10, 10), opset=9, key=key)
    x = n.op("Pad", "input", mode="constant", pads=[0] * 8, value=0.0)
    x = n.op("Relu", n.conv(x, 1, 3, 3, pads=[1] * 4))
    x = n.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = n.op("Relu", n.conv(x, 3, 4, 2, pads=[0] * 4))
    x = n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    return n, n.mlp(n.op("Flatten", x, axis=1), 16, 10), (1, 10)


def _tll(key: int) -> Any:
    n = Net((1, 2), opset=13, key=key)
    x = n.mlp("input", 2, 8, gemm=False)
    for size in (8, 4, 2):
        # max(a, b) = relu(a - b) + relu(b) - relu(-b) of neighbours
        pairs = size // 2
        first = np.zeros((size, 3 * pairs))
        second = np.zeros((3 * pairs, pairs))
        for k in range(pairs):
            first[[2 * k, 2 * k + 1], 3 * k] = 1, -1
            first[2 * k + 1, [3 * k + 1, 3 * k + 2]] = 1, -1
            second[3 * k : 3 * k + 3, k] = 1, 1, -1
        x = n.op("Add", n.op("MatMul", x, n.put(first)), n.put(np.zeros(3 * pairs)))
        x = n.op("MatMul", n.op("Relu", x), n.put(second))
        x = n.op("Add", x, n.put(np.zeros(pairs)))
    return n, x, (1, 1)


def _rl(key: int) -> Any:
    n = Net((1, 4), opset=10, key=key, constants="node")
    return n, n.mlp(n.op("Flatten", "input"), 4, 16, 16, 2), (1, 2)


def _batchless(key: int) -> Any:
    n = Net((30,), opset=13, key=key)
    return n, n.mlp("input", 30, 16, 2, gemm=False), (2,)


def _double(key: int) -> Any:
    n = Net((1, 3), opset=11, key=key, dtype=np.float64)
    return n, n.mlp("input", 3, 10, 10, 2, gemm=False), (1, 2)


def _dist_shift(key: int) -> Any:
    n = Net((1, 32), opset=11, key=key)
    image = n.op("Relu", n.dense("input", 32, 20))
    x = n.op("Sigmoid", n.dense(image, 20, 16))
    x = n.op("Reshape", x, n.ints(-1, 1, 4, 4))
    return n, n.mlp(n.op("Reshape", x, n.ints(1, 16)), 16, 12, 10), (1, 10)


def _cgan(key: int) -> Any:
    n = Net((1, 5), opset=12, key=key)
    x = n.op("Reshape", n.dense("input", 5, 32), n.ints(1, 8, 2, 2))
    x = n.op("Relu", n.norm(x, 8))
    weight = n.weights(8, 4, 3, 3, scale=4.0)
    attrs = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    x = n.op("ConvTranspose", x, weight, n.put(n.rng.random(4)), output_padding=[1, 1], **attrs)
    x = n.op("Relu", n.norm(x, 4))
    weight = n.weights(4, 1, 4, 4, scale=3.0)
    x = n.op("ConvTranspose", x, weight, strides=[2, 2], pads=[1] * 4, kernel_shape=[4, 4])
    x = n.op("Tanh", x)
    x = n.op("Relu", n.conv(x, 1, 4, 3, strides=[2, 2], pads=[1] * 4))
    return n, n.dense(n.op("Reshape", x, n.ints(1, 64)), 64, 2), (1, 2)


def _cgan_upsample(key: int) -> Any:
    n = Net((1, 5), opset=9, key=key)
    x = n.op("Reshape", n.dense("input", 5, 16), n.ints(1, 4, 2, 2))
    x = n.op("Upsample", x, n.put([1.0, 1.0, 2.0, 2.0], np.float32), mode="nearest")
    x = n.op("Relu", n.norm(n.conv(x, 4, 3, 3, pads=[1] * 4), 3))
    x = n.op("Sigmoid", n.conv(x, 3, 1, 3, pads=[1] * 4))
    return n, n.dense(n.op("Reshape", x, n.ints(1, 16)), 16, 1), (1, 1)


def _linearize(key: int) -> Any:
    n = Net((1, 4), opset=11, key=key)
    latent, state = n.cut("input", 0, 2, 1), n.cut("input", 2, 4, 1)
    y = n.mlp(n.op("Concat", state, latent, axis=1), 4, 16, 12, 2)
    line = n.op("MatMul", "input", n.put(n.rng.standard_normal((4, 2))))
    return n, n.op("Concat", y, line, axis=1), (1, 4)


def _lsnc(key: int) -> Any:
    n = Net(("batch", 6), opset=13, key=key)
    control = n.op("Relu", n.mlp("input", 6, 8, 2))
    angle = n.cut("input", 2, 3, 1)
    sine, cosine = n.op("Sin", angle), n.op("Cos", angle)
    thrust = n.sum(control, 1, keep=True)
    push = n.op("Div", n.op("Mul", n.op("Neg", thrust), sine), n.put(0.486))
    lift = n.op("Sub", n.op("Mul", thrust, cosine), n.put(0.981))
    step = n.op("Mul", n.op("Concat", push, lift, axis=1), n.put(0.01))
    moved = n.op(
        "Concat", n.cut("input", 0, 4, 1), n.op("Add", n.cut("input", 4, 6, 1), step), axis=1
    )
    shape = n.op("Shape", "input")
    batch = n.op("Unsqueeze", n.op("Gather", shape, n.put(0, np.int64), axis=0), n.ints(0))
    zeros = n.op("ConstantOfShape", n.op("Concat", batch, n.ints(6), axis=0))
    matrix = n.put(np.eye(6) + 0.1 * n.rng.standard_normal((6, 6)))
    values = []
    for state in ("input", moved):
        error = n.op("Sub", state, zeros)
        values.append(n.sum(n.op("Mul", n.op("MatMul", error, matrix), error), 1, keep=True))
    drop = n.op("Sub", values[1], n.op("Mul", values[0], n.put(0.99)))
    return n, n.op("Concat", drop, values[0], moved, axis=1), ("batch", 8)


def _acopf(key: int) -> Any:
    n = Net((1, 6), opset=12, key=key)
    x = n.op("Sigmoid", n.mlp("input", 6, 10, 8))
    voltage, angle = n.cut(x, 0, 4, 1), n.cut(x, 4, 8, 1)
    pairs = [n.op("Gather", v, n.ints(0, 1, 2, 3, 0), axis=1) for v in (voltage, angle)]
    others = [n.op("Gather", v, n.ints(1, 2, 3, 0, 2), axis=1) for v in (voltage, angle)]
    gap = n.op("Sub", pairs[1], others[1])
    flow = n.op("Mul", n.op("Mul", pairs[0], others[0]), n.op("Sin", gap))
    size = n.op("Mul", n.op("Pow", pairs[0], n.put(2.0)), n.op("Cos", gap))
    length = n.op("ConstantOfShape", n.ints(2), value=numpy_helper.from_array(np.ones(1, np.int64)))
    minus = n.op("Mul", length, n.put(-1, np.int64))
    wanted = n.op("Where", n.op("Equal", n.ints(1, 5), minus), length, n.ints(1, 5))
    loss = n.op("Expand", n.sum(size, 1, keep=True), wanted)
    turned = n.op("Transpose", n.op("Add", flow, loss), perm=[1, 0])
    mixed = n.op("MatMul", n.weights(3, 5), turned)
    return n, n.op("Concat", n.op("Transpose", mixed, perm=[1, 0]), voltage, axis=1), (1, 7)


def _mscn(key: int) -> Any:
    n = Net((1, 6, 7), opset=13, key=key)
    tables, joins, more = n.op("Split", "input", n.ints(2, 2, 2), axis=1, outputs=3)
    sums = []
    for part, mask_at in ((tables, 6), (joins, 6), (more, 6)):
        mask, features = n.cut(part, mask_at, 7, 2), n.cut(part, 0, mask_at, 2)
        weight = n.put(0.6 * n.rng.standard_normal((6, 5)))
        hidden = n.op("Relu", n.op("Add", n.put(n.rng.random(5)), n.op("MatMul", features, weight)))
        total = n.sum(n.op("Mul", hidden, mask), 1, keep=False)
        sums.append(n.op("Div", total, n.sum(mask, 1, keep=False)))
    x = n.op("Relu", n.dense(n.op("Concat", *sums, axis=1), 15, 8))
    return n, n.op("Sigmoid", n.dense(x, 8, 1)), (1, 1)


def _pensieve(key: int) -> Any:
    n = Net((1, 12, 8), opset=11, key=key)
    halves = n.op("Split", "input", axis=1, split=[6, 6], outputs=2)
    values = []
    weight = n.weights(4, 1, 4, scale=1.5)
    dense = [(n.weights(6, 22, scale=1.5), n.put(n.rng.standard_normal(6)))]
    for half in halves:
        last = n.op("Gather", half, n.ints(-1), axis=2)
        row = n.cut(n.cut(half, 2, 3, 1), 0, 8, 2)
        seen = n.op("Relu", n.op("Conv", row, weight, kernel_shape=[4], strides=[1], group=1))
        flat = n.op(
            "Concat",
            n.op("Flatten", seen),
            n.op("Reshape", n.cut(last, 0, 2, 1), n.ints(1, -1)),
            axis=1,
        )
        logits = n.op("Gemm", flat, *dense[0], transB=1)
        squared = n.op("Pow", n.op("Relu", logits), n.put(2.0))
        chance = n.op("Div", squared, n.op("Add", n.sum(squared, 1, keep=True), n.put(0.5)))
        values.append(n.op("MatMul", chance, n.put(np.arange(6.0).reshape(6, 1))))
    return n, n.op("Sub", *values), (1, 1)


def _traffic_signs(key: int) -> Any:
    n = Net(("unk__0", 8, 8, 3), opset=9, key=key)

    def sign(x: str) -> str:
        # The binary sign of larq: zero counts as positive.
        return str(n.op("Sign", n.op("Add", n.op("Sign", x), n.put(0.1))))

    x = n.op("Transpose", "input", perm=[0, 3, 1, 2])
    kernel = n.put(np.sign(n.rng.standard_normal((4, 3, 3, 3))))
    x = n.op("Conv", x, kernel, auto_pad="VALID", kernel_shape=[3, 3])
    x = n.norm(n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID"), 4)
    kernel = n.put(np.sign(n.rng.standard_normal((4, 4, 2, 2))))
    x = n.op("Conv", sign(x), kernel, auto_pad="VALID", kernel_shape=[2, 2])
    x = n.op("Reshape", n.op("Transpose", sign(x), perm=[0, 2, 3, 1]), n.ints(-1, 16))
    weight = n.put(np.sign(n.rng.standard_normal((16, 5))))
    x = n.op("Add", n.op("MatMul", x, weight), n.put(n.rng.standard_normal(5)))
    return n, n.op("Softmax", x), ("unk__0", 5)


def _vgg(key: int) -> Any:
    n = Net((1, 3, 8, 8), opset=7, key=key, constants="input")
    x = n.op("Relu", n.conv("input", 3, 4, 3, pads=[1] * 4, strides=[1, 1], dilations=[1, 1]))
    x = n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    x = n.op("Relu", n.conv(x, 4, 6, 3, pads=[1] * 4))
    x = n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    x = n.op("Relu", n.dense(n.op("Flatten", x), 24, 12))
    return n, n.dense(n.op("Dropout", x, ratio=0.5), 12, 20), (1, 20)


def _vit(key: int) -> Any:
    n = Net(("batch_size", 3, 4, 4), opset=11, key=key)
    width, heads, tokens = 8, 2, 5
    patches = n.conv("input", 3, width, 2, strides=[2, 2])
    x = n.op("Transpose", n.op("Reshape", patches, n.ints(0, width, -1)), perm=[0, 2, 1])
    batch = n.op("Gather", n.op("Shape", x), n.put(0, np.int64), axis=0)
    sizes = n.op("Concat", n.op("Unsqueeze", batch, axes=[0]), n.ints(1), n.ints(width), axis=0)
    ones = n.op("ConstantOfShape", sizes, value=numpy_helper.from_array(np.ones(1, np.float32)))
    token = n.op("Mul", ones, n.put(n.rng.standard_normal((1, 1, width))))
    x = n.op(
        "Add", n.op("Concat", token, x, axis=1), n.put(n.rng.standard_normal((1, tokens, width)))
    )

    def normal(x: str) -> str:
        turned = n.norm(n.op("Transpose", x, perm=[0, 2, 1]), width)
        return str(n.op("Transpose", turned, perm=[0, 2, 1]))

    y = normal(x)
    parts = []
    for _ in range(3):
        weight = n.put(0.4 * n.rng.standard_normal((width, width)))
        part = n.op("Add", n.op("MatMul", y, weight), n.put(0.1 * n.rng.standard_normal(width)))
        part = n.op("Reshape", part, n.ints(0, tokens, heads, width // heads))
        parts.append(n.op("Transpose", part, perm=[0, 2, 1, 3]))
    query, key_, value = parts
    scores = n.op("MatMul", query, n.op("Transpose", key_, perm=[0, 1, 3, 2]))
    mix = n.op("Softmax", n.op("Mul", scores, n.put(0.5)), axis=3)
    y = n.op("Transpose", n.op("MatMul", mix, value), perm=[0, 2, 1, 3])
    y = n.op("Reshape", y, n.ints(0, tokens, width))
    x = n.op("Add", x, n.op("Add", n.op("MatMul", y, n.weights(width, width)), n.weights(width)))
    y = n.op("Relu", n.op("Add", n.op("MatMul", normal(x), n.weights(width, 12)), n.weights(12)))
    x = n.op("Add", x, n.op("Add", n.op("MatMul", y, n.weights(12, width)), n.weights(width)))
    x = n.op("ReduceMean", x, axes=[1], keepdims=0)
    return n, n.dense(x, width, 4), ("batch_size", 4)


def _yolo(key: int) -> Any:
    n = Net((1, 3, 8, 8), opset=12, key=key)
    x = n.op("LeakyRelu", n.conv("input", 3, 4, 3, pads=[1] * 4, strides=[2, 2]), alpha=0.1)
    a, b = n.op("Split", x, axis=1, split=[2, 2], outputs=2)
    b = n.op("Add", b, n.op("LeakyRelu", n.conv(b, 2, 2, 3, pads=[1] * 4), alpha=0.1))
    x = n.op(
        "Concat",
        a,
        b,
        n.op("MaxPool", a, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1]),
        axis=1,
    )
    small = n.op("LeakyRelu", n.conv(x, 6, 4, 3, pads=[1] * 4, strides=[2, 2]), alpha=0.1)
    factors = n.put([1.0, 1.0, 2.0, 2.0], np.float32)
    attrs = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    big = n.op("Resize", small, n.put([], np.float32), factors, mode="nearest", **attrs)
    x = n.conv(n.op("Concat", big, x, axis=1), 10, 5, 1)
    x = n.op(
        "Sigmoid",
        n.op("Transpose", n.op("Reshape", x, n.ints(1, 1, 5, 4, 4)), perm=[0, 1, 3, 4, 2]),
    )
    place, size, score = n.op("Split", x, axis=4, split=[2, 2, 1], outputs=3)
    place = n.op(
        "Mul", n.op("Add", n.op("Mul", place, n.put(2.0)), n.weights(1, 1, 4, 4, 2)), n.put(8.0)
    )
    size = n.op(
        "Mul",
        n.op("Pow", n.op("Mul", size, n.put(2.0)), n.put(2.0)),
        n.put(np.ones((1, 1, 1, 1, 2))),
    )
    x = n.op("Concat", place, size, score, axis=4)
    return n, n.op("Reshape", x, n.ints(1, 16, 5)), (1, 16, 5)


def _tiny_yolo(key: int) -> Any:
    n = Net((1, 3, 8, 8), opset=11, key=key)
    x = n.op("Pad", "input", n.ints(0, 0, 1, 1, 0, 0, 1, 1), n.put(0.0), mode="constant")
    x = n.op("Relu", n.conv(x, 3, 4, 3))
    x = n.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=0)
    x = n.op("Add", x, n.op("Relu", n.conv(x, 4, 4, 3, pads=[1] * 4)))
    return n, n.op("Flatten", n.conv(x, 4, 2, 1)), (1, 32)


def _unet(key: int) -> Any:
    n = Net((1, 3, 6, 5), opset=12, key=key)
    x = n.op("Relu", n.conv("input", 3, 4, 3, pads=[1] * 4))
    down = n.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    down = n.op("Relu", n.conv(down, 4, 4, 3, pads=[1] * 4))
    up = n.op("ConvTranspose", down, n.weights(4, 4, 2, 2), strides=[2, 2], kernel_shape=[2, 2])
    gap = n.op(
        "Sub",
        n.op("Gather", n.op("Shape", x), n.put(3, np.int64)),
        n.op("Gather", n.op("Shape", up), n.put(3, np.int64)),
    )
    left = n.op("Div", gap, n.put(2, np.int64))
    right = n.op("Sub", gap, left)
    ones = [n.op("Unsqueeze", v, axes=[0]) for v in (left, right)]
    zeros = n.ints(0, 0, 0)
    pads = n.op("Concat", zeros, ones[0], zeros, ones[1], axis=0)
    up = n.op("Pad", up, n.op("Cast", pads, to=TensorProto.INT64), n.put(0.0), mode="constant")
    x = n.conv(n.op("Concat", x, up, axis=1), 8, 2, 1)
    return n, n.op("Softmax", n.op("Transpose", x, perm=[0, 2, 3, 1]), axis=3), (1, 6, 5, 2)


def _malbeware(key: int) -> Any:
    n = Net((1, 8, 8), opset=13, key=key, constants="node")
    x = n.op("Unsqueeze", "input", n.ints(1))
    x = n.op("Relu", n.conv(x, 1, 3, 3, strides=[2, 2]))
    return n, n.mlp(n.op("Flatten", x), 27, 9), (1, 9)


def _cora(key: int) -> Any:
    n = Net((1, 20), opset=13, key=key)
    return n, n.mlp(n.op("Mul", "input", n.put(2.0)), 20, 12, 12, 10, gemm=False), (1, 10)


def _sat_relu(key: int) -> Any:
    n = Net((1, 5), opset=14, key=key)
    return n, n.mlp("input", 5, 12, 8, 1), (1, 1)


def _cersyve(key: int) -> Any:
    n = Net((2,), opset=15, key=key)
    value = n.mlp("input", 2, 8, 1, gemm=False)
    control = n.op("Clip", n.mlp("input", 2, 8, 1, gemm=False), n.put(-1.0), n.put(1.0))
    step = n.op("MatMul", control, n.put([[0.1, 0.2]]))
    moved = n.op("Add", n.op("MatMul", "input", n.put([[1.0, 0.0], [0.1, 1.0]])), step)
    return n, n.op("Concat", value, moved, axis=0), (3,)


FAMILIES = (
    Family("acasxu", _acasxu, (1, 1, 1, 5), 5, 0.3),
    Family("mnist_fc", _mnist_fc, (1, 25, 1), 10),
    Family("cifar2020", _cifar2020, (1, 3, 6, 6), 10, 0.01),
    Family("cifar_biasfield", _biasfield, (1, 16), 5, 0.05),
    Family("cifar100_resnet", _resnet, (1, 3, 8, 8), 10, 0.01),
    Family("collins_rul", _collins_rul, (1, 1, 8, 6), 1, 0.02),
    Family("marabou_cifar10", _marabou, (1, 6, 6, 3), 10, 0.02),
    Family("verivital", _verivital, (1, 1, 10, 10), 10, 0.02),
    Family("tllverifybench", _tll, (1, 2), 1, 0.3),
    Family("rl_benchmarks", _rl, (1, 4), 2, 0.2),
    Family("safenlp", _batchless, (30,), 2, 0.05),
    Family("double", _double, (1, 3), 2, 0.2),
    Family("dist_shift", _dist_shift, (1, 32), 10, 0.2, free=(24, 32)),
    Family("cgan", _cgan, (1, 5), 2, 0.05),
    Family("cgan_upsample", _cgan_upsample, (1, 5), 1, 0.1),
    Family("linearizenn", _linearize, (1, 4), 4, 0.2),
    Family("lsnc", _lsnc, (1, 6), 8, 0.05),
    Family("ml4acopf", _acopf, (1, 6), 7, 0.05),
    Family("nn4sys_mscn", _mscn, (1, 6, 7), 1, 0.1, free=(36, 40)),
    Family("nn4sys_pensieve", _pensieve, (1, 12, 8), 1, 0.1, free=(16, 24)),
    Family("traffic_signs", _traffic_signs, (1, 8, 8, 3), 5, 0.05),
    Family("vggnet16", _vgg, (1, 3, 8, 8), 20, 0.005),
    Family("vit", _vit, (1, 3, 4, 4), 4, 0.005),
    Family("collins_yolo", _yolo, (1, 3, 8, 8), 80, 0.002),
    Family("tiny_yolo", _tiny_yolo, (1, 3, 8, 8), 32, 0.02),
    Family("carvana_unet", _unet, (1, 3, 6, 5), 60, 0.01),
    Family("malbeware", _malbeware, (1, 8, 8), 9, 0.02),
    Family("cora", _cora, (1, 20), 10, 0.05),
    Family("sat_relu", _sat_relu, (1, 5), 1, 0.3),
    Family("cersyve", _cersyve, (2,), 3, 0.2),
)
"""All of them."""
