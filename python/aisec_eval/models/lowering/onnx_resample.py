"""ONNX operators that resample space: transposed convolutions, resizing, blocks and channels.

All are affine. What has no operator of its own becomes a convolution and a rearrangement, or one
small matrix for each axis. Semantics: the ONNX operator specification, opsets 7 to 21.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .builder import NotLowerable, Value
from .onnx_forms import constant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .emit import Emitter
    from .onnx_network import Step


def conv_transpose(e: Emitter, step: Step, _opset: int, x: Any, w: Any, b: Any = None) -> Value:
    """Lower a transposed convolution to a convolution and the interleaving of its channels.

    With stride s the outputs at positions `q s + r`, for each r below s, are a convolution of the
    input with every s-th weight of the kernel: s outputs a channel and axis, at one resolution.
    """
    weight = constant(w, "a kernel")
    n, groups = len(x.shape) - 2, step.attrs.get("group", 1)
    if n not in (1, 2) or x.shape[0] != 1:
        raise NotLowerable(f"a transposed convolution of a value of shape {list(x.shape)}")
    if weight.ndim != n + 2 or weight.shape[0] != x.shape[1] or x.shape[1] % groups:
        raise ValueError(f"kernel {list(weight.shape)} does not fit input {list(x.shape)}")
    stride = [int(s) for s in step.attrs.get("strides", [1] * n)]
    dilation = [int(d) for d in step.attrs.get("dilations", [1] * n)]
    if min(*stride, *dilation) < 1:
        raise ValueError("strides and dilations must be at least 1")
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    begin, length = _transposed_window(step, x.shape[2:], reach, stride)
    e.afford(*weight.shape[:2], *(r + s for r, s in zip(reach, stride, strict=True)))
    # Dilated kernels are written out.
    wide = np.zeros((*weight.shape[:2], *reach), weight.dtype)
    steps: Any = (..., *(slice(None, None, d) for d in dilation))
    wide[steps] = weight
    taps = [-(-r // s) for r, s in zip(reach, stride, strict=True)]
    tail = [(0, t * s - r) for t, s, r in zip(taps, stride, reach, strict=True)]
    wide = np.pad(wide, [(0, 0), (0, 0), *tail])
    # [groups, in, out, taps, phases, ...]: the kernel of each phase, its taps in reverse.
    inputs, outputs = x.shape[1] // groups, weight.shape[1]
    split = [size for pair in zip(taps, stride, strict=True) for size in pair]
    wide = wide.reshape(groups, inputs, outputs, *split)
    axes = [*range(4, 4 + 2 * n, 2), 1, *range(3, 3 + 2 * n, 2)]
    kernel = np.flip(wide.transpose(0, 2, *axes), axis=tuple(range(3 + n, 3 + 2 * n)))
    kernel = kernel.reshape(-1, inputs, *taps)
    padding = [t - 1 for t in taps] * 2
    y = e.conv(
        x,
        kernel,
        np.zeros(len(kernel), weight.dtype),
        stride=[1] * n,
        padding=padding,
        dilation=[1] * n,
        groups=groups,
    )
    y = _interleave(e, y, stride)
    e.afford(y.shape[1], *(b + o for b, o in zip(begin, length, strict=True)))
    extra = [max(b + o - size, 0) for b, o, size in zip(begin, length, y.shape[2:], strict=True)]
    if any(extra):
        y = e.pad(y, [0] * (n + 2), [0, 0, *extra], 0.0)
    y = e.slice(y, [0, 0, *begin], [*y.shape[:2], *length], [1] * (n + 2))
    if b is None:
        return y
    bias = constant(b, "a bias").reshape(-1, *(1,) * n)
    return e.with_constant("add_const", y, bias)


def _transposed_window(
    step: Step, space: Sequence[int], reach: Sequence[int], stride: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return how many leading outputs are cut from each axis, and how many are kept."""
    n = len(space)
    more = step.attrs.get("output_padding", [0] * n)
    pads = step.attrs.get("pads", [0] * (2 * n))
    mode = step.attrs.get("auto_pad", "NOTSET")
    whole = [(i - 1) * s + r for i, s, r in zip(space, stride, reach, strict=True)]
    wanted = step.attrs.get("output_shape")
    if mode == "VALID":
        pads = [0] * (2 * n)
    elif wanted is not None or mode in ("SAME_UPPER", "SAME_LOWER"):
        sizes = wanted or [i * s for i, s in zip(space, stride, strict=True)]
        total = [w + m - o for w, m, o in zip(whole, more, sizes[-n:], strict=True)]
        if min(total) < 0:
            raise NotLowerable("an output_shape beyond the kernel's reach")
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if mode != "SAME_LOWER" else large + small
        if wanted is not None and mode == "NOTSET":
            pads = large + small
    if len(more) != n or len(pads) != 2 * n or min((*pads, *more)) < 0:
        raise ValueError("pads or output_padding do not fit the input")
    length = [w + m - a - b for w, m, a, b in zip(whole, more, pads[:n], pads[n:], strict=True)]
    if min(length) < 1:
        raise ValueError("the padding leaves no outputs")
    return list(pads[:n]), length


def _interleave(e: Emitter, x: Value, block: Sequence[int]) -> Value:
    """Turn [1, C * blocks, *space] into [1, C, *(space * block)], block positions row-major."""
    if all(b == 1 for b in block):
        return x
    n = len(block)
    channels = x.shape[1] // math.prod(block)
    y = e.reshape(x, (1, channels, *block, *x.shape[2:]))
    order = [axis for k in range(n) for axis in (2 + n + k, 2 + k)]
    y = e.transpose(y, (0, 1, *order))
    return e.reshape(y, (1, channels, *(s * b for s, b in zip(x.shape[2:], block, strict=True))))


def depth_to_space(e: Emitter, step: Step, _opset: int, x: Value) -> Value:
    """Move channels into blocks of pixels."""
    size = int(step.attrs["blocksize"])
    one, channels, height, width = x.shape
    if step.attrs.get("mode", "DCR") == "CRD":
        return _interleave(e, x, (size, size))
    y = e.reshape(x, (one, size, size, channels // size**2, height, width))
    y = e.transpose(y, (0, 3, 4, 1, 5, 2))
    return e.reshape(y, (one, channels // size**2, height * size, width * size))


def space_to_depth(e: Emitter, step: Step, _opset: int, x: Value) -> Value:
    """Move blocks of pixels into channels."""
    size = int(step.attrs["blocksize"])
    one, channels, height, width = x.shape
    y = e.reshape(x, (one, channels, height // size, size, width // size, size))
    y = e.transpose(y, (0, 3, 5, 1, 2, 4))
    return e.reshape(y, (one, channels * size**2, height // size, width // size))


def tile(e: Emitter, _step: Step, _opset: int, x: Value, repeats: Any) -> Value:
    """Repeat the value along each axis."""
    counts = [int(r) for r in constant(repeats, "repeats").reshape(-1)]
    if len(counts) != len(x.shape) or min(counts) < 1:
        raise ValueError(f"repeats {counts} do not fit {list(x.shape)}")
    e.afford(x.size, *counts)
    for axis, count in enumerate(counts):
        x = e.concat([x] * count, axis) if count > 1 else x
    return x


def padded(e: Emitter, x: Value, mode: str, before: Sequence[int], after: Sequence[int]) -> Value:
    """Pad by repeating what is inside: `reflect`, `edge` or `wrap`."""
    if mode not in ("reflect", "edge", "wrap"):
        raise NotLowerable(f"padding by {mode}")
    for axis, (b, a) in enumerate(zip(before, after, strict=True)):
        if b or a:
            kind: Any = mode
            e.afford(x.size, b + a + 1)
            index = np.pad(np.arange(x.shape[axis]), (b, a), mode=kind)
            x = e.along(x, e.selection(index, x.shape[axis]), axis)
    return x


def cum_sum(e: Emitter, step: Step, _opset: int, x: Value, axis: Any) -> Value:
    """Sum up to each element."""
    at = int(constant(axis, "an axis").reshape(())) % len(x.shape)
    size = x.shape[at]
    e.afford(size, size)
    matrix = np.tril(np.ones((size, size)), -1 if step.attrs.get("exclusive") else 0)
    return e.along(x, matrix.T if step.attrs.get("reverse") else matrix, at)


def upsample(e: Emitter, step: Step, opset: int, x: Value, scales: Any = None) -> Value:
    """Resize as before opset 11."""
    given = step.attrs["scales"] if scales is None else constant(scales, "scales").reshape(-1)
    if min(given) < 1:
        raise NotLowerable(f"shrinking before opset 11 (this is opset {opset})")
    sizes = [math.floor(d * s) for d, s in zip(x.shape, given, strict=True)]
    return _resized(
        e, x, step.attrs.get("mode", "nearest"), sizes, list(given), _asymmetric, "floor"
    )


def resize(
    e: Emitter,
    step: Step,
    opset: int,
    x: Value,
    roi: Any = None,
    scales: Any = None,
    sizes: Any = None,
) -> Value:
    """Resize by nearest neighbours or linear interpolation."""
    if opset < 11:
        return upsample(e, step, opset, x, roi)
    for name in ("antialias", "exclude_outside"):
        if step.attrs.get(name):
            raise NotLowerable(f"resizing with {name}")
    if step.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotLowerable("resizing that keeps the aspect ratio")
    rank = len(x.shape)
    axes = [int(a) % rank for a in step.attrs.get("axes", range(rank))]
    wanted, factors = list(x.shape), [1.0] * rank
    if sizes is not None and np.size(constant(sizes, "sizes")):
        for axis, size in zip(axes, np.reshape(sizes, -1), strict=True):
            wanted[axis], factors[axis] = int(size), int(size) / x.shape[axis]
    else:
        for axis, scale in zip(axes, constant(scales, "scales").reshape(-1), strict=True):
            wanted[axis], factors[axis] = math.floor(x.shape[axis] * scale), float(scale)
    mode = step.attrs.get("coordinate_transformation_mode", "half_pixel")
    if mode not in _COORDINATES:
        raise NotLowerable(f"resizing with {mode}")
    nearest = step.attrs.get("nearest_mode", "round_prefer_floor")
    return _resized(
        e, x, step.attrs.get("mode", "nearest"), wanted, factors, _COORDINATES[mode], nearest
    )


def _resized(
    e: Emitter,
    x: Value,
    mode: str,
    sizes: Sequence[int],
    factors: Sequence[float],
    place: Callable[[NDArray[Any], int, int, float], NDArray[Any]],
    nearest: str,
) -> Value:
    if mode not in ("nearest", "linear", "bilinear"):
        raise NotLowerable(f"resizing by {mode} interpolation")
    if min(sizes) < 1:
        raise ValueError(f"cannot resize {list(x.shape)} to {list(sizes)}")
    for axis, (size, factor) in enumerate(zip(sizes, factors, strict=True)):
        old = x.shape[axis]
        if size == old and factor == 1:
            continue
        e.afford(size, old)
        at = place(np.arange(size, dtype=np.float64), old, size, factor)
        if mode == "nearest":
            index = np.clip(_ROUND[nearest](at), 0, old - 1).astype(np.int64)
            matrix = e.selection(index, old)
        else:
            low = np.floor(at)
            ends = (np.clip(low + k, 0, old - 1).astype(np.int64) for k in (0, 1))
            first, second = (e.selection(end, old) for end in ends)
            matrix = first * (1 - (at - low))[:, None] + second * (at - low)[:, None]
        x = e.along(x, matrix, axis)
    return x


def _asymmetric(at: NDArray[Any], _old: int, _new: int, factor: float) -> NDArray[Any]:
    return at / factor


def _half_pixel(at: NDArray[Any], _old: int, _new: int, factor: float) -> NDArray[Any]:
    return (at + 0.5) / factor - 0.5


def _corners(at: NDArray[Any], old: int, new: int, _factor: float) -> NDArray[Any]:
    return at * ((old - 1) / (new - 1)) if new > 1 else 0 * at


_COORDINATES: dict[str, Callable[[NDArray[Any], int, int, float], NDArray[Any]]] = {
    "asymmetric": _asymmetric,
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": lambda at, old, new, f: (
        _half_pixel(at, old, new, f) if new > 1 else 0 * at
    ),
    "align_corners": _corners,
}
_ROUND: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


OPERATORS: dict[str, Callable[..., Any]] = {
    "ConvTranspose": conv_transpose,
    "Resize": resize,
    "Upsample": upsample,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Tile": tile,
    "CumSum": cum_sum,
}
"""ONNX operator to `rule(emitter, step, opset, *inputs)`."""
