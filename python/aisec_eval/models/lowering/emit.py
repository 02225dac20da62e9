"""The vocabulary both readers speak: numpy-like operations on values, said with IR operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .builder import NotLowerable, Value, sample_shape
from .emit_windows import WindowEmitter

if TYPE_CHECKING:
    from collections.abc import Sequence


MOST_DIFFERENCES = 1 << 18
"""Most elements of all differences within a softmax."""
MOST_MATRICES = 256
"""Of a stack of constant matrices: each becomes a node."""


class Emitter(WindowEmitter):
    """Emits what ONNX operators and JAX primitives mean, on values with their full shapes."""

    # Elementwise

    def unary(self, op: str, x: Value, **attrs: Any) -> Value:
        """Apply an elementwise operator."""
        return Value(self._emit(op, (self._sample(x),), attrs), x.shape)

    def leaky_relu(self, x: Value, slope: float) -> Value:
        """Return x where x >= 0 and slope * x elsewhere."""
        if slope == 0:
            return self.unary("relu", x)
        if 0 < slope <= 1:
            return self.unary("leaky_relu", x, slope=float(slope))
        linear = self.with_constant("mul_const", x, np.float64(slope))
        hinge = self.with_constant("mul_const", self.unary("relu", x), 1.0 - np.float64(slope))
        return self.pair("add", linear, hinge)

    def with_constant(self, op: str, x: Value, constant: Any) -> Value:
        """Apply `add_const`, `mul_const` or `div_const` with numpy broadcasting."""
        value = np.asarray(constant)
        shape = np.broadcast_shapes(x.shape, value.shape)
        x = self.expand(x, shape)
        value = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
        if sample_shape(shape) != shape:
            value = value[0] if shape else value.reshape(1)
        return Value(self._emit(op, (self._sample(x),), tensors={"value": value}), shape)

    def pair(self, op: str, a: Value, b: Value) -> Value:
        """Apply an elementwise operator of two values with numpy broadcasting."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        nodes = self._sample(self.expand(a, shape)), self._sample(self.expand(b, shape))
        return Value(self._emit(op, nodes), shape)

    def binary(self, op: str, a: Any, b: Any) -> Value:
        """Apply add, sub, mul, div, max or min where at least one side is not constant.

        max(a, b) is a + relu(b - a) and min(a, b) is a - relu(a - b), exact in real arithmetic.
        """
        if isinstance(a, Value) and isinstance(b, Value):
            if op == "max":
                return self.pair("add", a, self.unary("relu", self.pair("sub", b, a)))
            if op == "min":
                return self.pair("sub", a, self.unary("relu", self.pair("sub", a, b)))
            if op == "mul":
                return self.product(a, b)
            if op == "div":
                return self.product(a, self.unary("reciprocal", b))
            return self.pair(op, a, b)
        if not isinstance(a, Value):
            if op == "sub":
                return self.with_constant("add_const", self.negate(b), a)
            if op == "div":
                return self.with_constant("mul_const", self.unary("reciprocal", b), a)
            a, b = b, a
        match op:
            case "add":
                return self.with_constant("add_const", a, b)
            case "sub":
                return self.with_constant("add_const", a, -np.asarray(b))
            case "mul":
                return self.with_constant("mul_const", a, b)
            case "div":
                if not np.all(b):
                    raise ValueError("division by a constant that holds zero")
                return self.with_constant("div_const", a, b)
            case "max":
                return self.maximum(a, b)
            case _:
                return self.negate(self.maximum(self.negate(a), -np.asarray(b)))

    def product(self, a: Value, b: Value) -> Value:
        """Return a * b with numpy broadcasting; of a value with itself, its square."""
        if a == b:
            return self.unary("square", a)
        for x, gate in ((a, b), (b, a)):
            if x.shape == gate.shape and (gated := self._gated(x, gate)) is not None:
                return gated
        shape = np.broadcast_shapes(a.shape, b.shape)
        ranks = [(1,) * (len(shape) - len(v.shape)) + v.shape for v in (a, b)]
        # The node broadcasts itself: what is repeated is bounded once.
        inner = [self._view(v, sample_shape(r)) for v, r in zip((a, b), ranks, strict=True)]
        if sample_shape(shape) == shape and len(shape) > 1:
            inner = [self._view(v, r) for v, r in zip((a, b), ranks, strict=True)]
        return Value(self._emit("mul", inner), shape)

    def _gated(self, x: Value, gate: Value) -> Value | None:
        """Return x times a gate of its own, as sigmoid(c x) or 1 + erf(c x), by one operator."""
        node = self.node(gate)
        if node.op == "sigmoid":
            scale = self._scale_of(x, node.inputs[0])
            return None if scale is None else self.silu(x, scale)
        if node.op != "add_const" or np.any(node.tensors["value"] != 1):
            return None
        inner = self._nodes[node.inputs[0]]
        if inner.op != "erf" or (scale := self._scale_of(x, inner.inputs[0])) is None:
            return None
        # x (1 + erf(c x)) = 2/s gelu(s x) with s = c sqrt(2)
        factor = scale * np.sqrt(2.0)
        bent = self.unary("gelu", self.with_constant("mul_const", x, np.float64(factor)))
        return self.with_constant("mul_const", bent, np.float64(2.0 / factor))

    def _scale_of(self, x: Value, index: int) -> float | None:
        """Return c where the node is c times the value, for one number c that is not 0."""
        if index == x.node:
            return 1.0
        node = self._nodes[index]
        if node.op not in ("mul_const", "div_const") or node.inputs[0] != x.node:
            return None
        value = np.asarray(node.tensors["value"], dtype=np.float64)
        if value.size != 1 or not value.any():
            return None
        scale = float(value.reshape(()))
        return scale if node.op == "mul_const" else 1.0 / scale

    def power(self, x: Value, exponent: float) -> Value:
        """Return x to a constant power: an integer, or a half."""
        if exponent < 0:
            return self.unary("reciprocal", self.power(x, -exponent))
        if exponent == 0.5:
            return self.unary("sqrt", x)
        if exponent != int(exponent) or exponent > 64:
            raise NotLowerable(f"a power of {exponent:g} (integers and 0.5 are supported)")
        count = int(exponent)
        match count:
            case 0:
                one = self.with_constant("mul_const", x, np.float64(0.0))
                return self.with_constant("add_const", one, np.float64(1.0))
            case 1:
                return x
            case 3:
                return self.unary("cube", x)
        if count % 2 == 0:
            return self.unary("square", self.power(x, count // 2))
        if count % 3 == 0:
            return self.unary("cube", self.power(x, count // 3))
        return self.product(self.power(x, count - 1), x)

    def elu(self, x: Value, alpha: float) -> Value:
        """Return x where it is positive and alpha * (exp(x) - 1) elsewhere."""
        if alpha == 1:
            return self.unary("elu", x)
        bent = self.with_constant("mul_const", self.unary("elu", x), np.float64(alpha))
        rest = self.with_constant("mul_const", self.unary("relu", x), 1.0 - np.float64(alpha))
        return self.pair("add", bent, rest)

    def silu(self, x: Value, beta: float) -> Value:
        """Return x * sigmoid(beta * x)."""
        if beta == 1:
            return self.unary("silu", x)
        scaled = self.unary("silu", self.with_constant("mul_const", x, np.float64(beta)))
        return self.with_constant("div_const", scaled, np.float64(beta))

    def negate(self, x: Value) -> Value:
        """Return -x."""
        return self.with_constant("mul_const", x, np.float64(-1.0))

    def maximum(self, x: Value, bound: Any) -> Value:
        """Return max(x, bound) for a constant: bound + relu(x - bound)."""
        bound = np.asarray(bound)
        if np.all(bound == -np.inf):
            return self.expand(x, np.broadcast_shapes(x.shape, bound.shape))
        if not bound.any():
            return self.unary("relu", self.expand(x, np.broadcast_shapes(x.shape, bound.shape)))
        shifted = self.unary("relu", self.with_constant("add_const", x, -bound))
        return self.with_constant("add_const", shifted, bound)

    def absolute(self, x: Value) -> Value:
        """Return |x| as relu(x) + relu(-x)."""
        return self.pair("add", self.unary("relu", x), self.unary("relu", self.negate(x)))

    def softmax(self, op: str, x: Value, axis: int) -> Value:
        """Apply `softmax` or `log_softmax` along an axis of the full shape.

        As 1 / sum of exp(x_j - x_i), whose linear bounds are closer than those of exp(x_i) over the
        sum of exp(x_j) (Wei et al. 2023, arXiv:2303.01713). Along axes that are too long for all
        differences, under JAX only.
        """
        axis = axis % max(len(x.shape), 1)
        if x.shape and x.size * x.shape[axis] <= MOST_DIFFERENCES:
            last = [*(a for a in range(len(x.shape)) if a != axis), axis]
            y = self._differences(self.transpose(x, last))
            total = self.reduce("sum", self.unary("exp", y), [len(y.shape) - 1], False)
            found = (
                self.unary("reciprocal", total)
                if op == "softmax"
                else self.negate(self.unary("log", total))
            )
            return self.transpose(found, np.argsort(last).tolist())
        node, skip = self._axiswise(x, axis == 0)
        return Value(self._emit(op, (node,), {"axis": axis - skip}), x.shape)

    def _differences(self, x: Value) -> Value:
        """Return [..., n] as [..., n, n]: entry (i, j) is x_j - x_i."""
        n = x.shape[-1]
        matrix = np.tile(np.eye(n), (n, 1)) - np.repeat(np.eye(n), n, axis=0)
        return self.reshape(self.affine(x, matrix, np.zeros(n * n)), (*x.shape, n))

    def normalize(self, x: Value, axes: Sequence[int], epsilon: float) -> Value:
        """Return (x - mean) / sqrt(variance + epsilon) over axes of the full shape."""
        centred = self.pair("sub", x, self.reduce("mean", x, axes, True))
        variance = self.reduce("mean", self.unary("square", centred), axes, True)
        spread = self.unary("sqrt", self.with_constant("add_const", variance, np.float64(epsilon)))
        return self.product(centred, self.unary("reciprocal", spread))

    # Linear algebra

    def matmul(self, a: Value | Any, b: Value | Any) -> Value:
        """Return numpy's `a @ b`, of one value or two."""
        if isinstance(a, Value) and isinstance(b, Value):
            return self._matmul_values(a, b)
        if isinstance(a, Value):
            weight: Any = np.asarray(b)
            if weight.ndim == 1:
                y = self.matmul(a, weight[:, None])
                return self.reshape(y, y.shape[:-1])
            if math.prod(weight.shape[:-2]) != 1:
                return self._matmul_stack(a, weight)
            lead, weight = weight.shape[:-2], weight.reshape(weight.shape[-2:])
            y = self.affine(a, weight.T, np.zeros(weight.shape[1], weight.dtype))
            missing = len(lead) + 2 - len(y.shape)
            return self.reshape(y, (1,) * max(missing, 0) + y.shape) if len(a.shape) > 1 else y
        if len(b.shape) == 1:
            y = self.matmul(b, np.swapaxes(_at_least_2d(a), -1, -2))
            return self.reshape(y, np.shape(a)[:-1])
        axes = [*range(len(b.shape) - 2), len(b.shape) - 1, len(b.shape) - 2]
        weight = np.asarray(a)
        y = self.matmul(self.transpose(b, axes), np.swapaxes(_at_least_2d(weight), -1, -2))
        axes = [*range(len(y.shape) - 2), len(y.shape) - 1, len(y.shape) - 2]
        y = self.transpose(y, axes)
        return self.reshape(y, y.shape[:-2] + y.shape[-1:]) if weight.ndim == 1 else y

    def _matmul_stack(self, a: Value, weight: Any) -> Value:
        """Multiply each matrix of a stack by a constant one of its own."""
        if len(a.shape) == 1:
            y = self._matmul_stack(self.reshape(a, (1, *a.shape)), weight)
            return self.reshape(y, y.shape[:-2] + y.shape[-1:])
        if a.shape[-1] != weight.shape[-2]:
            raise ValueError(f"cannot multiply {list(a.shape)} by {list(weight.shape)}")
        lead = np.broadcast_shapes(a.shape[:-2], weight.shape[:-2])
        count = math.prod(lead)
        if count > MOST_MATRICES:
            raise NotLowerable(f"a product with a stack of {count} matrices")
        self.afford(*lead, *weight.shape[-2:])
        weight = np.broadcast_to(weight, (*lead, *weight.shape[-2:]))
        weight = weight.reshape(-1, *weight.shape[-2:])
        x = self.expand(a, (*lead, *a.shape[-2:]))
        x = self.reshape(x, (count, *a.shape[-2:]))
        parts = []
        for at, matrix in enumerate(weight):
            one = self.slice(x, [at, 0, 0], [1, *x.shape[1:]], [1, 1, 1])
            parts.append(self.affine(one, matrix.T, np.zeros(matrix.shape[1], matrix.dtype)))
        y = self.concat(parts, 0) if count > 1 else parts[0]
        return self.reshape(y, (*lead, a.shape[-2], weight.shape[-1]))

    def _matmul_values(self, a: Value, b: Value) -> Value:
        """Multiply all pairs and sum over the inner axis."""
        if len(a.shape) == 1:
            y = self._matmul_values(self.reshape(a, (1, *a.shape)), b)
            return self.reshape(y, y.shape[:-2] + y.shape[-1:])
        if len(b.shape) == 1:
            y = self._matmul_values(a, self.reshape(b, (*b.shape, 1)))
            return self.reshape(y, y.shape[:-1])
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"cannot multiply {list(a.shape)} by {list(b.shape)}")
        axes = [*range(len(b.shape) - 2), len(b.shape) - 1, len(b.shape) - 2]
        turned = self.transpose(b, axes)
        # [..., rows, 1, inner] times [..., 1, columns, inner]
        left = self.reshape(a, (*a.shape[:-1], 1, a.shape[-1]))
        right = self.reshape(turned, (*turned.shape[:-2], 1, *turned.shape[-2:]))
        y = self.product(left, right)
        return self.reduce("sum", y, [len(y.shape) - 1], False)

    def reduce(self, op: str, x: Value, axes: Sequence[int], keepdims: bool) -> Value:
        """Take the `sum`, `mean` or `max` over axes of the full shape."""
        rank = len(x.shape)
        gone = sorted({int(a) % rank for a in axes}) if rank else []
        kept = [a for a in range(rank) if a not in gone]
        shape = tuple(1 if a in gone else d for a, d in enumerate(x.shape))
        if not keepdims:
            shape = tuple(x.shape[a] for a in kept)
        count = math.prod(x.shape[a] for a in gone)
        if count == 1:
            return self.reshape(x, shape)
        rows = math.prod(x.shape[a] for a in kept)
        flat = self.reshape(self.transpose(x, [*kept, *gone]), (rows, count))
        if op == "max":
            y = self.pool("max_pool2d", self.reshape(flat, (1, 1, rows, count)), (1, count))
        elif op == "mean" and rank == 4 and gone == [2, 3] and x.shape[0] == 1:
            y = self.pool("avg_pool2d", x, x.shape[2:])
        else:
            weight = np.full((1, count), 1.0 / count if op == "mean" else 1.0)
            y = self.affine(flat, weight, np.zeros(1))
        return self.reshape(y, shape)


def _at_least_2d(array: Any) -> Any:
    array = np.asarray(array)
    return array[None] if array.ndim == 1 else array
