"""Shape rules of the IR, one an operator: what each gives, or what is wrong with its inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]


def infer(
    op: str, inputs: Sequence[Shape], attrs: Mapping[str, Any], tensors: Mapping[str, Any]
) -> Shape:
    """Return the output shape of one node (no batch axis).

    Raises:
        ValueError: the shapes, attributes or tensors do not fit together.
    """
    shape: Shape = RULES[op](inputs, attrs, tensors)
    return shape


def _same(inputs: Any, _attrs: Any, _tensors: Any) -> Shape:
    first: Shape = inputs[0]
    if any(shape != first for shape in inputs):
        raise ValueError(f"inputs have different shapes {list(inputs)}")
    return first


def _with_constant(inputs: Any, _attrs: Any, tensors: Any) -> Shape:
    shape: Shape = inputs[0]
    value = np.shape(tensors["value"])
    try:
        fits = np.broadcast_shapes(shape, value) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"constant of shape {value} does not broadcast to {shape}")
    return shape


def _affine(inputs: Any, _attrs: Any, tensors: Any) -> Shape:
    shape: Shape = inputs[0]
    weight, bias = np.shape(tensors["weight"]), np.shape(tensors["bias"])
    if len(weight) != 2 or not shape or weight[1] != shape[-1] or bias != weight[:1]:
        raise ValueError(f"weight {weight} and bias {bias} do not fit input {shape}")
    return (*shape[:-1], weight[0])


def _window(size: int, kernel: int, stride: int, low: int, high: int, dilation: int = 1) -> int:
    if min(kernel, stride, dilation) < 1 or min(low, high) < 0:
        raise ValueError("kernel, stride and dilation must be at least 1 and padding at least 0")
    span = size + low + high - dilation * (kernel - 1) - 1
    if span < 0:
        raise ValueError(f"kernel {kernel} does not fit size {size} with padding {low}+{high}")
    return span // stride + 1


def _windows(shape: Shape, kernel: Any, attrs: Any) -> tuple[int, int]:
    (kh, kw), (sh, sw) = kernel, attrs["stride"]
    top, left, bottom, right = attrs["padding"]
    dh, dw = attrs.get("dilation", (1, 1))
    return (
        _window(shape[1], kh, sh, top, bottom, dh),
        _window(shape[2], kw, sw, left, right, dw),
    )


def _conv2d(inputs: Any, attrs: Any, tensors: Any) -> Shape:
    shape: Shape = inputs[0]
    weight, bias = np.shape(tensors["weight"]), np.shape(tensors["bias"])
    groups = attrs["groups"]
    if len(shape) != 3 or len(weight) != 4:
        raise ValueError(
            f"input {shape} must be [C, H, W] and weight {weight} [O, C/groups, kh, kw]"
        )
    if groups < 1 or weight[1] * groups != shape[0] or weight[0] % groups:
        raise ValueError(f"weight {weight} with groups={groups} does not fit {shape[0]} channels")
    if bias != weight[:1]:
        raise ValueError(f"bias {bias} does not fit {weight[0]} output channels")
    return (weight[0], *_windows(shape, weight[2:], attrs))


def _pool(inputs: Any, attrs: Any, _tensors: Any) -> Shape:
    shape: Shape = inputs[0]
    if len(shape) != 3:
        raise ValueError(f"pooling takes [C, H, W], not {shape}")
    (kh, kw), (top, left, bottom, right) = attrs["kernel"], attrs["padding"]
    dh, dw = attrs.get("dilation", (1, 1))
    if max(top, bottom) > dh * (kh - 1) or max(left, right) > dw * (kw - 1):
        raise ValueError(f"padding {attrs['padding']} leaves windows without input")
    return (shape[0], *_windows(shape, attrs["kernel"], attrs))


def _reshape(inputs: Any, attrs: Any, _tensors: Any) -> Shape:
    shape = tuple(attrs["shape"])
    if any(d < 0 for d in shape) or math.prod(shape) != math.prod(inputs[0]):
        raise ValueError(f"cannot reshape {inputs[0]} to {shape}")
    return shape


def _transpose(inputs: Any, attrs: Any, _tensors: Any) -> Shape:
    perm = tuple(attrs["perm"])
    if sorted(perm) != list(range(len(inputs[0]))):
        raise ValueError(f"perm {perm} does not order the axes of {inputs[0]}")
    return tuple(inputs[0][axis] for axis in perm)


def _pad(inputs: Any, attrs: Any, _tensors: Any) -> Shape:
    before, after = attrs["before"], attrs["after"]
    if not len(before) == len(after) == len(inputs[0]) or min((*before, *after), default=0) < 0:
        raise ValueError(f"padding {before}, {after} does not fit {inputs[0]}")
    return tuple(b + d + a for b, d, a in zip(before, inputs[0], after, strict=True))


def _concat(inputs: Any, attrs: Any, _tensors: Any) -> Shape:
    axis, first = attrs["axis"], inputs[0]
    if not 0 <= axis < len(first):
        raise ValueError(f"axis {axis} is not an axis of {first}")
    rest = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
    if len(rest) != 1:
        raise ValueError(f"shapes {list(inputs)} differ outside axis {axis}")
    return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])


def _slice(inputs: Any, attrs: Any, _tensors: Any) -> Shape:
    starts, counts, steps = attrs["starts"], attrs["counts"], attrs["steps"]
    if not len(starts) == len(counts) == len(steps) == len(inputs[0]):
        raise ValueError(f"slice needs one start, count and step for each axis of {inputs[0]}")
    for start, count, step, size in zip(starts, counts, steps, inputs[0], strict=True):
        last = start + step * (count - 1)
        if count < 1 or step == 0 or not (0 <= start < size and 0 <= last < size):
            raise ValueError(f"slice {start}:+{count}*{step} leaves an axis of size {size}")
    return tuple(counts)


RULES: dict[str, Any] = {
    "input": lambda _inputs, attrs, _tensors: tuple(attrs["shape"]),
    "constant": lambda _inputs, _attrs, tensors: np.shape(tensors["value"]),
    "affine": _affine,
    "conv2d": _conv2d,
    "add_const": _with_constant,
    "mul_const": _with_constant,
    "div_const": _with_constant,
    "add": _same,
    "sub": _same,
    "reshape": _reshape,
    "transpose": _transpose,
    "pad": _pad,
    "avg_pool2d": _pool,
    "max_pool2d": _pool,
    "concat": _concat,
    "slice": _slice,
    "relu": _same,
    "leaky_relu": _same,
    "sigmoid": _same,
    "tanh": _same,
    "exp": _same,
    "log": _same,
    "sqrt": _same,
    "reciprocal": _same,
    "square": _same,
    "cube": _same,
    "sin": _same,
    "cos": _same,
    "erf": _same,
    "softplus": _same,
    "elu": _same,
    "silu": _same,
    "gelu": _same,
    "sign": _same,
    "mul": lambda inputs, _attrs, _tensors: np.broadcast_shapes(*inputs),
    # JAX only
    "softmax": _same,
    "log_softmax": _same,
}
