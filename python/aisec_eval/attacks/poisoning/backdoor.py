"""Dirty-label backdoors: samples of other classes get the trigger and the target's label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .base import Poisoned, check_class, choose, on_images

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray


class Backdoor(ABC):
    """An all-to-one backdoor; a subclass is a frozen dataclass that says what its trigger does."""

    target: int

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in results, which also keys the random numbers."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {"target": self.target}

    @abstractmethod
    def trigger(self, seed: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """Return what puts the trigger on images [n, channels, height, width]."""

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
            InputError: an array or option does not fit.
        """
        check_class(self.name, y, self.target)
        taken = choose(
            self.name, x, y, y != self.target, f"not of class {self.target}",
            rate=rate, seed=seed, ids=ids,
        )  # fmt: skip
        change = self.trigger(seed)

        def apply(x: NDArray[np.float32]) -> NDArray[np.float32]:
            return on_images(self.name, x, change, lattice)

        given = taken.y.copy()
        original = taken.original
        taken.x[taken.rows] = apply(taken.x[taken.rows])
        taken.y[taken.rows] = self.target
        return Poisoned(
            taken.x,
            taken.y,
            taken.mask,
            given,
            taken.ids,
            self.name,
            self.target,
            seed,
            trigger=apply,
            altered=taken.nobody,
            original=original,
            info=dict(self.options) | {"rate": rate},
        )
