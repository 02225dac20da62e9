"""The network IR as Python sees it: frozen nodes, written out in the native graph's format."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

Array = Any  # numpy arrays of any numeric dtype

NATIVE_OPERATORS = frozenset(
    (
        *("input", "constant", "affine", "conv2d", "add_const", "mul_const", "div_const"),
        *("add", "sub", "reshape", "transpose", "pad", "concat", "slice"),
        *("avg_pool2d", "max_pool2d", "relu", "leaky_relu", "sigmoid", "tanh"),
        *("exp", "log", "sqrt", "reciprocal", "square", "cube", "sin", "cos"),
        *("erf", "softplus", "elu", "silu", "gelu", "mul", "sign"),
    )
)
"""Operators of the native graph. Any other runs under JAX only and cannot be certified."""


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One operator applied to earlier nodes. Shapes never include the batch axis."""

    name: str
    op: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)
    source: str = ""
    """The user's operator behind the node, for messages: `Softmax (node "probs")`."""


@dataclass(frozen=True, eq=False, slots=True)
class GraphSpec:
    """Nodes in topological order; node 0 is the input."""

    nodes: tuple[Node, ...]
    output: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One sample's shape."""
        return self.nodes[0].shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the output for one sample."""
        return self.nodes[self.output].shape

    @property
    def not_native(self) -> Node | None:
        """The first node the native graph has no operator for, or None."""
        return next((n for n in self.nodes if n.op not in NATIVE_OPERATORS), None)

    def flattened(self) -> GraphSpec:
        """Return the graph with its outputs in one row, in row-major order."""
        shape = (math.prod(self.output_shape),)
        if shape == self.output_shape:
            return self
        node = Node("~flat", "reshape", shape, (self.output,), {"shape": shape})
        return GraphSpec((*self.nodes, node), len(self.nodes))

    def to_wire(self) -> tuple[str, list[NDArray[Any]]]:
        """Return the canonical description and its tensors.

        The JSON has sorted keys and no spaces; tensors are C-contiguous float32 where that holds
        their value exactly and float64 otherwise, so equal graphs give equal bytes.
        """
        tensors: list[NDArray[Any]] = []
        nodes = []
        for node in self.nodes:
            indices = {}
            for key in sorted(node.tensors):
                indices[key] = len(tensors)
                tensors.append(_canonical(node.tensors[key]))
            nodes.append(
                {
                    "name": node.name,
                    "op": node.op,
                    "inputs": list(node.inputs),
                    "tensors": indices,
                    "attrs": {key: _plain(value) for key, value in node.attrs.items()},
                }
            )
        spec = json.dumps(
            {"nodes": nodes, "output": self.output},
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        )
        return spec, tensors

    def to_core(self) -> Graph:
        """Build the native graph.

        Raises:
            ValueError: an operator, shape or tensor the native graph does not accept.
        """
        from aisec_eval._core import Graph

        return Graph(*self.to_wire())

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical description and tensors; also where no native graph exists."""
        spec, tensors = self.to_wire()
        state = hashlib.sha256(spec.encode())
        for tensor in tensors:
            state.update(f"{tensor.dtype.str}{tensor.shape}".encode())
            state.update(tensor.tobytes())
        return state.hexdigest()


def _canonical(array: Array) -> NDArray[Any]:
    wide = np.ascontiguousarray(array, dtype=np.float64).reshape(np.shape(array))
    if not np.isfinite(wide).all():
        raise ValueError("a constant holds NaN or infinity")
    with np.errstate(over="ignore", under="ignore"):
        narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow, wide) else wide


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
