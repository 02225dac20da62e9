"""The table of JAX primitives: each rule takes the emitter, the parameters and the inputs.

Inputs are `Value`s, `Comparison`s or constant arrays; shapes include the batch axis of size 1.
Semantics: `jax.lax`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .builder import NotLowerable, Value

if TYPE_CHECKING:
    from .emit import Emitter

Params = Mapping[str, Any]
Operator = Callable[..., Any]


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """`x > bound` elementwise if `above`, else `x < bound`; equality is left open."""

    x: Value
    bound: Any
    above: bool


def _unequal(_e: Emitter, _p: Params, a: Any, b: Any) -> Any:
    """Answer the question whether a value is NaN; no value of a network that is loaded is."""
    if isinstance(a, Value) and a == b:
        return np.zeros(a.shape, dtype=bool)
    raise NotLowerable("a comparison for equality")


def _comparison(above: bool) -> Operator:
    def rule(_e: Emitter, _p: Params, a: Any, b: Any) -> Comparison:
        if isinstance(a, Value) and not isinstance(b, Value):
            return Comparison(a, np.asarray(b), above)
        if isinstance(b, Value) and not isinstance(a, Value):
            return Comparison(b, np.asarray(a), not above)
        raise NotLowerable("a comparison of two values that both depend on the input")

    return rule


def _select(e: Emitter, _p: Params, which: Any, *cases: Any) -> Value:
    """Lower where(x > c, f(x), g(x)) for affine f and g that agree at c: g + (f - g)' relu(x - c).

    Agreement at c makes strict and non-strict comparisons the same.
    """
    if len(cases) != 2:
        raise NotLowerable("a choice between more than two cases")
    if not isinstance(which, Comparison):
        if isinstance(which, Value):
            raise NotLowerable("a choice by a value that depends on the input")
        mask = np.asarray(which)
        parts = []
        for keep, case in ((~mask, cases[0]), (mask, cases[1])):
            parts.append(
                e.binary("mul", case, keep.astype(np.float32))
                if isinstance(case, Value)
                else np.where(keep, np.asarray(case), 0)
            )
        return e.binary("add", *parts)
    x, bound = which.x, which.bound.astype(np.float64)
    low, high = cases if which.above else cases[::-1]
    (low_slope, low_offset), (high_slope, high_offset) = (
        _affine_in(e, x, case) for case in (low, high)
    )
    jump = (high_slope - low_slope) * bound + (high_offset - low_offset)
    scale = np.maximum(np.abs(high_slope * bound), np.abs(high_offset))
    # The constants are float32 roundings of what the user wrote, and so meet up to theirs.
    if np.any(np.abs(jump) > 4 * np.finfo(np.float32).eps * scale):
        raise NotLowerable("a choice whose two sides do not meet")
    at_zero = not bound.any() and not np.any(high_offset) and np.all(high_slope == 1)
    if at_zero and low_slope.size == 1:
        return e.leaky_relu(x, float(low_slope.reshape(())))
    hinge = e.unary("relu", e.binary("sub", x, bound))
    line = e.binary("add", e.binary("mul", x, low_slope), low_offset)
    return e.binary("add", line, e.binary("mul", hinge, high_slope - low_slope))


def _affine_in(e: Emitter, x: Value, case: Any) -> tuple[Any, Any]:
    """Return slope and offset of `case` as an elementwise affine function of `x`."""
    if not isinstance(case, Value):
        return np.zeros(()), np.asarray(case, dtype=np.float64)
    slope, offset = np.ones(()), np.zeros(())
    while case.node != x.node:
        node = e.node(case)
        if node.op not in ("mul_const", "add_const", "div_const"):
            raise NotLowerable("a choice between functions of different values")
        # case = node(inner) and so far result = slope * case + offset
        constant = np.asarray(node.tensors["value"], dtype=np.float64)
        if node.op == "add_const":
            offset = offset + slope * constant
        else:
            slope = slope * constant if node.op == "mul_const" else slope / constant
        case = Value(node.inputs[0], case.shape)
    if case.shape != x.shape:
        raise NotLowerable("a choice between functions of different values")
    return slope, offset


def _dot_general(e: Emitter, p: Params, a: Any, b: Any) -> Value:
    (ca, cb), (ba, bb) = p["dimension_numbers"]
    if isinstance(a, Value) and isinstance(b, Value):
        return _dot_of_values(e, ((ca, cb), (ba, bb)), a, b)
    left = isinstance(a, Value)
    x, weight = (a, np.asarray(b)) if left else (b, np.asarray(a))
    (cx, cw), (bx, bw) = ((ca, cb), (ba, bb)) if left else ((cb, ca), (bb, ba))
    if any(x.shape[i] != 1 for i in bx):
        raise NotLowerable("a product with a stack of matrices")
    free_x = [i for i in range(len(x.shape)) if i not in cx and i not in bx]
    free_w = [i for i in range(weight.ndim) if i not in cw and i not in bw]
    inner = math.prod(x.shape[i] for i in cx)
    matrix = weight.transpose(*bw, *free_w, *cw).reshape(-1, inner)
    rows = [x.shape[i] for i in free_x]
    flat = e.reshape(e.transpose(x, [*bx, *free_x, *cx]), (*rows, inner))
    y = e.affine(flat, matrix, np.zeros(len(matrix), matrix.dtype))
    columns = [weight.shape[i] for i in free_w]
    y = e.reshape(y, [1] * len(bx) + rows + columns)
    if not left:
        k, m, n = len(bx), len(rows), len(columns)
        y = e.transpose(y, [*range(k), *range(k + m, k + m + n), *range(k, k + m)])
    return y


def _dot_of_values(e: Emitter, numbers: Any, a: Value, b: Value) -> Value:
    """Lower as a stack of matrix products."""
    (ca, cb), (ba, bb) = numbers

    def stacked(x: Value, batch: Any, inner: Any) -> tuple[Value, list[int]]:
        free = [i for i in range(len(x.shape)) if i not in inner and i not in batch]
        lead, rows = ([x.shape[i] for i in axes] for axes in (batch, free))
        turned = e.transpose(x, [*batch, *free, *inner])
        count = math.prod(x.shape[i] for i in inner)
        return e.reshape(turned, (*lead, math.prod(rows), count)), rows

    (left, rows), (right, columns) = stacked(a, ba, ca), stacked(b, bb, cb)
    rank = len(right.shape)
    y = e.matmul(left, e.transpose(right, [*range(rank - 2), rank - 1, rank - 2]))
    return e.reshape(y, [*(a.shape[i] for i in ba), *rows, *columns])


def _conv(e: Emitter, p: Params, x: Any, weight: Any) -> Value:
    if not isinstance(x, Value) or isinstance(weight, Value):
        raise NotLowerable("a kernel that depends on the input")
    if any(d != 1 for d in p["lhs_dilation"]) or p["batch_group_count"] != 1:
        raise NotLowerable("a transposed convolution or batch groups")
    numbers = p["dimension_numbers"]
    kernel = np.asarray(weight).transpose(numbers.rhs_spec)
    image = e.transpose(x, numbers.lhs_spec)
    low, high = ([int(pair[k]) for pair in p["padding"]] for k in (0, 1))
    if min(low + high, default=0) < 0:
        image = e.pad(image, [0, 0, *low], [0, 0, *high], 0.0)
        low = high = [0] * len(low)
    y = e.conv(
        image,
        kernel,
        np.zeros(kernel.shape[0], kernel.dtype),
        stride=p["window_strides"],
        padding=low + high,
        dilation=p["rhs_dilation"],
        groups=p["feature_group_count"],
    )
    return e.transpose(y, np.argsort(numbers.out_spec).tolist())


def _reduce_window(op: str) -> Operator:
    def rule(e: Emitter, p: Params, x: Value) -> Value:
        window = [int(d) for d in p["window_dimensions"]]
        padding = [(int(a), int(b)) for a, b in p["padding"]]
        parts = zip(window, p["window_strides"], padding, strict=True)
        space = [i for i, (w, s, pad) in enumerate(parts) if w > 1 or s > 1 or any(pad)]
        if any(d != 1 for d in p["base_dilation"]):
            raise NotLowerable("windows over a dilated input")
        if len(space) > 2:
            raise NotLowerable(f"windows over {len(space)} axes (one or two are supported)")
        if not space:
            return x
        rest = [i for i in range(len(window)) if i not in space]
        perm = [*rest, *space]
        channels = math.prod(x.shape[i] for i in rest)
        image = e.reshape(e.transpose(x, perm), (1, channels, *(x.shape[i] for i in space)))
        y = e.pool(
            op,
            image,
            [window[i] for i in space],
            stride=[int(p["window_strides"][i]) for i in space],
            padding=[padding[i][0] for i in space] + [padding[i][1] for i in space],
            dilation=[int(p["window_dilation"][i]) for i in space],
        )
        if op == "avg_pool2d":
            y = e.with_constant("mul_const", y, np.float64(math.prod(window)))
        y = e.reshape(y, [x.shape[i] for i in rest] + list(y.shape[2:]))
        return e.transpose(y, np.argsort(perm).tolist())

    return rule


def _reduce(kind: str) -> Operator:
    return lambda e, p, x: e.reduce(kind, x, p["axes"], False)


def _reduce_min(e: Emitter, p: Params, x: Value) -> Value:
    return e.negate(e.reduce("max", e.negate(x), p["axes"], False))


def _broadcast_in_dim(e: Emitter, p: Params, x: Value, *_dynamic: Any) -> Value:
    shape = [1] * len(p["shape"])
    for axis, size in zip(p["broadcast_dimensions"], x.shape, strict=True):
        shape[axis] = size
    return e.expand(e.reshape(x, shape), p["shape"])


def _slice(e: Emitter, p: Params, x: Value) -> Value:
    steps = [int(s) for s in p["strides"] or [1] * len(x.shape)]
    spans = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    counts = [len(range(int(start), int(limit), step)) for start, limit, step in spans]
    return e.slice(x, p["start_indices"], counts, steps)


def _dynamic_slice(e: Emitter, p: Params, x: Any, *starts: Any) -> Value:
    if not isinstance(x, Value) or any(isinstance(s, Value) for s in starts):
        raise NotLowerable("a slice at a place that depends on the input")
    sizes = [int(s) for s in p["slice_sizes"]]
    limits = [d - s for d, s in zip(x.shape, sizes, strict=True)]
    first = [int(np.clip(int(s), 0, limit)) for s, limit in zip(starts, limits, strict=True)]
    return e.slice(x, first, sizes, [1] * len(sizes))


def _rev(e: Emitter, p: Params, x: Value) -> Value:
    turned = set(p["dimensions"])
    starts = [d - 1 if i in turned else 0 for i, d in enumerate(x.shape)]
    return e.slice(x, starts, x.shape, [-1 if i in turned else 1 for i in range(len(x.shape))])


def _split(e: Emitter, p: Params, x: Value) -> list[Value]:
    axis, parts, start = p["axis"], [], 0
    for size in p["sizes"]:
        starts, counts = [0] * len(x.shape), list(x.shape)
        starts[axis], counts[axis] = start, int(size)
        parts.append(e.slice(x, starts, counts, [1] * len(x.shape)))
        start += int(size)
    return parts


def _gather(e: Emitter, p: Params, x: Any, indices: Any) -> Value:
    """Lower x[..., indices, ...] along one axis."""
    numbers = p["dimension_numbers"]
    axes = tuple(numbers.start_index_map)
    if not isinstance(x, Value) or isinstance(indices, Value):
        raise NotLowerable("indices that depend on the input")
    sizes = [1 if i in axes else d for i, d in enumerate(x.shape)]
    if (
        len(axes) != 1
        or tuple(numbers.collapsed_slice_dims) != axes
        or numbers.operand_batching_dims
        or list(p["slice_sizes"]) != sizes
    ):
        raise NotLowerable("a gather along more than one axis")
    index = np.asarray(indices)[..., 0]
    picked = e.take(x, index, axes[0])
    # `take` puts the axes of the indices at the gathered axis; JAX puts the others at offset_dims.
    rank = len(picked.shape)
    batch = list(range(axes[0], axes[0] + index.ndim))
    others = iter([i for i in range(rank) if i not in batch])
    ours = iter(batch)
    offsets = set(numbers.offset_dims)
    return e.transpose(picked, [next(others if i in offsets else ours) for i in range(rank)])


def _pad(e: Emitter, p: Params, x: Any, value: Any) -> Value:
    if not isinstance(x, Value) or isinstance(value, Value):
        raise NotLowerable("a fill value that depends on the input")
    low, high, between = zip(*p["padding_config"], strict=True)
    if any(between):
        raise NotLowerable("padding between elements")
    return e.pad(x, low, high, float(np.asarray(value)))


def _clamp(e: Emitter, _p: Params, low: Any, x: Any, high: Any) -> Value:
    return e.binary("min", e.binary("max", x, np.asarray(low)), np.asarray(high))


def _convert(_e: Emitter, p: Params, x: Value) -> Value:
    if np.dtype(p["new_dtype"]) not in (np.float32, np.float64):
        raise NotLowerable(f"a conversion of activations to {np.dtype(p['new_dtype']).name}")
    return x


def _binary(op: str) -> Operator:
    return lambda e, _p, a, b: e.binary(op, a, b)


def _unary(op: str) -> Operator:
    return lambda e, _p, x: e.unary(op, x)


def _reshape(e: Emitter, p: Params, x: Value, *_dynamic: Any) -> Value:
    if p.get("dimensions") is not None:
        x = e.transpose(x, p["dimensions"])
    return e.reshape(x, p["new_sizes"])


def _squeeze(e: Emitter, p: Params, x: Value) -> Value:
    gone = {int(d) % len(x.shape) for d in p["dimensions"]}
    return e.reshape(x, [d for i, d in enumerate(x.shape) if i not in gone])


def _concatenate(e: Emitter, p: Params, *parts: Any) -> Value:
    values: Sequence[Any] = [v if isinstance(v, Value) else np.asarray(v) for v in parts]
    return e.concat(values, p["dimension"])


def _identity(_e: Emitter, _p: Params, *values: Any) -> Any:
    return list(values)


OPERATORS: dict[str, Operator] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
    "add": _binary("add"),
    "add_any": _binary("add"),
    "sub": _binary("sub"),
    "mul": _binary("mul"),
    "div": _binary("div"),
    "max": _binary("max"),
    "min": _binary("min"),
    "neg": lambda e, _p, x: e.negate(x),
    "abs": lambda e, _p, x: e.absolute(x),
    "clamp": _clamp,
    "logistic": _unary("sigmoid"),
    "tanh": _unary("tanh"),
    "exp": _unary("exp"),
    "log": _unary("log"),
    "sqrt": _unary("sqrt"),
    "rsqrt": lambda e, _p, x: e.unary("reciprocal", e.unary("sqrt", x)),
    "square": _unary("square"),
    "integer_pow": lambda e, p, x: e.power(x, float(p["y"])),
    "sin": _unary("sin"),
    "cos": _unary("cos"),
    "erf": _unary("erf"),
    "erfc": lambda e, _p, x: e.binary("sub", np.float64(1), e.unary("erf", x)),
    "log1p": lambda e, _p, x: e.unary("log", e.binary("add", x, np.float64(1))),
    "expm1": lambda e, _p, x: e.binary("sub", e.unary("exp", x), np.float64(1)),
    "sign": _unary("sign"),
    "ne": _unequal,
    "ge": _comparison(above=True),
    "gt": _comparison(above=True),
    "le": _comparison(above=False),
    "lt": _comparison(above=False),
    "select_n": _select,
    "reduce_window_max": _reduce_window("max_pool2d"),
    "reduce_window_sum": _reduce_window("avg_pool2d"),
    "reduce_sum": _reduce("sum"),
    "reduce_max": _reduce("max"),
    "reduce_min": _reduce_min,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": lambda e, p, x: e.transpose(x, p["permutation"]),
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "rev": _rev,
    "split": _split,
    "gather": _gather,
    "pad": _pad,
    "convert_element_type": _convert,
    "copy": _identity,
    "copy_p": _identity,
    "stop_gradient": _identity,
    "device_put": _identity,
    "optimization_barrier": _identity,
}
"""JAX primitive to `rule(emitter, params, *inputs)`, giving one value or a list of them."""
