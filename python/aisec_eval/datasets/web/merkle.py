"""Merkle trees as in RFC 6962: leaves and inner nodes hashed apart, SHA-256."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def merkle_root(leaves: Iterable[bytes]) -> str:
    """Root of the tree over `leaves`, in hexadecimal; one pass, memory for its height."""
    stack: list[tuple[int, bytes]] = []
    for data in leaves:
        level, node = 0, _leaf(data)
        while stack and stack[-1][0] == level:
            level, node = level + 1, _node(stack.pop()[1], node)
        stack.append((level, node))
    if not stack:
        return hashlib.sha256(b"").hexdigest()
    _, node = stack.pop()
    while stack:
        node = _node(stack.pop()[1], node)
    return node.hex()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[str]:
    """Hashes that lead from leaf `index` to the root, the leaf's neighbour first."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    level = [_leaf(data) for data in leaves]
    proof = []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            proof.append(level[beside].hex())
        # A last node without a neighbour goes up as it is.
        level = [
            _node(*level[i : i + 2]) if i + 1 < len(level) else level[i]
            for i in range(0, len(level), 2)
        ]
        index //= 2
    return proof


def check_inclusion(data: bytes, index: int, count: int, proof: Sequence[str], root: str) -> bool:
    """Whether `data` is leaf `index` of the `count` under `root` (RFC 6962, 2.1.1)."""
    if not 0 <= index < count:
        return False
    try:
        hashes = [bytes.fromhex(node) for node in proof]
    except ValueError:
        return False
    node, last = _leaf(data), count - 1
    for beside in hashes:
        # Levels at which this node is the last one and has no neighbour are passed over.
        while last and not index & 1 and index == last:
            index, last = index >> 1, last >> 1
        if not last:
            return False
        node = _node(beside, node) if index & 1 else _node(node, beside)
        index, last = index >> 1, last >> 1
    while last and not index & 1 and index == last:
        index, last = index >> 1, last >> 1
    return last == 0 and node.hex() == root
