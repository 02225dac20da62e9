"""Evidence in the inputs themselves: values that flagged samples share and others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..results import ScanResult

_BLOCK = 1024
_LEAST = 5
_APART, _FIXED, _MATCH = 0.25, 0.12, 0.2
"""Of the range of all values: means at least so far apart, values deviating at most so much, and
what counts as the same value."""
_MATCHING = 0.9
_SHOWN = 64


def frequent_patches(x: NDArray[Any], result: ScanResult) -> list[dict[str, Any]]:
    """Describe what the flagged samples of each suspected class have in common.

    Args:
        x: inputs [n, *input], in the order of the scan.
        result: of a scan with `info["target_classes"]`.

    Returns:
        For each class where there is one: `class`, `positions` (indices into the input), `values`,
        `size` (how many positions), and the share of flagged and of other samples that carry at
        least nine tenths of it. Nothing where the samples share no fixed values, as those of a
        warp or a blend of little weight.
    """
    found = []
    for target in result.info.get("target_classes", ()):
        taken = result.flagged & (result.label == target)
        patch = _patch(x, taken, ~result.flagged)
        if patch is not None:
            found.append({"class": int(target), **patch})
    return found


def _patch(
    x: NDArray[Any], taken: NDArray[np.bool_], others: NDArray[np.bool_]
) -> dict[str, Any] | None:
    if min(taken.sum(), others.sum()) < _LEAST:
        return None
    inside, outside = _moments(x, taken), _moments(x, others)
    span = max(inside[3], outside[3]) - min(inside[2], outside[2])
    if not span > 0:
        return None
    fixed = np.flatnonzero(
        (np.abs(inside[0] - outside[0]) >= _APART * span) & (inside[1] <= _FIXED * span)
    )
    if len(fixed) == 0:
        return None
    values = inside[0][fixed]
    carries = np.zeros(len(x), dtype=np.bool_)
    for first in range(0, len(x), _BLOCK):
        part = np.asarray(x[first : first + _BLOCK], dtype=np.float64)
        near = np.abs(part.reshape(len(part), -1)[:, fixed] - values) <= _MATCH * span
        carries[first : first + _BLOCK] = near.mean(1) >= _MATCHING
    # The values furthest from those of others come first.
    order = np.argsort(-np.abs(values - outside[0][fixed]), kind="stable")[:_SHOWN]
    positions = np.stack(np.unravel_index(fixed[order], x.shape[1:]), axis=1)
    return {
        "size": len(fixed),
        "positions": positions.tolist(),
        "values": values[order].tolist(),
        "share_flagged": float(carries[taken].mean()),
        "share_others": float(carries[others].mean()),
    }


def _moments(
    x: NDArray[Any], rows: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Mean and deviation of every position, least and largest value."""
    count, width = 0, int(np.prod(x.shape[1:]))
    total, square = np.zeros(width), np.zeros(width)
    low, high = np.inf, -np.inf
    chosen = np.flatnonzero(rows)
    for first in range(0, len(chosen), _BLOCK):
        part = np.asarray(x[chosen[first : first + _BLOCK]], dtype=np.float64)
        part = part.reshape(len(part), -1)
        count += len(part)
        total += part.sum(0)
        square += (part**2).sum(0)
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 0)), low, high
