"""Planted poison, so that a detector's answer can be compared with the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def plant_patch(
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    rate: float,
    target: int,
    seed: int = 0,
    size: int = 3,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Stamp a patch on some training images and label them `target` (BadNets, arXiv:1708.06733).

    A checkerboard of the lowest and highest input values covers the bottom right corner of
    `round(rate * n)` images that belong to other classes. Which ones depends on `y`, `rate`,
    `target` and `seed` alone.

    Args:
        x: images [n, ..., height, width].
        y: labels [n].
        rate: poisoned fraction of the whole set, in (0, 1).
        target: the label that poisoned images get.
        seed: chooses the images.
        size: side of the patch in pixels.
        bounds: lowest and highest input value.

    Returns:
        Copies of `x` and `y` with the poison in, and the mask [n] of poisoned images.

    Raises:
        InputError: an option is out of range, or too few images have other labels.
    """
    if x.ndim < 3 or len(x) != len(y):
        raise InputError(
            f"x has shape {list(x.shape)} for {len(y)} labels; "
            "a patch needs images [n, ..., height, width]"
        )
    if not 1 <= size <= min(x.shape[-2:]):
        raise InputError(f"size={size} does not fit images of {x.shape[-2]}x{x.shape[-1]} pixels")
    if not 0 < rate < 1:
        raise InputError(f"rate={rate} must be between 0 and 1, both excluded")
    others = np.flatnonzero(y != target)
    count = round(rate * len(y))
    if not 1 <= count <= len(others):
        raise InputError(
            f"rate={rate} asks for {count} of {len(y)} images; between 1 and {len(others)} have "
            f"another label than {target}"
        )
    # Raw words of a counter-based generator: the same in every numpy version.
    words = np.random.Philox(key=seed).random_raw(len(y))
    rows = np.sort(others[np.argsort(words[others])[:count]])
    board = np.indices((size, size)).sum(axis=0) % 2 == 0
    poisoned, labels = x.copy(), y.copy()
    poisoned[rows, ..., -size:, -size:] = np.where(board, bounds[1], bounds[0])
    labels[rows] = target
    mask = np.zeros(len(y), dtype=np.bool_)
    mask[rows] = True
    return poisoned, labels, mask
