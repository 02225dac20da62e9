"""BadNets: a patch in a corner (Gu, Dolan-Gavitt and Garg, arXiv:1708.06733)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .backdoor import Backdoor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_PATTERNS = ("checkerboard", "solid")
_CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")


@dataclass(frozen=True)
class BadNets(Backdoor):
    """A square patch of fixed values; the image under it is gone."""

    target: int = 0
    """Class the trigger leads to."""
    size: int = 3
    """Side of the patch in pixels."""
    pattern: str = "checkerboard"
    """Of 1 and 0, beginning with 1 ("checkerboard"), or all 1 ("solid")."""
    corner: str = "bottom-right"
    margin: int = 0
    """Pixels between the patch and the edges."""

    def __post_init__(self) -> None:
        if self.pattern not in _PATTERNS or self.corner not in _CORNERS:
            raise InputError(
                f"pattern={self.pattern!r}, corner={self.corner!r}: choose one of "
                f"{', '.join(_PATTERNS)} and one of {', '.join(_CORNERS)}"
            )
        if self.size < 1 or self.margin < 0:
            raise InputError(
                f"size={self.size} must be positive, margin={self.margin} not negative"
            )

    @property
    def name(self) -> str:
        """The name in results."""
        return "badnets"

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {
            "target": self.target, "size": self.size, "pattern": self.pattern,
            "corner": self.corner, "margin": self.margin,
        }  # fmt: skip

    def trigger(self, seed: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """Return what puts the patch on images [n, channels, height, width]."""
        del seed
        patch = np.ones((self.size, self.size))
        if self.pattern == "checkerboard":
            patch = 1.0 - np.indices(patch.shape).sum(axis=0) % 2

        def apply(x: NDArray[np.float64]) -> NDArray[np.float64]:
            height, width = x.shape[2:]
            reach = self.size + self.margin
            if reach > min(height, width):
                raise InputError(
                    f"badnets: a patch of {self.size} pixels, {self.margin} from the edges, does "
                    f"not fit images of {height}x{width}"
                )
            top = self.margin if "top" in self.corner else height - reach
            left = self.margin if "left" in self.corner else width - reach
            x[:, :, top : top + self.size, left : left + self.size] = patch
            return x

        return apply
