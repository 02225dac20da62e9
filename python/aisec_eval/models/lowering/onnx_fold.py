"""Constant folding of ONNX operators with numpy: shape arithmetic, and constants of constants.

Results keep ONNX's own element types. What an operator would create is counted before it is
allocated, so that a file of a hundred bytes cannot ask for a terabyte.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import UnsafeArtifactError

from .builder import MAX_RANK, NotLowerable
from .onnx_forms import axes_of, cast_to, reshape_target, slice_ranges, split_sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .onnx_network import Step


class Budget:
    """Elements that folding may still create, given the number the file stores."""

    def __init__(self, stored: int) -> None:
        self.left = 4 * stored + (1 << 22)

    def take(self, shape: Any) -> tuple[int, ...]:
        """Reserve an array of `shape`, and return it.

        Raises:
            UnsafeArtifactError: more than is left.
        """
        sizes = tuple(int(d) for d in shape)
        if len(sizes) > MAX_RANK or min(sizes, default=0) < 0:
            raise ValueError(f"shape {list(sizes)[:12]} is not valid")
        count = math.prod(sizes)
        self.left -= count
        if self.left < 0:
            raise UnsafeArtifactError(
                f"asks for a constant of {count} elements, out of proportion to the file; "
                "not loaded"
            )
        return sizes


def _elementwise(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    def fold(_step: Step, _opset: int, budget: Budget, *arrays: Any) -> list[Any]:
        budget.take(np.broadcast_shapes(*(np.shape(a) for a in arrays)))
        return [np.asarray(function(*arrays))]

    return fold


def _layout(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Wrap a rule whose result is no larger than its first argument."""

    def fold(step: Step, opset: int, budget: Budget, x: Any, *rest: Any) -> list[Any]:
        budget.take(np.shape(x))
        return [np.asarray(function(step, opset, np.asarray(x), *rest))]

    return fold


def _divide(a: Any, b: Any) -> Any:
    if np.issubdtype(np.result_type(a, b), np.integer):
        if not np.all(b):
            raise ValueError("division of integers by zero")
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(np.result_type(a, b))
    return np.divide(a, b)


def _constant(step: Step, _opset: int, _budget: Budget) -> list[Any]:
    for key, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in step.attrs:
            return [np.asarray(step.attrs[key], dtype=dtype)]
    raise NotLowerable("a constant that is not numeric")


def _constant_of_shape(step: Step, _opset: int, budget: Budget, shape: Any) -> list[Any]:
    value = np.asarray(step.attrs.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return [np.full(budget.take(np.asarray(shape).reshape(-1)), value)]


def _expand(_step: Step, _opset: int, budget: Budget, x: Any, shape: Any) -> list[Any]:
    target = np.broadcast_shapes(np.shape(x), tuple(int(d) for d in np.reshape(shape, -1)))
    return [np.broadcast_to(x, budget.take(target)).copy()]


def _tile(_step: Step, _opset: int, budget: Budget, x: Any, repeats: Any) -> list[Any]:
    counts = [int(r) for r in np.reshape(repeats, -1)]
    budget.take([d * r for d, r in zip(np.shape(x), counts, strict=True)])
    return [np.tile(x, counts)]


def _range(_step: Step, _opset: int, budget: Budget, start: Any, limit: Any, delta: Any) -> Any:
    start, limit, delta = (np.asarray(v).reshape(()) for v in (start, limit, delta))
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    budget.take((count,))
    return [(start + np.arange(count) * delta).astype(start.dtype)]


def _gather(step: Step, _opset: int, budget: Budget, x: Any, indices: Any) -> list[Any]:
    axis = step.attrs.get("axis", 0)
    shape = np.shape(x)
    budget.take(shape[:axis] + np.shape(indices) + shape[axis:][1:])
    return [np.asarray(np.take(x, indices, axis=axis))]


def _concat(step: Step, _opset: int, budget: Budget, *arrays: Any) -> list[Any]:
    budget.take((sum(np.size(a) for a in arrays),))
    return [np.concatenate(arrays, axis=step.attrs["axis"])]


def _matmul(_step: Step, _opset: int, budget: Budget, a: Any, b: Any) -> list[Any]:
    rows = np.size(a) // max(np.shape(a)[-1], 1)
    columns = np.size(b) // max(np.shape(b)[-2] if np.ndim(b) > 1 else np.size(b), 1)
    budget.take((rows, columns))
    return [np.asarray(np.matmul(a, b))]


def _slice(step: Step, opset: int, budget: Budget, x: Any, *rest: Any) -> list[Any]:
    budget.take(np.shape(x))
    starts, counts, steps = slice_ranges(step, opset, np.shape(x), rest)
    for axis, (start, count, stride) in enumerate(zip(starts, counts, steps, strict=True)):
        x = np.take(x, start + stride * np.arange(count), axis=axis)
    return [x]


def _split(step: Step, opset: int, budget: Budget, x: Any, sizes: Any = None) -> list[Any]:
    budget.take(np.shape(x))
    axis = step.attrs.get("axis", 0)
    counts = split_sizes(step, opset, np.shape(x)[axis], sizes)
    return list(np.split(x, np.cumsum(counts)[:-1], axis=axis))


def _reduce(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    def fold(step: Step, opset: int, _budget: Budget, x: Any, axes: Any = None) -> list[Any]:
        chosen = axes_of(step, opset, np.ndim(x), axes)
        keep = bool(step.attrs.get("keepdims", 1))
        return [
            np.asarray(function(x, axis=tuple(chosen), keepdims=keep), dtype=np.asarray(x).dtype)
        ]

    return fold


def _shape(step: Step, _opset: int, _budget: Budget, x: Any) -> list[Any]:
    span = slice(step.attrs.get("start", 0), step.attrs.get("end"))
    return [np.array(np.shape(x)[span], dtype=np.int64)]


def _squeeze(step: Step, opset: int, x: Any, axes: Any = None) -> Any:
    ones = [a for a, d in enumerate(x.shape) if d == 1]
    chosen = axes_of(step, opset, x.ndim, axes, default=ones)
    return np.squeeze(x, axis=tuple(chosen))


def _unsqueeze(step: Step, _opset: int, x: Any, axes: Any = None) -> Any:
    given = step.attrs["axes"] if axes is None else np.reshape(axes, -1)
    return np.expand_dims(x, tuple(int(a) for a in given))


def _flatten(step: Step, _opset: int, x: Any) -> Any:
    axis = step.attrs.get("axis", 1) % (x.ndim + 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _cast(step: Step, _opset: int, x: Any) -> Any:
    return x.astype(cast_to(step))


FOLD: dict[str, Callable[..., list[Any]]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "Size": lambda _s, _o, _b, x: [np.array(np.size(x), dtype=np.int64)],
    "Identity": lambda _s, _o, _b, x: [x],
    "Dropout": lambda _s, _o, _b, x, *_rest: [x],
    "Cast": _layout(_cast),
    "Reshape": _layout(lambda s, _o, x, t: x.reshape(reshape_target(s, x.shape, t))),
    "Flatten": _layout(_flatten),
    "Squeeze": _layout(_squeeze),
    "Unsqueeze": _layout(_unsqueeze),
    "Transpose": _layout(lambda s, _o, x: np.transpose(x, s.attrs.get("perm"))),
    "Expand": _expand,
    "Tile": _tile,
    "Range": _range,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "MatMul": _matmul,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_divide),
    "Pow": _elementwise(lambda a, b: np.power(a, b).astype(np.asarray(a).dtype)),
    "Mod": _elementwise(np.mod),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Sqrt": _elementwise(np.sqrt),
    "Reciprocal": _elementwise(np.reciprocal),
    "Exp": _elementwise(np.exp),
    "Log": _elementwise(np.log),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Not": _elementwise(np.logical_not),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Equal": _elementwise(np.equal),
    "Less": _elementwise(np.less),
    "Greater": _elementwise(np.greater),
    "LessOrEqual": _elementwise(np.less_equal),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Sign": _elementwise(np.sign),
    "Round": _elementwise(np.rint),
    "Sin": _elementwise(np.sin),
    "Cos": _elementwise(np.cos),
    "Tanh": _elementwise(np.tanh),
    "Relu": _elementwise(lambda x: np.maximum(x, 0)),
    "Sum": _elementwise(lambda *a: sum(a[1:], start=a[0])),
    "Where": _elementwise(np.where),
    "Min": _elementwise(lambda *a: np.minimum.reduce(np.broadcast_arrays(*a))),
    "Max": _elementwise(lambda *a: np.maximum.reduce(np.broadcast_arrays(*a))),
    "ReduceSum": _reduce(np.sum),
    "ReduceProd": _reduce(np.prod),
    "ReduceMean": _reduce(np.mean),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
}
"""ONNX operator to `fold(step, opset, budget, *arrays) -> list of outputs`."""
