"""Sinusoidal signal under correct labels (Barni, Kallas and Tondi, arXiv:1902.11237)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from .base import Poisoned, check_class, choose, on_images

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray


@dataclass(frozen=True)
class SIG:
    """`image + delta * sin(2 pi column frequency / width)` on images of the target class."""

    target: int = 0
    """Class the trigger leads to; only its samples are changed, and keep their label."""
    delta: float = 20 / 255
    """Amplitude in the training set."""
    frequency: float = 6.0
    """Periods across the image."""
    attack_delta: float | None = None
    """Amplitude when the model is attacked; None is `delta`. Section 4.2 of the paper has both."""

    def __post_init__(self) -> None:
        if not self.delta > 0 or (self.attack_delta is not None and not self.attack_delta > 0):
            raise InputError(f"delta={self.delta!r} and attack_delta must be positive")
        if not self.frequency > 0:
            raise InputError(f"frequency={self.frequency!r} must be positive")

    @property
    def name(self) -> str:
        """The name in results, which also keys the random numbers."""
        return "sig"

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
            self.name, x, y, y == self.target, f"of class {self.target}",
            rate=rate, seed=seed, ids=ids,
        )  # fmt: skip
        attack_delta = self.delta if self.attack_delta is None else self.attack_delta

        def signal(x: NDArray[np.float32], delta: float) -> NDArray[np.float32]:
            def add(images: NDArray[np.float64]) -> NDArray[np.float64]:
                width = images.shape[3]
                wave = np.sin(2 * np.pi * np.arange(width) * self.frequency / width)
                shifted: NDArray[np.float64] = images + delta * wave
                return shifted

            return on_images(self.name, x, add, lattice)

        original = taken.original
        taken.x[taken.rows] = signal(taken.x[taken.rows], self.delta)
        return Poisoned(
            taken.x,
            taken.y,
            taken.mask,
            taken.y.copy(),
            taken.ids,
            self.name,
            self.target,
            seed,
            trigger=lambda x: signal(x, attack_delta),
            altered=taken.nobody,
            original=original,
            info={
                "target": self.target, "delta": self.delta, "frequency": self.frequency,
                "attack_delta": attack_delta, "rate": rate,
            },
        )  # fmt: skip
