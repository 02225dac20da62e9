"""Dirty-label backdoors: samples of other classes get the trigger and the target's label."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from .base import on_images
from .planting import Change, Planting, of_class

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray

    from .base import Victims


class Backdoor(Planting):
    """An all-to-one backdoor; a subclass is a frozen dataclass that says what its trigger does."""

    target: int

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {"target": self.target}

    @abstractmethod
    def trigger(self, seed: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """Return what puts the trigger on images [n, channels, height, width]."""

    def candidates(self, y: NDArray[np.int64]) -> tuple[NDArray[np.bool_], str]:
        """Return the samples of other classes."""
        return of_class(self.name, y, self.target, inside=False)

    def change(self, taken: Victims, seed: int, lattice: Fraction | None) -> Change:
        """Put the trigger on the samples taken, and give them the target's label."""
        put = self.trigger(seed)

        def apply(x: NDArray[np.float32]) -> NDArray[np.float32]:
            return on_images(self.name, x, put, lattice)

        taken.x[taken.rows] = apply(taken.x[taken.rows])
        taken.y[taken.rows] = self.target
        return Change(self.target, apply)
