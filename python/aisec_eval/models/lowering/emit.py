"""The vocabulary both readers speak: numpy-like operations on values, said with IR operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .builder import Builder, NotLowerable, Value, sample_shape

if TYPE_CHECKING:
    from collections.abc import Sequence


MOST_DIFFERENCES = 1 << 18
"""Most elements of all differences within a softmax."""


class Emitter(Builder):
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

    # Layout

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Return the same elements, in row-major order, under another full shape."""
        shape = tuple(int(d) for d in shape)
        if any(d < 0 for d in shape) or math.prod(shape) != x.size:
            raise ValueError(f"cannot reshape {list(x.shape)} to {list(shape)}")
        return Value(x.node, shape)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """Reorder the axes of the full shape."""
        perm = tuple(int(p) % max(len(x.shape), 1) for p in perm)
        if sorted(perm) != list(range(len(x.shape))):
            raise ValueError(f"perm {list(perm)} does not order the axes of {list(x.shape)}")
        shape = tuple(x.shape[p] for p in perm)
        moved = [p for p in perm if x.shape[p] != 1]
        if moved == sorted(moved):
            return Value(x.node, shape)
        if perm[0] == 0 and x.shape[0] == 1:
            node = self._emit("transpose", (self._sample(x),), {"perm": [p - 1 for p in perm[1:]]})
        else:
            node = self._emit("transpose", (self._view(x, x.shape),), {"perm": list(perm)})
        return Value(node, shape)

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        """Broadcast to a full shape; repeats an axis by a product with ones."""
        shape = tuple(int(d) for d in shape)
        if len(shape) < len(x.shape) or np.broadcast_shapes(x.shape, shape) != shape:
            raise ValueError(f"cannot broadcast {list(x.shape)} to {list(shape)}")
        current = (1,) * (len(shape) - len(x.shape)) + x.shape
        if math.prod(shape) > self._left:
            self._spend(shape, {}, {})
        for axis, count in enumerate(shape):
            if current[axis] == count:
                continue
            before, after = math.prod(current[:axis]), math.prod(current[axis + 1 :])
            ones = np.ones((count, 1))
            x = self.affine(Value(x.node, (before, after, 1)), ones, np.zeros(count))
            x = self.transpose(x, (0, 2, 1))
            current = (*current[:axis], count, *current[axis + 1 :])
        return Value(x.node, shape)

    def _axiswise(self, x: Value, touched: bool) -> tuple[int, int]:
        """Return a node to work on axis by axis and the number of leading axes it leaves out."""
        inner = sample_shape(x.shape)
        if touched or not x.shape or inner == x.shape:
            return self._view(x, x.shape or (1,)), 0
        return self._view(x, inner), 1

    def pad(self, x: Value, before: Sequence[int], after: Sequence[int], value: float) -> Value:
        """Pad each axis of the full shape; negative padding cuts."""
        before, after = [int(b) for b in before], [int(a) for a in after]
        if not len(before) == len(after) == len(x.shape):
            raise ValueError(f"padding {before}, {after} does not fit {list(x.shape)}")
        if min((*before, *after), default=0) < 0:
            starts = [max(-b, 0) for b in before]
            pairs = zip(x.shape, starts, after, strict=True)
            counts = [size - start - max(-a, 0) for size, start, a in pairs]
            x = self.slice(x, starts, counts, [1] * len(starts))
            before, after = [max(b, 0) for b in before], [max(a, 0) for a in after]
        node, skip = self._axiswise(x, bool(before and (before[0] or after[0])))
        shape = tuple(b + d + a for b, d, a in zip(before, x.shape, after, strict=True))
        attrs = {"before": before[skip:], "after": after[skip:], "value": float(value)}
        return Value(self._emit("pad", (node,), attrs), shape)

    def slice(
        self, x: Value, starts: Sequence[int], counts: Sequence[int], steps: Sequence[int]
    ) -> Value:
        """Take `start, start + step, ...` (`count` of them) on each axis of the full shape."""
        shape = tuple(int(c) for c in counts)
        if shape == x.shape and all(s == 1 for s, c in zip(steps, counts, strict=True) if c > 1):
            return x
        if min(shape, default=1) < 1:
            raise ValueError(f"slice of {list(x.shape)} leaves no elements")
        node, skip = self._axiswise(x, bool(starts[0]) or shape[0] != x.shape[0])
        attrs = {
            "starts": [int(s) for s in starts][skip:],
            "counts": list(shape)[skip:],
            "steps": [int(s) for s in steps][skip:],
        }
        return Value(self._emit("slice", (node,), attrs), shape)

    def take(self, x: Value, indices: Any, axis: int) -> Value:
        """Gather constant indices (any rank) along one axis."""
        index = np.asarray(indices, dtype=np.int64)
        size = x.shape[axis]
        if index.size == 0 or index.min() < -size or index.max() >= size:
            raise ValueError(f"indices leave an axis of size {size}")
        flat = np.where(index < 0, index + size, index).ravel()
        runs = np.unique(np.diff(flat))
        if len(runs) > 1 or (len(runs) == 1 and runs[0] == 0):
            if flat.size <= 8:
                picked = self.concat([self.take(x, [i], axis) for i in flat], axis)
            else:
                picked = self.along(x, self.selection(flat, size), axis)
        else:
            starts, steps, counts = [0] * len(x.shape), [1] * len(x.shape), list(x.shape)
            starts[axis], counts[axis] = int(flat[0]), int(flat.size)
            steps[axis] = int(runs[0]) if len(runs) else 1
            picked = self.slice(x, starts, counts, steps)
        return self.reshape(picked, x.shape[:axis] + index.shape + x.shape[axis + 1 :])

    def concat(self, parts: Sequence[Value | Any], axis: int) -> Value:
        """Join values and constants along an axis of the full shape."""
        values = [p if isinstance(p, Value) else self.constant(p) for p in parts]
        rank = len(values[0].shape)
        axis = axis % max(rank, 1)
        for v in values:
            if len(v.shape) != rank or rank == 0:
                raise ValueError(f"cannot join shapes {[list(v.shape) for v in values]}")
        nodes = [self._axiswise(v, axis == 0) for v in values]
        if len({skip for _, skip in nodes}) > 1:
            raise ValueError(f"cannot join shapes {[list(v.shape) for v in values]}")
        skip = nodes[0][1]
        node = self._emit("concat", [n for n, _ in nodes], {"axis": axis - skip})
        first = values[0].shape
        total = sum(v.shape[axis] for v in values)
        return Value(node, (*first[:axis], total, *first[axis + 1 :]))

    # Linear algebra

    def affine(self, x: Value, weight: Any, bias: Any) -> Value:
        """Apply `weight` [out, in] and `bias` [out] to the last axis."""
        if not x.shape:
            raise ValueError("a scalar has no axis to multiply")
        tensors = {"weight": np.asarray(weight), "bias": np.asarray(bias)}
        node = self._emit("affine", (self._sample(x),), tensors=tensors)
        return Value(node, (*x.shape[:-1], int(tensors["weight"].shape[0])))

    def along(self, x: Value, matrix: Any, axis: int) -> Value:
        """Multiply one axis of the full shape by a constant matrix [out, in]."""
        axes = [*(a for a in range(len(x.shape)) if a != axis), axis]
        y = self.affine(self.transpose(x, axes), matrix, np.zeros(len(matrix)))
        return self.transpose(y, np.argsort(axes).tolist())

    def selection(self, index: Any, size: int) -> Any:
        """Return the matrix [len(index), size] that picks elements of an axis."""
        self.afford(len(index), size)
        matrix = np.zeros((len(index), size))
        matrix[np.arange(len(index)), index] = 1.0
        return matrix

    def matmul(self, a: Value | Any, b: Value | Any) -> Value:
        """Return numpy's `a @ b`, of one value or two."""
        if isinstance(a, Value) and isinstance(b, Value):
            return self._matmul_values(a, b)
        if isinstance(a, Value):
            weight = np.asarray(b)
            if weight.ndim == 1:
                y = self.matmul(a, weight[:, None])
                return self.reshape(y, y.shape[:-1])
            lead, weight = weight.shape[:-2], _matrix(weight)
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

    # Windows

    def conv(
        self,
        x: Value,
        weight: Any,
        bias: Any,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Value:
        """Convolve [1, C, *space] with `weight` [O, C/groups, *kernel]; one or two space axes.

        `padding` is (top, left, bottom, right), or (left, right) for one axis.
        """
        weight = np.asarray(weight)
        space = len(x.shape) - 2
        if weight.ndim != len(x.shape):
            raise ValueError(f"weight {list(weight.shape)} does not fit input {list(x.shape)}")
        x, padding = self._image(x, padding)
        if space == 1:
            weight, stride, dilation = weight[:, :, None], (1, *stride), (1, *dilation)
        attrs = {
            "stride": [int(s) for s in stride],
            "padding": [int(p) for p in padding],
            "dilation": [int(d) for d in dilation],
            "groups": int(groups),
        }
        tensors = {"weight": weight, "bias": np.asarray(bias)}
        node = self._emit("conv2d", (self._view(x, x.shape[1:]),), attrs, tensors)
        return self._unimage(node, space)

    def pool(
        self,
        op: str,
        x: Value,
        kernel: Sequence[int],
        *,
        stride: Sequence[int] | None = None,
        padding: Sequence[int] | None = None,
        dilation: Sequence[int] | None = None,
        count_include_pad: bool = True,
    ) -> Value:
        """Apply `max_pool2d` or `avg_pool2d` to [1, C, *space]; one or two space axes."""
        space = len(x.shape) - 2
        stride, padding = stride or [1] * space, padding or [0] * (2 * space)
        dilation = dilation or [1] * space
        if not len(kernel) == len(stride) == len(dilation) == space:
            raise ValueError(f"window {list(kernel)} does not fit input {list(x.shape)}")
        x, padding = self._image(x, padding)
        if space == 1:
            kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
        attrs: dict[str, Any] = {
            "kernel": [int(k) for k in kernel],
            "stride": [int(s) for s in stride],
            "padding": [int(p) for p in padding],
        }
        if op == "max_pool2d":
            attrs["dilation"] = [int(d) for d in dilation]
        elif any(d != 1 for d in dilation):
            raise NotLowerable("average pooling with dilation")
        else:
            attrs["count_include_pad"] = bool(count_include_pad)
        return self._unimage(self._emit(op, (self._view(x, x.shape[1:]),), attrs), space)

    def _image(self, x: Value, padding: Sequence[int]) -> tuple[Value, Sequence[int]]:
        if len(x.shape) not in (3, 4):
            raise NotLowerable(f"windows over {len(x.shape) - 2} axes (one or two are supported)")
        if x.shape[0] != 1:
            raise NotLowerable(f"windows over a value of shape {list(x.shape)} for one sample")
        if len(padding) != 2 * (len(x.shape) - 2):
            raise ValueError(f"padding {list(padding)} does not fit input {list(x.shape)}")
        if len(x.shape) == 3:
            left, right = padding
            return self.reshape(x, (1, x.shape[1], 1, x.shape[2])), (0, left, 0, right)
        return x, padding

    def _unimage(self, node: int, space: int) -> Value:
        channels, height, width = self._nodes[node].shape
        return Value(node, (1, channels, height, width) if space == 2 else (1, channels, width))


def _at_least_2d(array: Any) -> Any:
    array = np.asarray(array)
    return array[None] if array.ndim == 1 else array


def _matrix(weight: Any) -> Any:
    if math.prod(weight.shape[:-2]) != 1:
        raise NotLowerable(f"a product with a stack of matrices {list(weight.shape)}")
    return weight.reshape(weight.shape[-2:])
