"""Appends nodes for values shaped as the user's network shapes them.

A network is lowered for one sample: its batch axis has size 1 and, being row-major, adds nothing
to the layout. So a `Value` pairs a node with the full shape the network gives it, batch axis
included, and each rule asks for the view of the node that it needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import UnsafeArtifactError

from . import shapes
from .ir import GraphSpec, Node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]

MAX_RANK = 8
MAX_WORK = 1 << 37
"""Most multiplications one sample may take, about ten times those of the largest vision models."""


class NotLowerable(Exception):  # noqa: N818 (caught and reworded, never shown)
    """The IR has no way to say this; the text says what `this` is."""


@dataclass(frozen=True, slots=True)
class Value:
    """A node's output under the full shape (batch axis of size 1 included) the network sees."""

    node: int
    shape: Shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def sample_shape(shape: Shape) -> Shape:
    """Drop a leading axis of size 1; a scalar becomes one element."""
    if len(shape) > 1 and shape[0] == 1:
        return shape[1:]
    return shape or (1,)


class Builder:
    """Appends nodes, inferring their shapes.

    All values of one sample together may have `limit` elements.
    """

    def __init__(self, input_shape: Shape, name: str, limit: int = 1 << 28) -> None:
        self._nodes: list[Node] = []
        self._left = limit
        self._work = MAX_WORK
        self._named: set[int] = {0}
        self._views: dict[tuple[int, Shape], int] = {}
        self.source = ""
        self._emit("input", (), attrs={"shape": tuple(input_shape)})
        self._nodes[0] = replace(self._nodes[0], name=name)

    def finish(self, output: Value, shape: Shape | None = None) -> GraphSpec:
        """Return the graph with `output`, viewed as one sample of `shape`."""
        index = self._view(output, sample_shape(output.shape) if shape is None else shape)
        return GraphSpec(tuple(self._nodes), index)

    def node(self, value: Value) -> Node:
        """Return the node behind a value."""
        return self._nodes[value.node]

    def label(self, value: Value, name: str) -> None:
        """Name the node behind `value`, unless an earlier step of the network named it."""
        if value.node not in self._named:
            self._named.add(value.node)
            self._nodes[value.node] = replace(self._nodes[value.node], name=name)

    # One node

    def _emit(
        self,
        op: str,
        inputs: Sequence[int],
        attrs: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Any] | None = None,
    ) -> int:
        attrs, tensors = attrs or {}, tensors or {}
        shape = shapes.infer(op, [self._nodes[i].shape for i in inputs], attrs, tensors)
        if len(shape) > MAX_RANK:
            raise NotLowerable(f"a value of rank {len(shape)} (at most {MAX_RANK})")
        self._spend(shape, attrs, tensors)
        for key, tensor in tensors.items():
            if not np.isfinite(tensor).all():
                raise ValueError(f"its {key} holds NaN or infinity")
        index = len(self._nodes)
        shape = tuple(int(d) for d in shape)
        name = f"~{index}.{op}"
        self._nodes.append(Node(name, op, shape, tuple(inputs), attrs, tensors, self.source))
        return index

    def _spend(self, shape: Shape, attrs: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        size = math.prod(shape)
        if size > self._left:
            raise UnsafeArtifactError(
                f"needs a value of {size} elements for one sample, with {self._left} left of what "
                "a network of this size may use; not loaded"
            )
        self._left -= size
        weight = np.shape(tensors.get("weight", ()))
        self._work -= size * math.prod((*weight[1:], *attrs.get("kernel", ())))
        if self._work < 0:
            raise UnsafeArtifactError(
                f"takes more than {MAX_WORK} multiplications for one sample; not loaded"
            )

    def afford(self, *shape: int) -> None:
        """Check the size of an array before it is made.

        Raises:
            UnsafeArtifactError: it holds more than values of this network may.
        """
        if math.prod(shape) > self._left:
            self._spend(shape, {}, {})

    def _view(self, value: Value, shape: Shape) -> int:
        """Return a node holding `value` with this sample shape."""
        if self._nodes[value.node].shape == shape:
            return value.node
        key = (value.node, shape)
        if key not in self._views:
            self._views[key] = self._emit("reshape", (value.node,), {"shape": shape})
        return self._views[key]

    def _sample(self, value: Value) -> int:
        return self._view(value, sample_shape(value.shape))

    def constant(self, array: Any) -> Value:
        """Emit a constant as a node."""
        array = np.asarray(array)
        value = array.reshape(sample_shape(array.shape))
        return Value(self._emit("constant", (), tensors={"value": value}), array.shape)
