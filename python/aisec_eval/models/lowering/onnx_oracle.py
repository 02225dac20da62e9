"""Direct numpy implementations of ONNX operators, to check imports against.

ONNX's own reference evaluator computes batch statistics for inference-mode batch normalization
before opset 14, mistakes some paddings of windows, knows no groups of transposed convolutions, no
resizing before opset 11 and no joined axes before opset 13, so these replace its versions. They
share nothing with the lowering: batches, padding and windows are worked out here from the operator
specification.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray


class _Windows:
    """The windows of one operator over the space axes of x [N, C, *space]."""

    def __init__(self, x: NDArray[Any], kernel: Sequence[int], attrs: dict[str, Any]) -> None:
        space, n = x.shape[2:], x.ndim - 2
        self.kernel = list(kernel)
        self.stride = list(attrs.get("strides") or [1] * n)
        self.dilation = list(attrs.get("dilations") or [1] * n)
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        mode = attrs.get("auto_pad") or "NOTSET"
        if mode == "NOTSET":
            pads = list(attrs.get("pads") or [0] * (2 * n))
            begin, end = pads[:n], pads[n:]
        elif mode == "VALID":
            begin, end = [0] * n, [0] * n
        else:
            outs = [math.ceil(size / s) for size, s in zip(space, self.stride, strict=True)]
            both = [
                max(0, (out - 1) * s + r - size)
                for out, s, r, size in zip(outs, self.stride, reach, space, strict=True)
            ]
            halves = [b // 2 for b in both]
            rest = [b - h for b, h in zip(both, halves, strict=True)]
            begin, end = (halves, rest) if mode == "SAME_UPPER" else (rest, halves)
        rounding = math.ceil if attrs.get("ceil_mode") else math.floor
        self.out = [
            rounding((size + b + e - r) / s) + 1
            for size, b, e, r, s in zip(space, begin, end, reach, self.stride, strict=True)
        ]
        self.begin, self.end = begin, end
        # Rounding up may reach past the padding.
        self.over = [
            max(0, (out - 1) * s + r - (size + b + e))
            for out, s, r, size, b, e in zip(
                self.out, self.stride, reach, space, begin, end, strict=True
            )
        ]

    def padded(self, x: NDArray[Any], inside: float, beyond: float) -> NDArray[Any]:
        """Pad the space axes with `inside`, and past the padding with `beyond`."""
        widths = [(0, 0), (0, 0), *zip(self.begin, self.end, strict=True)]
        x = np.pad(x, widths, constant_values=inside)
        return np.pad(x, [(0, 0), (0, 0), *((0, o) for o in self.over)], constant_values=beyond)

    def offsets(self, padded: NDArray[Any]) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
        """Yield each position in the kernel with what all windows see there."""
        for position in itertools.product(*(range(k) for k in self.kernel)):
            starts = [p * d for p, d in zip(position, self.dilation, strict=True)]
            cut = [
                slice(a, a + (out - 1) * s + 1, s)
                for a, out, s in zip(starts, self.out, self.stride, strict=True)
            ]
            yield position, padded[(slice(None), slice(None), *cut)]


def conv(x: NDArray[Any], w: NDArray[Any], b: Any = None, **attrs: Any) -> NDArray[Any]:
    """Convolution with groups, summed in float64."""
    groups = attrs.get("group") or 1
    windows = _Windows(x, w.shape[2:], attrs)
    wide = windows.padded(x.astype(np.float64), 0.0, 0.0)
    # A contiguous matrix for each position in the kernel: BLAS multiplies it.
    order = (*range(2, w.ndim), 0, 1)
    kernel = np.ascontiguousarray(w.transpose(order), dtype=np.float64)
    kernel = kernel.reshape(*w.shape[2:], groups, -1, w.shape[1])
    y = np.zeros((len(x), groups, kernel.shape[-2], math.prod(windows.out)))
    for position, seen in windows.offsets(wide):
        y += kernel[position] @ seen.reshape(len(x), groups, kernel.shape[-1], -1)
    y = y.reshape(len(x), -1, *windows.out)
    if b is not None:
        y += b.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 2))
    return y.astype(x.dtype)


def max_pool(x: NDArray[Any], **attrs: Any) -> NDArray[Any]:
    """Maximum over windows; padding never wins."""
    windows = _Windows(x, attrs["kernel_shape"], attrs)
    padded = windows.padded(x, -np.inf, -np.inf)
    return np.asarray(np.maximum.reduce([seen for _, seen in windows.offsets(padded)]))


def average_pool(x: NDArray[Any], **attrs: Any) -> NDArray[Any]:
    """Mean over windows, of the elements in the input or in the padded input."""
    windows = _Windows(x, attrs["kernel_shape"], attrs)
    total = sum(seen for _, seen in windows.offsets(windows.padded(x.astype(np.float64), 0, 0)))
    counted = 1.0 if attrs.get("count_include_pad") else 0.0
    ones = windows.padded(np.ones(x.shape), counted, 0.0)
    count = sum(seen for _, seen in windows.offsets(ones))
    return np.asarray(total / count).astype(x.dtype)


def batch_normalization(
    x: NDArray[Any],
    gain: NDArray[Any],
    shift: NDArray[Any],
    mean: NDArray[Any],
    var: NDArray[Any],
    **attrs: Any,
) -> NDArray[Any]:
    """Normalise with the stored statistics."""
    epsilon = attrs.get("epsilon")
    column = (-1, *(1,) * (x.ndim - 2))
    root = np.sqrt(var.astype(np.float64) + (1e-5 if epsilon is None else epsilon))
    unit = (x - mean.reshape(column)) / root.reshape(column)
    return np.asarray(unit * gain.reshape(column) + shift.reshape(column)).astype(x.dtype)


def conv_transpose(x: NDArray[Any], w: NDArray[Any], b: Any = None, **attrs: Any) -> NDArray[Any]:
    """Transposed convolution: every input adds a multiple of the kernel to the outputs."""
    n, groups = x.ndim - 2, attrs.get("group") or 1
    stride = list(attrs.get("strides") or [1] * n)
    dilation = list(attrs.get("dilations") or [1] * n)
    more = list(attrs.get("output_padding") or [0] * n)
    pads = list(attrs.get("pads") or [0] * (2 * n))
    mode = attrs.get("auto_pad") or "NOTSET"
    sizes = list(attrs.get("output_shape") or [])[-n:]
    whole = [
        (i - 1) * s + (k - 1) * d + 1
        for i, s, k, d in zip(x.shape[2:], stride, w.shape[2:], dilation, strict=True)
    ]
    if mode == "VALID":
        pads = [0] * (2 * n)
    elif sizes or mode != "NOTSET":
        sizes = sizes or [i * s for i, s in zip(x.shape[2:], stride, strict=True)]
        total = [a + m - size for a, m, size in zip(whole, more, sizes, strict=True)]
        halves = [t // 2 for t in total]
        rest = [t - h for t, h in zip(total, halves, strict=True)]
        pads = halves + rest if mode == "SAME_UPPER" else rest + halves
    y = np.zeros((len(x), groups, w.shape[1], *(a + m for a, m in zip(whole, more, strict=True))))
    wide = x.astype(np.float64).reshape(len(x), groups, -1, *x.shape[2:])
    kernel = w.astype(np.float64).reshape(groups, -1, *w.shape[1:])
    for position in itertools.product(*(range(k) for k in w.shape[2:])):
        at: Any = (..., *position)
        reached: Any = (
            ...,
            *(
                slice(p * d, p * d + (i - 1) * s + 1, s)
                for p, d, i, s in zip(position, dilation, x.shape[2:], stride, strict=True)
            ),
        )
        y[reached] += np.einsum("ngi...,gio->ngo...", wide, kernel[at])
    y = y.reshape(len(x), -1, *y.shape[3:])
    inside = zip(pads[:n], pads[n:], y.shape[2:], strict=True)
    y = y[(slice(None), slice(None), *(slice(a, size - b) for a, b, size in inside))]
    if b is not None:
        y = y + b.astype(np.float64).reshape(-1, *(1,) * n)
    return y.astype(x.dtype)


def resize(
    x: NDArray[Any], roi: Any = None, scales: Any = None, sizes: Any = None, **attrs: Any
) -> NDArray[Any]:
    """Resize one axis after the other, one output position at a time."""
    place = attrs.get("coordinate_transformation_mode") or "half_pixel"
    nearest = attrs.get("nearest_mode") or "round_prefer_floor"
    if scales is None and sizes is None:  # before opset 11
        scales, place, nearest = roi, "asymmetric", "floor"
    axes = list(attrs.get("axes") or range(x.ndim))
    if sizes is None or np.size(sizes) == 0:
        sizes = [math.floor(x.shape[a] * s) for a, s in zip(axes, scales, strict=True)]
    else:
        scales = [size / x.shape[a] for a, size in zip(axes, sizes, strict=True)]
    y = x.astype(np.float64)
    for axis, new, scale in zip(axes, sizes, scales, strict=True):
        old, rows = y.shape[axis], []
        if new == old and scale == 1:
            continue
        for position in range(int(new)):
            at = position / scale if place == "asymmetric" else (position + 0.5) / scale - 0.5
            if place == "align_corners":
                at = position * (old - 1) / (new - 1) if new > 1 else 0.0
            elif place == "pytorch_half_pixel" and new == 1:
                at = 0.0
            low, share = math.floor(at), at - math.floor(at)
            if (attrs.get("mode") or "nearest") == "nearest":
                up = {
                    "floor": False,
                    "ceil": share > 0,
                    "round_prefer_floor": share > 0.5,
                    "round_prefer_ceil": share >= 0.5,
                }[nearest]
                low, share = low + up, 0.0
            first, second = (min(max(low + k, 0), old - 1) for k in (0, 1))
            rows.append((1 - share) * y.take(first, axis) + share * y.take(second, axis))
        y = np.stack(rows, axis)
    return y.astype(x.dtype)


def joined_softmax(x: NDArray[Any], **attrs: Any) -> NDArray[Any]:
    """Softmax before opset 13: one over all axes from the given one on."""
    axis = attrs.get("axis")
    flat = x.astype(np.float64).reshape(*x.shape[: 1 if axis is None else axis % x.ndim], -1)
    powers = np.exp(flat - flat.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True)).reshape(x.shape).astype(x.dtype)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Conv": conv,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "ConvTranspose": conv_transpose,
    "Resize": resize,
    "Upsample": lambda x, scales, **attrs: resize(x, scales, **attrs),
}
"""ONNX operator to its implementation on whole batches."""

BEFORE_13: dict[str, Callable[..., Any]] = {
    "Softmax": joined_softmax,
    "LogSoftmax": lambda x, **attrs: np.log(joined_softmax(x.astype(np.float64), **attrs)),
}
"""Those that meant something else before opset 13."""
