"""How an attack plants: it takes samples, changes them in place, and the truth is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .base import Poisoned, check_class, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray

    from .base import Victims


@dataclass(frozen=True, eq=False)
class Change:
    """What an attack did to the samples that it took, beside changing them."""

    target: int | None = None
    trigger: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    goal_x: NDArray[np.float32] | None = None
    goal_y: NDArray[np.int64] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    """How it went, for the record."""


class Planting(ABC):
    """An attack that needs nothing but the data: a frozen dataclass of its parameters."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in results, which also keys the random numbers."""

    @property
    @abstractmethod
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""

    @abstractmethod
    def candidates(self, y: NDArray[np.int64]) -> tuple[NDArray[np.bool_], str]:
        """Return which samples can be taken [n], and what they are, for messages.

        Raises:
            InputError: there are none.
        """

    @abstractmethod
    def change(self, taken: Victims, seed: int, lattice: Fraction | None) -> Change:
        """Change the samples taken, in place."""

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
        return plant(
            self, self.candidates(y), x, y, lambda taken: self.change(taken, seed, lattice),
            rate=rate, seed=seed, ids=ids,
        )  # fmt: skip


def of_class(
    attack: str, y: NDArray[np.int64], target: int, *, inside: bool
) -> tuple[NDArray[np.bool_], str]:
    """Return the samples in a class, or those in other classes, and what they are.

    Raises:
        InputError: the class is absent.
    """
    check_class(attack, y, target)
    return (
        (y == target, f"of class {target}") if inside else (y != target, f"not of class {target}")
    )


def plant(
    attack: Any,
    candidates: tuple[NDArray[np.bool_], str],
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    change: Callable[[Victims], Change],
    *,
    rate: float,
    seed: int,
    ids: NDArray[np.int64] | None,
) -> Poisoned:
    """Take samples, have them changed, and say what is true of the result.

    Args:
        attack: has a `name` and `options`.
        candidates: which samples can be taken [n], and what they are.
        x: inputs [n, *input].
        y: labels [n].
        change: changes what was taken in place.
        rate: see `PoisoningAttack.poison`.
        seed: see there.
        ids: see there.

    Raises:
        InputError: an array or option does not fit.
    """
    taken = choose(attack.name, x, y, *candidates, rate=rate, seed=seed, ids=ids)
    given, original = taken.y.copy(), taken.original
    done = change(taken)
    return Poisoned(
        taken.x,
        taken.y,
        taken.mask,
        given,
        taken.ids,
        attack.name,
        done.target,
        seed,
        trigger=done.trigger,
        goal_x=done.goal_x,
        goal_y=done.goal_y,
        altered=taken.nobody,
        original=original,
        info={**attack.options, "rate": rate, **done.info},
    )
