"""Which values are whole numbers, whatever the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ir import Node

_KEEPS = frozenset(
    ("add", "sub", "mul", "relu", "square", "cube", "max_pool2d", "concat", "slice", "reshape",
     "transpose", "add_const", "mul_const", "affine", "conv2d", "pad", "constant")
)  # fmt: skip


def whole(nodes: Sequence[Node], index: int) -> bool:
    """Return whether all elements of a node are whole numbers for every input.

    Args:
        nodes: of a graph, each after those it reads.
        index: of the node.
    """
    seen, stack = {index}, [index]
    while stack:
        node = nodes[stack.pop()]
        if node.op == "sign":
            continue
        if node.op not in _KEEPS or not _constants(node):
            return False
        new = [i for i in node.inputs if i not in seen]
        seen.update(new)
        stack += new
    return True


def _constants(node: Node) -> bool:
    arrays = [np.asarray(t, dtype=np.float64) for t in node.tensors.values()]
    if node.op == "pad":
        arrays.append(np.asarray(node.attrs["value"], dtype=np.float64))
    return all((np.floor(a) == a).all() for a in arrays)
