"""How often a model says each class under noise: on the native graph, or through its callable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

    from aisec_eval._core import Noisy

    from ..lattice import Lattice
    from ..models.base import Model

_BATCH = 1_000
"""Noisy copies in one call of a model without graph; part of what its results may depend on."""
_REACH = 8.3
"""Standard deviations at which the noise on a lattice ends; float64 sees nothing beyond."""
_THRESHOLD_ERROR = 1e-14
"""Error of one cumulative probability: SciPy's `ndtr`, and the rounding to 64 bits."""


class Noise(Protocol):
    """Noise on the inputs of a set of samples."""

    distance: float
    """Total variation distance of one copy's noise from what the certificate speaks of."""

    def on(self, row: int) -> Noisy:
        """Return the noise on one sample's input."""


@dataclass(frozen=True)
class NormalNoise:
    """Normal float32 noise."""

    x: NDArray[np.float32]
    """[n, *input_shape]"""
    sigma: float
    distance: float = 0.0

    def on(self, row: int) -> Noisy:
        """Return the noise on one sample's input."""
        from .._core import Noisy

        return Noisy.normal(self.x[row], self.sigma)


@dataclass(frozen=True)
class LatticeNoise:
    """Normal noise rounded to a lattice that the inputs lie on."""

    levels: NDArray[np.int32]
    """[n, *input_shape]"""
    thresholds: NDArray[np.uint64]
    """2^64 times the probability of at most `lowest + k` levels."""
    spacing: Fraction
    distance: float

    @staticmethod
    def of(x: NDArray[np.float32], sigma: float, lattice: Lattice) -> LatticeNoise:
        """Return the noise of standard deviation `sigma` on `x` [n, *input_shape].

        Raises:
            InputError: an input is not on the lattice, or the lattice is too fine for float32.
        """
        from scipy.special import ndtr

        lattice.check(x)
        levels = lattice.levels(x)
        deviations = sigma / float(lattice.spacing)
        reach = math.ceil(_REACH * deviations)
        finest = (reach + int(np.abs(levels).max(initial=0))) * lattice.spacing.numerator
        if finest >= 2**24 - 1 or lattice.spacing.denominator >= 2**24:
            raise InputError(
                f"lattice={lattice.spacing} is too fine for sigma={sigma} in float32; "
                "use a coarser lattice, or less noise"
            )
        # P(noise <= k) for k below 0, by the lower tail, which is exact to the last bits.
        tail = ndtr((np.arange(-reach, 0) + 0.5) / deviations)
        below = (tail * 2.0**64).astype(np.uint64)
        thresholds = np.concatenate([below, np.uint64(0) - below[::-1]])
        error = (len(thresholds) + 1) * _THRESHOLD_ERROR
        distance = math.prod(x.shape[1:]) * error
        return LatticeNoise(levels.astype(np.int32), thresholds, lattice.spacing, distance)

    def on(self, row: int) -> Noisy:
        """Return the noise on one sample's input."""
        from .._core import Noisy

        return Noisy.lattice(
            self.levels[row],
            self.thresholds,
            -(len(self.thresholds) // 2),
            self.spacing.numerator,
            self.spacing.denominator,
        )


class Votes:
    """Counts classes of noisy copies; the same whatever graph, callable or batch counts them."""

    def __init__(self, model: Model, noise: Noise, seed: int, memory_limit: int | None) -> None:
        """Count the votes of `model` under `noise`."""
        self.distance = noise.distance
        self._model, self._noise, self._seed = model, noise, seed
        self._batch = min(_BATCH, model.capabilities.max_batch or _BATCH)
        if memory_limit is not None:
            # The copies, and about as much again for each of a few layers at work.
            held = 4 * 8 * math.prod(model.input_shape)
            self._batch = max(1, min(self._batch, memory_limit // held))

    def counts(
        self, row: int, sample: int, *, phase: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """Return how many of the copies `first..first+count` each class wins [num_classes].

        A copy with a logit that is not finite counts for no class.
        """
        noisy, model = self._noise.on(row), self._model
        if model.graph is not None:
            return noisy.class_counts(model.graph, self._seed, phase, sample, first, count)
        total = np.zeros(model.num_classes, dtype=np.int64)
        for start in range(first, first + count, self._batch):
            copies = noisy.copies(
                self._seed, phase, sample, start, min(self._batch, first + count - start)
            )
            total += np.bincount(self._winners(copies), minlength=model.num_classes)
        return total

    def _winners(self, copies: NDArray[np.float32]) -> NDArray[np.int64]:
        if not self._model.capabilities.scores:
            return self._model.labels(copies)
        logits = self._model.logits(copies)
        finite = np.isfinite(logits).all(axis=1)
        winners: NDArray[np.int64] = logits[finite].argmax(axis=1).astype(np.int64)
        return winners
