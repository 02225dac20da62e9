"""Forms ONNX operators share: attributes that became inputs, axes, shapes, slices, windows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .builder import NotLowerable, Shape, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .onnx_network import Step


def constant(value: Any, what: str) -> Any:
    """Return an input that must be constant."""
    if isinstance(value, Value):
        raise NotLowerable(f"{what} that depends on the input")
    return np.asarray(value)


def axes_of(
    step: Step, _opset: int, rank: int, axes: Any, default: Sequence[int] | None = None
) -> list[int]:
    """Return the non-negative axes given by input or attribute, or the default (all)."""
    given = step.attrs.get("axes") if axes is None else constant(axes, "axes").reshape(-1)
    if given is None or len(given) == 0:
        if step.attrs.get("noop_with_empty_axes"):
            return []
        return list(range(rank)) if default is None else list(default)
    if any(not -rank <= int(a) < rank for a in given):
        raise ValueError(f"axes {[int(a) for a in given]} do not fit rank {rank}")
    return [int(a) % rank for a in given]


def cast_to(step: Step) -> Any:
    """Return the numpy dtype a Cast asks for."""
    names = {
        1: np.float32,
        2: np.uint8,
        3: np.int8,
        4: np.uint16,
        5: np.int16,
        6: np.int32,
        7: np.int64,
        9: np.bool_,
        10: np.float16,
        11: np.float64,
        12: np.uint32,
        13: np.uint64,
    }
    if step.attrs["to"] not in names:
        raise NotLowerable(f"a cast to element type {step.attrs['to']}")
    return names[step.attrs["to"]]


def reshape_target(step: Step, shape: Shape, target: Any) -> list[int]:
    """Resolve 0 (copy) and -1 (infer) in a Reshape target."""
    wanted = [int(d) for d in constant(target, "a shape").reshape(-1)]
    if not step.attrs.get("allowzero"):
        wanted = [shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    if wanted.count(-1) > 1 or any(d < -1 for d in wanted):
        raise ValueError(f"target shape {wanted} is not valid")
    if -1 in wanted:
        rest = -math.prod(wanted)
        if rest <= 0 or math.prod(shape) % rest:
            raise ValueError(f"cannot reshape {list(shape)} to {wanted}")
        wanted[wanted.index(-1)] = math.prod(shape) // rest
    if math.prod(wanted) != math.prod(shape):
        raise ValueError(f"cannot reshape {list(shape)} to {wanted}")
    return wanted


def slice_ranges(
    step: Step, opset: int, shape: Shape, rest: Sequence[Any]
) -> tuple[list[int], list[int], list[int]]:
    """Return start, count and step for every axis of a Slice."""
    if opset < 10:
        starts, ends = step.attrs["starts"], step.attrs["ends"]
        axes, strides = step.attrs.get("axes"), None
    else:
        given = [None if r is None else constant(r, "slice bounds").reshape(-1) for r in rest]
        starts, ends, axes, strides = (*given, None, None)[:4]
    if starts is None or ends is None or len(starts) != len(ends):
        raise ValueError("starts and ends must have the same length")
    axes = range(len(starts)) if axes is None else axes
    strides = [1] * len(starts) if strides is None else strides
    first, counts, steps = [0] * len(shape), list(shape), [1] * len(shape)
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        span = range(*slice(int(start), int(end), int(stride)).indices(shape[int(axis)]))
        first[int(axis)], counts[int(axis)] = (span[0] if span else 0), len(span)
        steps[int(axis)] = int(stride)
    return first, counts, steps


def split_sizes(step: Step, _opset: int, size: int, sizes: Any) -> list[int]:
    """Return the lengths of the parts of a Split."""
    if sizes is None:
        sizes = step.attrs.get("split")
    if sizes is None:
        parts = len(step.outputs)
        if step.attrs.get("num_outputs", parts) != parts:
            raise ValueError(f"num_outputs is not the number of outputs, {parts}")
        chunk = -(-size // parts)
        return [min(chunk, size - chunk * i) for i in range(parts)]
    counts = [int(s) for s in constant(sizes, "split sizes").reshape(-1)]
    if sum(counts) != size or min(counts, default=0) < 0:
        raise ValueError(f"parts {counts} do not add up to {size}")
    return counts


def window(step: Step, space: Shape, kernel: Sequence[int]) -> tuple[Any, Any, list[int]]:
    """Return stride, dilation and (begins..., ends...) padding, `auto_pad` resolved."""
    n = len(space)
    if len(kernel) != n or list(step.attrs.get("kernel_shape", kernel)) != list(kernel):
        raise ValueError(f"kernel {list(kernel)} does not fit {n} axes")
    stride = step.attrs.get("strides", [1] * n)
    dilation = step.attrs.get("dilations", [1] * n)
    padding = step.attrs.get("pads", [0] * (2 * n))
    mode = step.attrs.get("auto_pad", "NOTSET")
    if len(stride) != n or len(dilation) != n or len(padding) != 2 * n or min(stride) < 1:
        raise ValueError(f"strides, dilations or pads do not fit {n} axes")
    if mode == "VALID":
        padding = [0] * (2 * n)
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        begins, ends = [], []
        for size, k, s, d in zip(space, kernel, stride, dilation, strict=True):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            small, large = total // 2, total - total // 2
            begins.append(small if mode == "SAME_UPPER" else large)
            ends.append(large if mode == "SAME_UPPER" else small)
        padding = begins + ends
    elif mode != "NOTSET":
        raise ValueError(f"auto_pad {mode!r} is not known")
    return stride, dilation, list(padding)
