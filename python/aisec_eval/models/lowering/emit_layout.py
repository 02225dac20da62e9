"""Where elements lie: reshapes, transposes, padding, slices, gathers, concatenation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .builder import Builder, Value, sample_shape

if TYPE_CHECKING:
    from collections.abc import Sequence


class LayoutEmitter(Builder):
    """Emits what moves elements, and the matrices that pick and add them."""

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
