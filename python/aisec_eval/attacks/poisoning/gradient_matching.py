"""Gradient matching, "Witches' Brew" (Geiping et al., arXiv:2009.02276).

A targeted attack without trigger and with correct labels: training samples of the intended class
are perturbed so that the gradient they give a network points where the gradient of the wanted
error points, `1 - cos(grad of targets as intended, grad of poison as labelled)`. Whoever trains on
them takes the step that misclassifies the targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ...errors import InputError
from .base import on_lattice
from .network import cross_entropy
from .planting import Change, of_class, plant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from numpy.typing import NDArray

    from .base import Poisoned, Victims
    from .network import Apply, Network

_MOMENTS = (0.9, 0.999)
_DECAYS = (3 / 8, 5 / 8, 7 / 8)


@dataclass(frozen=True)
class GradientMatching:
    """Signed Adam on the perturbations, the best of several restarts."""

    target: int = 0
    """The class as which the goals shall be classified; its samples are perturbed."""
    eps: float = 16 / 255
    """Radius of the Linf ball around each sample."""
    steps: int = 250
    restarts: int = 8
    step_size: float = 0.1
    """First step of Adam, in units of `eps`; a tenth of it after 3/8, 5/8 and 7/8 of the steps."""

    def __post_init__(self) -> None:
        if not self.eps > 0 or not self.step_size > 0:
            raise InputError(f"eps={self.eps} and step_size={self.step_size} must be positive")
        if self.steps < 1 or self.restarts < 1:
            raise InputError(f"steps={self.steps} and restarts={self.restarts} must be positive")

    @property
    def name(self) -> str:
        """The name in results, which also keys the random numbers."""
        return "gradient-matching"

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {
            "target": self.target, "eps": self.eps, "steps": self.steps,
            "restarts": self.restarts,
        }  # fmt: skip

    def poison(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        *,
        rate: float,
        surrogate: Network,
        goals: NDArray[np.float32],
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
            goals: inputs to be misclassified as `target` [m, *input], none of them in `x`.
            seed: see there.
            ids: see there.
            lattice: see there; perturbations are rounded towards 0.

        Returns:
            The poison; `info["loss"]` has the matching loss of the restart taken at its start, at
            its end and once rounded to the lattice.

        Raises:
            InputError: an array or option does not fit.
        """
        goals = np.asarray(goals, dtype=np.float32)
        inputs = np.shape(x)[1:]
        if goals.ndim < 2 or goals.shape[1:] != inputs or len(goals) == 0:
            raise InputError(
                f"{self.name}: goals have shape {list(goals.shape)}; give [m, *input] inputs like "
                f"{list(inputs)}"
            )

        def change(taken: Victims) -> Change:
            clean = taken.x[taken.rows]
            search = _Search.of(surrogate, clean, goals, self.target)
            numbers = taken.ids[taken.rows]
            runs = (
                search.run(self, self._start(seed, restart, numbers, clean))
                for restart in range(self.restarts)
            )
            first, last, moved = min(runs, key=lambda run: run[1])
            if lattice is not None:
                moved = clean + _towards_zero(moved - clean, float(lattice))
            taken.x[taken.rows] = on_lattice(moved, lattice)
            loss = [first, last, search.loss(taken.x[taken.rows])]
            wanted = np.full(len(goals), self.target)
            return Change(goal_x=goals, goal_y=wanted, info={"loss": loss})

        candidates = of_class(self.name, y, self.target, inside=True)
        return plant(self, candidates, x, y, change, rate=rate, seed=seed, ids=ids)

    def _start(
        self, seed: int, restart: int, ids: NDArray[np.int64], clean: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        count = int(np.prod(clean.shape[1:]))
        signed = _core.random_signed(seed, self.name, restart, 0, ids, count)
        start: NDArray[np.float32] = np.float32(self.eps) * signed.reshape(clean.shape)
        return start


@dataclass(frozen=True, eq=False)
class _Search:
    """The matching problem of one surrogate; perturbed samples in ascending order of ids."""

    step: Any
    params: Any
    wanted: Any
    """Gradient of the wanted error by the weights, of length 1."""
    clean: NDArray[np.float32]
    label: NDArray[np.int64]

    @staticmethod
    def of(
        surrogate: Network, clean: NDArray[np.float32], goals: NDArray[np.float32], target: int
    ) -> _Search:
        wanted_of, step = _matching(surrogate.apply)
        wanted = wanted_of(surrogate.params, goals, np.full(len(goals), target))
        if not np.isfinite(float(_norm(wanted))) or float(_norm(wanted)) == 0:
            raise InputError(
                "gradient-matching: the goals have no gradient on the surrogate; choose goals "
                "that it does not already classify as the target with certainty"
            )
        return _Search(step, surrogate.params, wanted, clean, np.full(len(clean), target))

    def loss(self, x: NDArray[np.float32]) -> float:
        """1 - cosine of the gradients."""
        delta = np.asarray(x - self.clean)
        moments = (np.zeros_like(delta), np.zeros_like(delta), np.float32(0))
        return float(self._advance(delta, moments, 0.0, 1.0)[2])

    def run(
        self, attack: GradientMatching, delta: NDArray[np.float32]
    ) -> tuple[float, float, NDArray[np.float32]]:
        """Minimise from `delta`; return the first loss, the least one and the samples there."""
        moments = (np.zeros_like(delta), np.zeros_like(delta), np.float32(0))
        delta = np.clip(self.clean + delta, 0, 1) - self.clean
        first, best, found = np.inf, np.inf, delta
        for number in range(attack.steps + 1):
            decay = 0.1 ** sum(number >= share * attack.steps for share in _DECAYS)
            size = attack.step_size * attack.eps * decay
            before = delta
            delta, moments, loss = self._advance(delta, moments, size, attack.eps)
            if number == 0:
                first = float(loss)
            if float(loss) < best:
                best, found = float(loss), before
        return first, best, np.clip(self.clean + np.asarray(found), 0, 1)

    def _advance(self, delta: Any, moments: Any, size: float, eps: float) -> tuple[Any, Any, Any]:
        moved: tuple[Any, Any, Any] = self.step(
            self.params, self.wanted, self.clean, self.label, delta, moments, size, eps
        )
        return moved


def _norm(tree: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


@lru_cache
def _matching(apply: Apply) -> tuple[Any, Any]:
    import jax
    import jax.numpy as jnp

    def gradient(params: Any, x: Any, y: Any) -> Any:
        return jax.grad(lambda p: cross_entropy(apply(p, x), y).mean())(params)

    def loss(delta: Any, params: Any, wanted: Any, clean: Any, y: Any) -> Any:
        given = gradient(params, clean + delta, y)
        dots = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), given, wanted))
        return 1 - sum(dots) / jnp.maximum(_norm(given) * _norm(wanted), 1e-30)

    @jax.jit
    def step(
        params: Any, wanted: Any, clean: Any, y: Any, delta: Any, moments: Any, size: Any, eps: Any
    ) -> tuple[Any, Any, Any]:
        value, slope = jax.value_and_grad(loss)(delta, params, wanted, clean, y)
        # Adam on the signs of the gradient.
        one, two, count = moments
        count = count + 1
        sign = jnp.sign(slope)
        one = _MOMENTS[0] * one + (1 - _MOMENTS[0]) * sign
        two = _MOMENTS[1] * two + (1 - _MOMENTS[1]) * sign**2
        mean, square = one / (1 - _MOMENTS[0] ** count), two / (1 - _MOMENTS[1] ** count)
        delta = delta - size * mean / (jnp.sqrt(square) + 1e-8)
        delta = jnp.clip(delta, -eps, eps)
        return jnp.clip(clean + delta, 0, 1) - clean, (one, two, count), value

    return jax.jit(gradient), step


def _towards_zero(delta: NDArray[np.float32], spacing: float) -> NDArray[np.float32]:
    """Whole multiples of the spacing, no farther from 0."""
    scaled = delta.astype(np.float64) / spacing
    whole = np.trunc(scaled + 1e-4 * np.sign(scaled))
    return np.asarray(whole * spacing, dtype=np.float32)
