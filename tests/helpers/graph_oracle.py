"""What a graph computes, from the operators' definitions, in numpy or (for gradients) JAX."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .random_graphs import RandomGraph


def evaluate(graph: RandomGraph, x: Any, xp: Any = np) -> list[Any]:
    """Return every node's value for x [n, *input]; `xp` is numpy or jax.numpy."""
    values: list[Any] = []
    for node in graph.nodes:
        tensors = {
            role: np.asarray(graph.tensors[index], np.float64)
            for role, index in node["tensors"].items()
        }
        inputs = [values[i] for i in node["inputs"]]
        values.append(apply(xp, node["op"], node["attrs"], tensors, x, *inputs))
    return values


def apply(xp: Any, op: str, attrs: dict[str, Any], tensors: dict[str, Any], x: Any, *inputs: Any):
    """Return one operator's output; `x` is the graph's input."""
    y = inputs[0] if inputs else x
    match op:
        case "input":
            return x
        case "constant":
            return xp.broadcast_to(tensors["value"], (x.shape[0], *tensors["value"].shape))
        case "affine":
            return xp.einsum("...i,oi->...o", y, tensors["weight"]) + tensors["bias"]
        case "conv2d":
            return _conv2d(xp, attrs, tensors["weight"], tensors["bias"], y)
        case "add_const":
            return y + tensors["value"]
        case "mul_const":
            return y * tensors["value"]
        case "div_const":
            return y / tensors["value"]
        case "add":
            return y + inputs[1]
        case "sub":
            return y - inputs[1]
        case "reshape":
            return y.reshape(y.shape[0], *attrs["shape"])
        case "transpose":
            return y.transpose(0, *(axis + 1 for axis in attrs["perm"]))
        case "pad":
            widths = [(0, 0), *zip(attrs["before"], attrs["after"], strict=True)]
            return xp.pad(y, widths, constant_values=attrs["value"])
        case "concat":
            return xp.concatenate(inputs, axis=attrs["axis"] + 1)
        case "slice":
            where = zip(attrs["starts"], attrs["counts"], attrs["steps"], strict=True)
            for axis, (start, count, step) in enumerate(where):
                y = xp.take(y, np.arange(count) * step + start, axis=axis + 1)
            return y
        case "max_pool2d":
            seen = [part for _, part in _taps(xp, attrs, attrs["kernel"], y, -np.inf)]
            return xp.max(xp.stack(seen), axis=0)
        case "avg_pool2d":
            total = sum(part for _, part in _taps(xp, attrs, attrs["kernel"], y, 0))
            if attrs["count_include_pad"]:
                return total / (attrs["kernel"][0] * attrs["kernel"][1])
            ones = np.ones(y.shape)
            return total / sum(part for _, part in _taps(np, attrs, attrs["kernel"], ones, 0))
        case "relu":
            return xp.where(y > 0, y, 0)
        case "leaky_relu":
            return xp.where(y > 0, y, attrs["slope"] * y)
        case "sigmoid":
            return 1 / (1 + xp.exp(-y))
        case "tanh":
            return xp.tanh(y)
    raise AssertionError(f"no oracle for {op}")


def _taps(xp: Any, attrs: dict[str, Any], kernel: Any, y: Any, fill: float):
    """Yield each kernel position and what every window sees there, [n, C, rows, columns]."""
    top, left, bottom, right = attrs["padding"]
    (sh, sw), (dh, dw) = attrs["stride"], attrs.get("dilation", (1, 1))
    padded = xp.pad(y, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=fill)
    rows = padded.shape[2] - (kernel[0] - 1) * dh
    columns = padded.shape[3] - (kernel[1] - 1) * dw
    for k, m in product(range(kernel[0]), range(kernel[1])):
        yield (k, m), padded[:, :, k * dh : k * dh + rows : sh, m * dw : m * dw + columns : sw]


def _conv2d(xp: Any, attrs: dict[str, Any], weight: Any, bias: Any, y: Any):
    """Sum over kernel positions and, group by group, channels."""
    groups = attrs["groups"]
    total = 0
    for (k, m), part in _taps(xp, attrs, weight.shape[2:], y, 0):
        seen = part.reshape(part.shape[0], groups, -1, *part.shape[2:])
        by_group = weight[:, :, k, m].reshape(groups, -1, weight.shape[1])
        total = total + xp.einsum("ngchw,goc->ngohw", seen, by_group)
    return total.reshape(total.shape[0], -1, *total.shape[3:]) + bias[:, None, None]
