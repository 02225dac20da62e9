"""The table of ONNX operators: each rule takes the emitter, the step and its input values.

Inputs are `Value`s, constant arrays, or None where left out. Semantics: the ONNX operator
specification, opsets 7 to 21.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import onnx_einsum, onnx_resample
from .builder import NotLowerable, Value
from .onnx_forms import (
    axes_of,
    cast_to,
    constant,
    reshape_target,
    slice_ranges,
    split_sizes,
    window,
)

if TYPE_CHECKING:
    from .emit import Emitter
    from .onnx_network import Step

Operator = Callable[..., Any]


# Linear algebra


def _gemm(e: Emitter, step: Step, _opset: int, a: Any, b: Any, c: Any = None) -> Value:
    alpha, beta = step.attrs.get("alpha", 1.0), step.attrs.get("beta", 1.0)

    def turned(x: Any, flag: str) -> Any:
        if not step.attrs.get(flag):
            return x
        return e.transpose(x, (1, 0)) if isinstance(x, Value) else np.asarray(x).T

    y = e.matmul(turned(a, "transA"), turned(b, "transB"))
    if alpha != 1.0:
        y = e.with_constant("mul_const", y, np.float64(alpha))
    if c is None or beta == 0.0:
        return y
    if beta != 1.0:
        c = e.binary("mul", c, np.float64(beta)) if isinstance(c, Value) else c * np.float64(beta)
    return e.binary("add", y, c)


def _conv(e: Emitter, step: Step, _opset: int, x: Any, w: Any, b: Any = None) -> Value:
    weight = constant(w, "a kernel")
    bias = np.zeros(weight.shape[0], weight.dtype) if b is None else constant(b, "a bias")
    kernel = weight.shape[2:]
    stride, dilation, padding = window(step, x.shape[2:], kernel)
    groups = step.attrs.get("group", 1)
    return e.conv(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _pool(op: str) -> Operator:
    def rule(e: Emitter, step: Step, _opset: int, x: Value) -> Value:
        if len(step.outputs) > 1 and step.outputs[1]:
            raise NotLowerable("an output of indices")
        kernel = step.attrs["kernel_shape"]
        space = x.shape[2:]
        stride, dilation, padding = window(step, space, kernel)
        include = bool(step.attrs.get("count_include_pad", 0))
        if step.attrs.get("ceil_mode"):
            n = len(space)
            for axis, size in enumerate(space):
                begin, reach = padding[axis], (kernel[axis] - 1) * dilation[axis] + 1
                free = size + begin + padding[n + axis] - reach
                count = -(-free // stride[axis]) + 1
                if (count - 1) * stride[axis] >= size + begin:
                    raise NotLowerable("ceil_mode with a window outside the input")
                extra = (count - 1) * stride[axis] - free
                if extra > 0 and op == "avg_pool2d" and include:
                    raise NotLowerable("ceil_mode that counts padding")
                padding[n + axis] += max(extra, 0)
        if op == "max_pool2d":
            return e.pool(op, x, kernel, stride=stride, padding=padding, dilation=dilation)
        return e.pool(
            op,
            x,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            count_include_pad=include or not any(padding),
        )

    return rule


def _global_pool(kind: str) -> Operator:
    return lambda e, _s, _o, x: e.reduce(kind, x, range(2, len(x.shape)), True)


def _reduce(kind: str) -> Operator:
    def rule(e: Emitter, step: Step, opset: int, x: Value, axes: Any = None) -> Value:
        chosen = axes_of(step, opset, len(x.shape), axes)
        return e.reduce(kind, x, chosen, bool(step.attrs.get("keepdims", 1)))

    return rule


def _batch_norm(
    e: Emitter, step: Step, _opset: int, x: Value, gain: Any, shift: Any, mean: Any, var: Any
) -> Value:
    if step.attrs.get("training_mode"):
        raise NotLowerable("training mode")
    if not step.attrs.get("spatial", 1):
        raise NotLowerable("statistics for each element")
    parts = [np.asarray(constant(v, "statistics"), np.float64) for v in (gain, shift, mean, var)]
    gain, shift, mean, var = (v.reshape(-1, *(1,) * (len(x.shape) - 2)) for v in parts)
    scale = gain / np.sqrt(var + step.attrs.get("epsilon", 1e-5))
    y = e.with_constant("mul_const", x, scale)
    return e.with_constant("add_const", y, shift - mean * scale)


# Activations


def _clip(e: Emitter, step: Step, _opset: int, x: Value, low: Any = None, high: Any = None) -> Any:
    low = step.attrs.get("min") if low is None else constant(low, "a bound")
    high = step.attrs.get("max") if high is None else constant(high, "a bound")
    y = x if low is None or np.all(low <= np.finfo(np.float32).min) else e.binary("max", x, low)
    if high is None or np.all(high >= np.finfo(np.float32).max):
        return y
    return e.binary("min", y, high)


def _prelu(e: Emitter, _step: Step, _opset: int, x: Value, slope: Any) -> Value:
    slope = constant(slope, "a slope")
    if slope.size == 1:
        return e.leaky_relu(x, float(slope.reshape(())))
    falling = e.unary("relu", e.negate(x))
    return e.binary("sub", e.unary("relu", x), e.with_constant("mul_const", falling, slope))


def _hard_sigmoid(e: Emitter, x: Value, alpha: float, beta: float) -> Value:
    line = e.binary("add", e.binary("mul", x, np.float64(alpha)), np.float64(beta))
    return e.binary("min", e.binary("max", line, np.float64(0)), np.float64(1))


def _gelu(e: Emitter, step: Step, _opset: int, x: Value) -> Value:
    if step.attrs.get("approximate", "none") == "tanh":
        inner = e.binary("add", x, e.binary("mul", e.unary("cube", x), np.float64(0.044715)))
        gate = e.unary("tanh", e.binary("mul", inner, np.sqrt(2.0 / np.pi)))
        return e.product(e.binary("mul", x, 0.5), e.binary("add", gate, 1.0))
    return e.unary("gelu", x)


def _celu(e: Emitter, step: Step, _opset: int, x: Value) -> Value:
    alpha = np.float64(step.attrs.get("alpha", 1.0))
    return e.binary("mul", e.unary("elu", e.binary("div", x, alpha)), alpha)


def _softsign(e: Emitter, _step: Step, _opset: int, x: Value) -> Value:
    spread = e.binary("add", e.absolute(x), np.float64(1))
    return e.product(x, e.unary("reciprocal", spread))


def _selu(e: Emitter, step: Step, _opset: int, x: Value) -> Value:
    # The defaults of the specification.
    alpha = step.attrs.get("alpha", 1.67326319217681884765625)
    gamma = step.attrs.get("gamma", 1.05070102214813232421875)
    return e.binary("mul", e.elu(x, float(alpha)), np.float64(gamma))


def _hard_swish(e: Emitter, x: Value) -> Value:
    """Lower x * clip(x + 3, 0, 6) / 6 as c (c + 3) / 6 + relu(x - 3) with c = clip(x, -3, 3)."""
    above = e.unary("relu", e.binary("sub", x, np.float64(3)))
    clipped = e.binary("sub", e.unary("relu", e.binary("add", x, np.float64(3))), np.float64(3))
    clipped = e.pair("sub", clipped, above)
    bent = e.binary("div", e.unary("square", clipped), np.float64(6))
    line = e.pair("add", e.binary("mul", clipped, np.float64(0.5)), above)
    return e.pair("add", bent, line)


def _layer_norm(
    e: Emitter, step: Step, _opset: int, x: Value, gain: Any, shift: Any = None
) -> Value:
    if any(step.outputs[1:]):
        raise NotLowerable("an output of statistics")
    rank = len(x.shape)
    axes = range(step.attrs.get("axis", -1) % rank, rank)
    y = e.normalize(x, axes, float(step.attrs.get("epsilon", 1e-5)))
    y = e.binary("mul", y, constant(gain, "a scale"))
    return y if shift is None else e.binary("add", y, constant(shift, "a bias"))


def _instance_norm(e: Emitter, step: Step, _opset: int, x: Value, gain: Any, shift: Any) -> Value:
    y = e.normalize(x, range(2, len(x.shape)), float(step.attrs.get("epsilon", 1e-5)))
    form = (-1, *(1,) * (len(x.shape) - 2))
    y = e.binary("mul", y, constant(gain, "a scale").reshape(form))
    return e.binary("add", y, constant(shift, "a bias").reshape(form))


def _softmax(op: str) -> Operator:
    def rule(e: Emitter, step: Step, opset: int, x: Value) -> Value:
        rank, axis = len(x.shape), step.attrs.get("axis", -1 if opset >= 13 else 1)
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} does not fit rank {rank}")
        axis %= rank
        if opset >= 13 or axis == rank - 1:
            return e.softmax(op, x, axis)
        # Before opset 13 it is one over all axes from this one on.
        flat = e.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        return e.reshape(e.softmax(op, flat, 1), x.shape)

    return rule


def _pow(e: Emitter, _step: Step, _opset: int, x: Any, exponent: Any) -> Value:
    power = constant(exponent, "an exponent")
    if not isinstance(x, Value) or power.size != 1:
        raise NotLowerable("a power that is not one constant")
    return e.power(x, float(power.reshape(())))


# Layout


def _cast(_e: Emitter, step: Step, _opset: int, x: Value) -> Value:
    if cast_to(step) not in (np.float32, np.float64):
        raise NotLowerable(f"a cast of activations to {np.dtype(cast_to(step)).name}")
    return x


def _flatten(e: Emitter, step: Step, _opset: int, x: Value) -> Value:
    axis = step.attrs.get("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    return e.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _squeeze(e: Emitter, step: Step, opset: int, x: Value, axes: Any = None) -> Value:
    ones = [a for a, d in enumerate(x.shape) if d == 1]
    gone = axes_of(step, opset, len(x.shape), axes, default=ones)
    return e.reshape(x, [d for a, d in enumerate(x.shape) if a not in gone])


def _unsqueeze(e: Emitter, step: Step, _opset: int, x: Value, axes: Any = None) -> Value:
    given = step.attrs["axes"] if axes is None else constant(axes, "axes").reshape(-1)
    rank = len(x.shape) + len(given)
    new = {int(a) % rank for a in given}
    rest = iter(x.shape)
    return e.reshape(x, [1 if a in new else next(rest) for a in range(rank)])


def _transpose(e: Emitter, step: Step, _opset: int, x: Value) -> Value:
    return e.transpose(x, step.attrs.get("perm", range(len(x.shape))[::-1]))


def _pad(e: Emitter, step: Step, opset: int, x: Value, *rest: Any) -> Value:
    rank = len(x.shape)
    if opset < 11:
        pads, value, axes = step.attrs["pads"], step.attrs.get("value", 0.0), None
    else:
        pads, value, axes = (*rest, None, None)[:3]
    pads = constant(pads, "padding").reshape(-1)
    axes = range(rank) if axes is None else [int(a) % rank for a in constant(axes, "axes")]
    value = 0.0 if value is None else float(constant(value, "a fill value").reshape(()))
    before, after = [0] * rank, [0] * rank
    for axis, b, a in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        before[axis], after[axis] = int(b), int(a)
    mode = step.attrs.get("mode", "constant")
    if mode != "constant":
        return onnx_resample.padded(e, x, mode, before, after)
    return e.pad(x, before, after, value)


def _slice(e: Emitter, step: Step, opset: int, x: Value, *rest: Any) -> Value:
    return e.slice(x, *slice_ranges(step, opset, x.shape, rest))


def _split(e: Emitter, step: Step, opset: int, x: Value, sizes: Any = None) -> list[Value]:
    axis = step.attrs.get("axis", 0) % len(x.shape)
    parts, start = [], 0
    for count in split_sizes(step, opset, x.shape[axis], sizes):
        starts, counts = [0] * len(x.shape), list(x.shape)
        starts[axis], counts[axis] = start, count
        parts.append(e.slice(x, starts, counts, [1] * len(x.shape)))
        start += count
    return parts


def _where(e: Emitter, _step: Step, _opset: int, condition: Any, a: Any, b: Any) -> Value:
    """Choose by a constant condition: each side times one or zero."""
    chosen = np.broadcast_to(
        constant(condition, "a condition"),
        np.broadcast_shapes(np.shape(condition), *(_shape_of(v) for v in (a, b))),
    ).astype(np.float64)
    return e.binary("add", _masked(e, a, chosen), _masked(e, b, 1.0 - chosen))


def _shape_of(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, Value) else np.shape(value)


def _masked(e: Emitter, value: Any, mask: Any) -> Any:
    if isinstance(value, Value):
        return e.with_constant("mul_const", value, mask)
    return np.where(mask > 0, value, 0.0)


def _mean(e: Emitter, step: Step, opset: int, *values: Any) -> Value:
    total = _fold_inputs("add")(e, step, opset, *values)
    return e.binary("div", total, np.float64(len(values)))


def _reduce_min(e: Emitter, step: Step, opset: int, x: Value, axes: Any = None) -> Value:
    return e.negate(_reduce("max")(e, step, opset, e.negate(x), axes))


def _reduce_l1(e: Emitter, step: Step, opset: int, x: Value, axes: Any = None) -> Value:
    sizes: Value = _reduce("sum")(e, step, opset, e.absolute(x), axes)
    return sizes


def _reduce_squares(e: Emitter, step: Step, opset: int, x: Value, axes: Any = None) -> Value:
    sums: Value = _reduce("sum")(e, step, opset, e.unary("square", x), axes)
    return sums


def _gather(e: Emitter, step: Step, _opset: int, x: Any, indices: Any) -> Value:
    axis = step.attrs.get("axis", 0)
    return e.take(x, constant(indices, "indices"), axis % len(x.shape))


def _expand(e: Emitter, _step: Step, _opset: int, x: Value, shape: Any) -> Value:
    target = [int(d) for d in constant(shape, "a shape").reshape(-1)]
    return e.expand(x, np.broadcast_shapes(x.shape, tuple(target)))


def _binary(op: str) -> Operator:
    return lambda e, _s, _o, a, b: e.binary(op, a, b)


def _fold_inputs(op: str) -> Operator:
    def rule(e: Emitter, _step: Step, _opset: int, *values: Any) -> Any:
        result = values[0]
        for value in values[1:]:
            if isinstance(result, Value) or isinstance(value, Value):
                result = e.binary(op, result, value)
            else:
                result = {"add": np.add, "max": np.maximum, "min": np.minimum}[op](result, value)
        return result

    return rule


def _unary(op: str) -> Operator:
    return lambda e, _s, _o, x: e.unary(op, x)


def _identity(_e: Emitter, step: Step, _opset: int, x: Value, *rest: Any) -> Value:
    if step.op == "Dropout":
        if len(step.outputs) > 1 and step.outputs[1]:
            raise NotLowerable("an output of the mask")
        if len(rest) > 1 and rest[1] is not None and np.any(constant(rest[1], "training mode")):
            raise NotLowerable("training mode")
    return x


OPERATORS: dict[str, Operator] = {
    "Gemm": _gemm,
    "MatMul": lambda e, _s, _o, a, b: e.matmul(a, b),
    "Einsum": onnx_einsum.einsum,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "Add": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _binary("div"),
    "Sum": _fold_inputs("add"),
    "Max": _fold_inputs("max"),
    "Min": _fold_inputs("min"),
    "Neg": lambda e, _s, _o, x: e.negate(x),
    "Abs": lambda e, _s, _o, x: e.absolute(x),
    "Relu": _unary("relu"),
    "LeakyRelu": lambda e, s, _o, x: e.leaky_relu(x, s.attrs.get("alpha", 0.01)),
    "PRelu": _prelu,
    "Clip": _clip,
    "Sigmoid": _unary("sigmoid"),
    "Tanh": _unary("tanh"),
    "HardSigmoid": lambda e, s, _o, x: _hard_sigmoid(
        e, x, s.attrs.get("alpha", 0.2), s.attrs.get("beta", 0.5)
    ),
    "HardSwish": lambda e, _s, _o, x: _hard_swish(e, x),
    "MaxPool": _pool("max_pool2d"),
    "AveragePool": _pool("avg_pool2d"),
    "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("max"),
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce_min,
    "ReduceL1": _reduce_l1,
    "Mean": _mean,
    "Where": _where,
    "Flatten": _flatten,
    "Reshape": lambda e, s, _o, x, t: e.reshape(x, reshape_target(s, x.shape, t)),
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": _identity,
    "Dropout": _identity,
    "Cast": _cast,
    "Pad": _pad,
    "Concat": lambda e, s, _o, *v: e.concat(v, s.attrs["axis"]),
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "Shape": lambda _e, s, _o, x: np.array(
        x.shape[slice(s.attrs.get("start", 0), s.attrs.get("end"))], dtype=np.int64
    ),
    "Size": lambda _e, _s, _o, x: np.array(x.size, dtype=np.int64),
    **onnx_resample.OPERATORS,
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "Elu": lambda e, s, _o, x: e.elu(x, float(s.attrs.get("alpha", 1.0))),
    "Selu": _selu,
    "Celu": _celu,
    "Softsign": _softsign,
    "Mish": lambda e, _s, _o, x: e.product(x, e.unary("tanh", e.unary("softplus", x))),
    "Softplus": _unary("softplus"),
    "Gelu": _gelu,
    "Swish": lambda e, s, _o, x: e.silu(x, float(s.attrs.get("alpha", 1.0))),
    "Erf": _unary("erf"),
    "Exp": _unary("exp"),
    "Log": _unary("log"),
    "Sqrt": _unary("sqrt"),
    "Reciprocal": _unary("reciprocal"),
    "Sin": _unary("sin"),
    "Cos": _unary("cos"),
    "Pow": _pow,
    "Sign": _unary("sign"),
    "ReduceSumSquare": _reduce_squares,
    "ReduceL2": lambda e, s, o, x, a=None: e.unary("sqrt", _reduce_squares(e, s, o, x, a)),
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
}
"""ONNX operator to `rule(emitter, step, opset, *inputs)`, giving one value or a list of them."""
