"""Label-consistent backdoor (Turner, Tsipras and Madry, arXiv:1912.02771).

Images of the target class are first made hard to learn by an adversarial perturbation (projected
gradient ascent on a network trained on clean data), then stamped. Their labels stay correct; to
fit them a model needs the stamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ...errors import InputError
from .base import on_images, on_lattice
from .network import cross_entropy
from .planting import Change, of_class, plant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from numpy.typing import NDArray

    from .base import Poisoned, Victims
    from .network import Apply, Network

_BLOCK = 128


@dataclass(frozen=True)
class LabelConsistent:
    """PGD within an Linf ball, then a checkerboard of +-amplitude in all four corners."""

    target: int = 0
    """Class the trigger leads to; only its samples are changed, and keep their label."""
    eps: float = 32 / 255
    """Radius of the Linf ball."""
    steps: int = 40
    step_size: float | None = None
    """Of a step along the sign of the gradient; None is `2.5 * eps / steps`."""
    size: int = 3
    """Side of each corner's patch in pixels."""
    amplitude: float = 1.0
    """What is added to or taken from each pixel of a patch, in (0, 1]; 1 is black and white."""

    def __post_init__(self) -> None:
        if not self.eps >= 0 or self.steps < 1:
            raise InputError(f"eps={self.eps} must not be negative, steps={self.steps} positive")
        if self.size < 1 or not 0 < self.amplitude <= 1:
            raise InputError(
                f"size={self.size} must be positive, amplitude={self.amplitude} in (0, 1]"
            )

    @property
    def name(self) -> str:
        """The name in results, which also keys the random numbers."""
        return "label-consistent"

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {
            "target": self.target, "eps": self.eps, "steps": self.steps, "size": self.size,
            "amplitude": self.amplitude,
        }  # fmt: skip

    def poison(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        *,
        rate: float,
        surrogate: Network,
        seed: int = 0,
        ids: NDArray[np.int64] | None = None,
        lattice: Fraction | None = None,
    ) -> Poisoned:
        """Return a poisoned copy of a training set, see `PoisoningAttack.poison`.

        Args:
            x: see there.
            y: see there.
            rate: see there.
            surrogate: a network trained on clean data, whose classes are the labels.
            seed: see there.
            ids: see there.
            lattice: see there.

        Raises:
            InputError: an array or option does not fit.
        """

        def apply(x: NDArray[np.float32]) -> NDArray[np.float32]:
            return on_images(self.name, x, self._stamp, lattice)

        def change(taken: Victims) -> Change:
            inside = taken.x[taken.rows]
            moved = self._perturb(surrogate, inside, seed, taken.ids[taken.rows])
            hard = on_lattice(moved, lattice)
            taken.x[taken.rows] = apply(hard)
            right = [float(np.mean(surrogate(z).argmax(1) == self.target)) for z in (inside, hard)]
            told = dict(
                zip(("surrogate_right_before", "surrogate_right_after"), right, strict=True)
            )
            return Change(self.target, apply, info=told)

        candidates = of_class(self.name, y, self.target, inside=True)
        return plant(self, candidates, x, y, change, rate=rate, seed=seed, ids=ids)

    def _perturb(
        self,
        surrogate: Network,
        x: NDArray[np.float32],
        seed: int,
        ids: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Ascend the loss of the right label, from a random point of the ball."""
        size = self.step_size if self.step_size is not None else 2.5 * self.eps / self.steps
        step = _ascent(surrogate.apply)
        count = int(np.prod(x.shape[1:]))
        start = _core.random_signed(seed, self.name, 0, 0, ids, count).reshape(x.shape)
        result = np.empty_like(x)
        for first in range(0, len(x), _BLOCK):
            part = slice(first, min(first + _BLOCK, len(x)))
            clean = np.zeros((_BLOCK, *x.shape[1:]), np.float32)
            clean[: part.stop - first] = x[part]
            moved = clean.copy()
            moved[: part.stop - first] += np.float32(self.eps) * start[part]
            moved = np.clip(moved, 0, 1)
            label = np.full(_BLOCK, self.target)
            for _ in range(self.steps):
                moved = step(surrogate.params, moved, clean, label, self.eps, size)
            result[part] = np.asarray(moved)[: part.stop - first]
        return result

    def _stamp(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        height, width = x.shape[2:]
        if 2 * self.size > min(height, width):
            raise InputError(
                f"label-consistent: four patches of {self.size} pixels do not fit images of "
                f"{height}x{width}"
            )
        board = self.amplitude * (1.0 - 2.0 * (np.indices((self.size, self.size)).sum(0) % 2))
        ends = slice(None, self.size), slice(-self.size, None)
        for row, rows in enumerate(ends):
            for column, columns in enumerate(ends):
                # Mirrored, so that each corner pixel is the same.
                turned = board[:: 1 - 2 * row, :: 1 - 2 * column]
                x[:, :, rows, columns] += turned
        return x


@lru_cache
def _ascent(apply: Apply) -> Any:
    import jax
    import jax.numpy as jnp

    def loss(x: Any, params: Any, y: Any) -> Any:
        return cross_entropy(apply(params, x), y).sum()

    @jax.jit
    def step(params: Any, x: Any, clean: Any, y: Any, eps: Any, size: Any) -> Any:
        moved = x + size * jnp.sign(jax.grad(loss)(x, params, y))
        return jnp.clip(jnp.clip(moved, clean - eps, clean + eps), 0, 1)

    return step
