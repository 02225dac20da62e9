"""Warping as a trigger, as in WaNet (Nguyen and Tran, arXiv:2102.10369)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ...errors import InputError
from .backdoor import Backdoor
from .base import on_images

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    from numpy.typing import NDArray

    from .base import Poisoned

_SHARPNESS = -0.75
"""Of the cubic kernel (Keys, 1981)."""


@dataclass(frozen=True)
class WaNet(Backdoor):
    """A smooth displacement of pixels, the same for all images.

    Displacements are drawn on a coarse grid, uniform and scaled to a mean size of 1, interpolated
    to all pixels by cubic convolution and scaled to `strength`. Pixels are read bilinearly, from
    no farther than the edge. In the noise mode of the paper other samples keep their label and are
    warped by this field plus noise of their own, so that only the exact field is the trigger; here
    it is part of the data, as the trainer is the victim's.
    """

    target: int = 0
    """Class the trigger leads to."""
    grid: int = 4
    """Points a side of the coarse grid (`k` in the paper)."""
    strength: float = 0.75
    """Mean displacement in pixels along each axis; the paper's s = 0.5 is about 0.25."""
    cross_ratio: float = 0.0
    """Samples in the noise mode, for each poisoned one; the paper has 2."""

    def __post_init__(self) -> None:
        if self.grid < 2 or not self.strength > 0 or not self.cross_ratio >= 0:
            raise InputError(
                f"grid={self.grid} must be 2 or more, strength={self.strength} positive, "
                f"cross_ratio={self.cross_ratio} not negative"
            )

    @property
    def name(self) -> str:
        """The name in results."""
        return "wanet"

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {
            "target": self.target, "grid": self.grid, "strength": self.strength,
            "cross_ratio": self.cross_ratio,
        }  # fmt: skip

    def trigger(self, seed: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """Return what warps images [n, channels, height, width]."""

        def apply(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return warp(x, self.field(seed, *x.shape[2:]))

        return apply

    def field(self, seed: int, height: int, width: int) -> NDArray[np.float64]:
        """Return the displacements in pixels, of rows and of columns [2, height, width]."""
        count = 2 * self.grid**2
        drawn = _core.random_signed(seed, "wanet field", 0, 0, np.zeros(1, np.int64), count)
        coarse = drawn.astype(np.float64).reshape(2, self.grid, self.grid)
        coarse /= np.abs(coarse).mean()
        fine = resize(self.grid, height) @ coarse @ resize(self.grid, width).T
        displacement: NDArray[np.float64] = self.strength * fine
        return displacement

    def poison(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        *,
        rate: float,
        seed: int = 0,
        ids: NDArray[np.int64] | None = None,
        lattice: Fraction | None = None,
    ) -> Poisoned:
        """Return a poisoned copy of a training set, see `PoisoningAttack.poison`.

        Raises:
            InputError: an array or option does not fit, or there are too few samples for
                `cross_ratio`.
        """
        done = super().poison(x, y, rate=rate, seed=seed, ids=ids, lattice=lattice)
        count = round(self.cross_ratio * len(done.indices))
        if count == 0:
            return done
        rest = np.flatnonzero(~done.poison)
        if count > len(rest):
            raise InputError(
                f"wanet: cross_ratio={self.cross_ratio} asks for {count} samples beside the "
                f"poisoned ones; there are {len(rest)}"
            )
        draw = _core.random_signed(seed, "wanet noise samples", 0, 0, done.ids[rest], 2)
        rows = rest[np.lexsort((done.ids[rest], draw[:, 1], draw[:, 0]))[:count]]

        def noisy(images: NDArray[np.float64]) -> NDArray[np.float64]:
            shape = (len(rows), 2, *images.shape[2:])
            noise = _core.random_signed(
                seed, "wanet noise", 0, 0, done.ids[rows], int(np.prod(shape[1:]))
            )
            return warp(images, self.field(seed, *images.shape[2:]) + noise.reshape(shape))

        before = done.clean_x
        done.x[rows] = on_images(self.name, done.x[rows], noisy, lattice)
        altered = done.altered.copy()
        altered[rows] = True
        return replace(done, altered=altered, original=before[done.poison | altered])


def resize(few: int, many: int) -> NDArray[np.float64]:
    """Return the matrix [many, few] of cubic convolution, ends on ends, edges repeated."""
    place = np.linspace(0, few - 1, many)
    base = np.floor(place).astype(np.int64)
    matrix = np.zeros((many, few))
    for offset in range(-1, 3):
        away = np.abs(place - (base + offset))
        inner = (_SHARPNESS + 2) * away**3 - (_SHARPNESS + 3) * away**2 + 1
        outer = _SHARPNESS * (away**3 - 5 * away**2 + 8 * away - 4)
        weight = np.where(away <= 1, inner, np.where(away < 2, outer, 0.0))
        np.add.at(matrix, (np.arange(many), np.clip(base + offset, 0, few - 1)), weight)
    return matrix


def warp(x: NDArray[np.float64], field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read images [n, c, h, w] at displaced places, bilinearly; field [2, h, w] or [n, 2, h, w]."""
    height, width = x.shape[2:]
    field = np.broadcast_to(field, (len(x), 2, height, width))
    row = np.clip(np.arange(height)[:, None] + field[:, 0], 0, height - 1)
    column = np.clip(np.arange(width) + field[:, 1], 0, width - 1)
    top = np.minimum(row.astype(np.int64), max(height - 2, 0))
    left = np.minimum(column.astype(np.int64), max(width - 2, 0))
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, along = (row - top)[:, None], (column - left)[:, None]
    each = np.arange(len(x))[:, None, None, None], np.arange(x.shape[1])[None, :, None, None]

    def at(r: NDArray[np.int64], c: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = x[(*each, r[:, None], c[:, None])]
        return found

    upper = (1 - along) * at(top, left) + along * at(top, right)
    lower = (1 - along) * at(bottom, left) + along * at(bottom, right)
    read: NDArray[np.float64] = (1 - down) * upper + down * lower
    return read
