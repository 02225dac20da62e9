"""Random small graphs in the engine's wire format, over every operator, for property tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from aisec_eval import _core

LARGEST = 160
"""Most elements of one sample at any node."""

OPERATORS = (
    "constant",
    "affine",
    "conv2d",
    "add_const",
    "mul_const",
    "div_const",
    "add",
    "sub",
    "reshape",
    "transpose",
    "pad",
    "avg_pool2d",
    "max_pool2d",
    "concat",
    "slice",
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
)


@dataclass(frozen=True)
class RandomGraph:
    """A description, its tensors, and every node's shape."""

    nodes: list[dict[str, Any]]
    tensors: list[np.ndarray]
    shapes: list[tuple[int, ...]]

    @property
    def spec(self) -> str:
        """The JSON that `_core.Graph` takes with `tensors`; the last node is the output."""
        return json.dumps({"nodes": self.nodes, "output": len(self.nodes) - 1})

    def build(self) -> _core.Graph:
        """Return the native graph."""
        from aisec_eval import _core

        return _core.Graph(self.spec, self.tensors)

    def inputs(self, seed: int, count: int) -> np.ndarray:
        """Return float32 samples, uniform in [-1, 1)."""
        size = (count, *self.shapes[0])
        return np.random.default_rng(seed).uniform(-1, 1, size).astype(np.float32)


def random_graph(
    seed: int,
    *,
    nodes: int = 8,
    classes: int = 3,
    operators: tuple[str, ...] = OPERATORS,
    input_shape: tuple[int, ...] | None = None,
) -> RandomGraph:
    """Return a graph of about `nodes` of `operators`, ending in `classes` logits.

    The same arguments give the same graph. Constants are float64 values that float32 cannot
    hold, scaled so that values stay of about the input's size.
    """
    build = _Builder(np.random.default_rng(seed), input_shape)
    for _ in range(nodes):
        build.grow(str(build.rng.choice(operators)))
    last = len(build.nodes) - 1
    length = int(np.prod(build.shapes[last]))
    flat = build.push("reshape", [last], (length,), shape=[length])
    build.push("affine", [flat], (classes,), build.weights((classes, length)))
    return RandomGraph(build.nodes, build.tensors, build.shapes)


@dataclass
class _Builder:
    rng: np.random.Generator
    input_shape: tuple[int, ...] | None
    nodes: list[dict[str, Any]] = field(default_factory=list)
    tensors: list[np.ndarray] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = self.input_shape
        if shape is None and self.below(4) == 0:
            shape = (self.between(1, 7),)
        elif shape is None:
            shape = (self.between(1, 3), self.between(3, 6), self.between(3, 6))
        self.push("input", [], shape, shape=list(shape))

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def between(self, least: int, most: int) -> int:
        return least + self.below(most - least + 1)

    def pair(self, least: int, most: int) -> list[int]:
        return [self.between(least, most), self.between(least, most)]

    def values(self, shape: tuple[int, ...], scale: float) -> np.ndarray:
        return self.rng.uniform(-scale, scale, shape)

    def weights(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        fan_in = int(np.prod(shape[1:]))
        weight = self.values(shape, (3 / fan_in) ** 0.5)
        return {"weight": weight, "bias": self.values(shape[:1], 0.3)}

    def push(
        self,
        op: str,
        inputs: list[int],
        shape: tuple[int, ...],
        tensors: dict[str, np.ndarray] | None = None,
        /,
        **attrs: Any,
    ) -> int:
        roles = {}
        for role, values in (tensors or {}).items():
            roles[role] = len(self.tensors)
            self.tensors.append(np.ascontiguousarray(values))
        index = len(self.nodes)
        self.nodes.append(
            {
                "name": f"{op}_{index}",
                "op": op,
                "inputs": inputs,
                "tensors": roles,
                "attrs": attrs,
            }
        )
        self.shapes.append(tuple(shape))
        return index

    def source(self, fits: Callable[[tuple[int, ...]], bool]) -> int | None:
        """Return a node to read, recent ones more often."""
        fitting = [i for i, shape in enumerate(self.shapes) if fits(shape)]
        if not fitting:
            return None
        return fitting[self.below(len(fitting))] if self.below(4) == 0 else fitting[-1]

    def grow(self, op: str) -> None:
        """Append one operator, or nothing where none fits or the result would be large."""
        image_only = op in ("conv2d", "avg_pool2d", "max_pool2d")
        x = self.source(lambda shape: len(shape) == 3 if image_only else len(shape) > 0)
        if x is not None:
            getattr(self, f"_{op}", self._elementwise)(op, x, self.shapes[x])

    def _elementwise(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        self.push(op, [x], shape)

    def _leaky_relu(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        self.push(op, [x], shape, slope=float(self.rng.choice([0.01, 0.2, 0.9])))

    def _constant(self, op: str, _x: int, shape: tuple[int, ...]) -> None:
        self.push(op, [], shape, {"value": self.values(shape, 0.5)})

    def _affine(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        out = self.between(1, 6)
        if int(np.prod(shape[:-1])) * out <= LARGEST:
            self.push(op, [x], (*shape[:-1], out), self.weights((out, shape[-1])))

    def _conv2d(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        groups = shape[0] if self.below(2) else 1
        out = groups * self.between(1, 3)
        kernel, stride, dilation = self.pair(1, 3), self.pair(1, 2), self.pair(1, 2)
        padding = self.pair(0, 2) + self.pair(0, 2)
        size = _sliding(shape[1:], kernel, stride, padding, dilation)
        if size is not None and out * size[0] * size[1] <= LARGEST:
            tensors = self.weights((out, shape[0] // groups, *kernel))
            attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            self.push(op, [x], (out, *size), tensors, **attrs)

    def _with_constant(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        kept = shape[self.below(len(shape) + 1) :]
        value = self.values(tuple(1 if self.below(2) else n for n in kept), 1.0)
        if op == "div_const":
            value = np.copysign(np.abs(value) + 0.5, value)
        self.push(op, [x], shape, {"value": value})

    _add_const = _mul_const = _div_const = _with_constant

    def _two(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        other = self.source(lambda candidate: candidate == shape)
        self.push(op, [x, x if other is None else other], shape)

    _add = _sub = _two

    def _reshape(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape))
        choices = [(size,), (*shape, 1), (1,) * max(0, 3 - len(shape)) + shape]
        new = choices[self.below(len(choices))]
        self.push(op, [x], new, shape=list(new))

    def _transpose(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        perm = [int(axis) for axis in self.rng.permutation(len(shape))]
        self.push(op, [x], tuple(shape[axis] for axis in perm), perm=perm)

    def _pad(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        before = [self.below(2) for _ in shape]
        after = [self.below(3) for _ in shape]
        new = tuple(b + n + a for b, n, a in zip(before, shape, after, strict=True))
        if int(np.prod(new)) <= LARGEST:
            self.push(op, [x], new, before=before, after=after, value=0.3 * self.below(2))

    def _pool(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        kernel, stride = self.pair(1, 3), self.pair(1, 3)
        dilation = self.pair(1, 2) if op == "max_pool2d" else [1, 1]
        # Padding smaller than an undilated kernel: every window sees the input.
        room = [k - 1 if d == 1 else 0 for k, d in zip(kernel, dilation, strict=True)]
        padding = [self.between(0, min(1, room[axis % 2])) for axis in range(4)]
        size = _sliding(shape[1:], kernel, stride, padding, dilation)
        if size is None:
            return
        attrs: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
        if op == "max_pool2d":
            attrs["dilation"] = dilation
        else:
            attrs["count_include_pad"] = bool(self.below(2))
        self.push(op, [x], (shape[0], *size), **attrs)

    _avg_pool2d = _max_pool2d = _pool

    def _concat(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        axis = self.below(len(shape))
        inputs = [x]
        for _ in range(self.below(5)):
            other = self.source(
                lambda s: (
                    len(s) == len(shape)
                    and all(i == axis or s[i] == shape[i] for i in range(len(s)))
                )
            )
            inputs.append(x if other is None else other)
        new = list(shape)
        new[axis] = sum(self.shapes[i][axis] for i in inputs)
        if int(np.prod(new)) <= LARGEST:
            self.push(op, inputs, tuple(new), axis=axis)

    def _slice(self, op: str, x: int, shape: tuple[int, ...]) -> None:
        starts, counts, steps = [], [], []
        for size in shape:
            first, last, step = self.below(size), self.below(size), self.between(1, 2)
            starts.append(first)
            counts.append(abs(last - first) // step + 1)
            steps.append(-step if last < first else step)
        self.push(op, [x], tuple(counts), starts=starts, counts=counts, steps=steps)


def _sliding(
    size: tuple[int, ...],
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> tuple[int, int] | None:
    """Return the output's height and width, or None when the kernel does not fit."""
    room = [
        size[axis] + padding[axis] + padding[axis + 2] - (kernel[axis] - 1) * dilation[axis] - 1
        for axis in (0, 1)
    ]
    if min(room) < 0:
        return None
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1
