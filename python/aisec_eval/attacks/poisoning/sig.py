"""Sinusoidal signal under correct labels (Barni, Kallas and Tondi, arXiv:1902.11237)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .base import on_images
from .planting import Change, Planting, of_class

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from numpy.typing import NDArray

    from .base import Victims


@dataclass(frozen=True)
class SIG(Planting):
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

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {
            "target": self.target, "delta": self.delta, "frequency": self.frequency,
            "attack_delta": self.delta if self.attack_delta is None else self.attack_delta,
        }  # fmt: skip

    def candidates(self, y: NDArray[np.int64]) -> tuple[NDArray[np.bool_], str]:
        """Return the target's own samples."""
        return of_class(self.name, y, self.target, inside=True)

    def change(self, taken: Victims, seed: int, lattice: Fraction | None) -> Change:
        """Add the signal to the samples taken."""
        del seed

        def signal(x: NDArray[np.float32], delta: float) -> NDArray[np.float32]:
            def add(images: NDArray[np.float64]) -> NDArray[np.float64]:
                width = images.shape[3]
                wave = np.sin(2 * np.pi * np.arange(width) * self.frequency / width)
                shifted: NDArray[np.float64] = images + delta * wave
                return shifted

            return on_images(self.name, x, add, lattice)

        taken.x[taken.rows] = signal(taken.x[taken.rows], self.delta)
        return Change(self.target, lambda x: signal(x, self.options["attack_delta"]))
