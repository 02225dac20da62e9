"""What poisoning attacks share: which samples they take, the result, images on their lattice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ... import _core
from ...errors import InputError
from ...lattice import Lattice
from ..images import as_given, channels_first, image_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    from numpy.typing import NDArray


class PoisoningAttack(Protocol):
    """A frozen dataclass of an attack's parameters."""

    @property
    def name(self) -> str:
        """The name in results, which also keys the random numbers."""

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
        """Return a poisoned copy of a training set.

        Args:
            x: inputs in [0, 1] [n, *input]; images [n, height, width], [n, channels, height,
                width] or [n, height, width, channels] where the attack has a trigger.
            y: labels [n].
            rate: poisoned fraction of the whole set, in (0, 1).
            seed: with the ids, decides everything drawn at random.
            ids: one number a sample [n], all different; their positions if None. The same ids
                give the same poison in any order of the rows.
            lattice: spacing of the values, `Fraction(1, 255)` for 8-bit images: what is changed is
                rounded to it. None leaves float32 values as they come.

        Raises:
            InputError: an array or option does not fit.
        """


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A poisoned training set, with the truth about it."""

    x: NDArray[np.float32]
    """[n, *input], in the order given."""
    y: NDArray[np.int64]
    """Labels after the attack [n]."""
    poison: NDArray[np.bool_]
    """The truth: which samples are poisoned [n]."""
    true_labels: NDArray[np.int64]
    """Labels before the attack [n]."""
    ids: NDArray[np.int64]
    attack: str
    target: int | None
    """The class a backdoor leads to; None where there is none."""
    seed: int
    trigger: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    """Puts the trigger, as used when the model is attacked, on inputs; None where there is none."""
    goal_x: NDArray[np.float32] | None = None
    """Single inputs that the attack wants misclassified [m, *input]."""
    goal_y: NDArray[np.int64] | None = None
    """As what [m]."""
    altered: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    """Other samples changed to hide the trigger; they keep their labels [n]."""
    original: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    """Inputs of the rows in `poison` or `altered`, ascending, before the attack."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """The attack's parameters, and how its optimisation went."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """Rows of the poisoned samples, ascending."""
        return np.flatnonzero(self.poison)

    @property
    def clean_x(self) -> NDArray[np.float32]:
        """The inputs before the attack [n, *input]."""
        x = self.x.copy()
        x[self.poison | self.altered] = self.original
        return x

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return inputs with the trigger on them, each by itself.

        Raises:
            InputError: the attack has no trigger, or the inputs have another shape.
        """
        if self.trigger is None:
            raise InputError(f"{self.attack} has no trigger to apply")
        if x.shape[1:] != self.x.shape[1:]:
            raise InputError(
                f"{self.attack}: inputs are {list(x.shape[1:])}, the poisoned ones "
                f"{list(self.x.shape[1:])}"
            )
        return self.trigger(np.asarray(x, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Victims:
    """Checked inputs of an attack, and the samples it takes."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    """Samples to poison, in ascending order of their ids."""
    spare: NDArray[np.int64]
    """The other candidates, in the order in which they would be taken."""

    @property
    def original(self) -> NDArray[np.float32]:
        """A copy of the inputs to poison, by ascending row."""
        kept: NDArray[np.float32] = self.x[np.sort(self.rows)]
        return kept

    @property
    def nobody(self) -> NDArray[np.bool_]:
        """An empty mask [n]."""
        return np.zeros(len(self.y), dtype=np.bool_)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The samples to poison [n]."""
        mask = self.nobody
        mask[self.rows] = True
        return mask


def choose(
    attack: str,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    candidates: NDArray[np.bool_],
    whose: str,
    *,
    rate: float,
    seed: int,
    ids: NDArray[np.int64] | None,
) -> Victims:
    """Check the inputs and choose `round(rate * n)` candidates by the random numbers of their ids.

    Args:
        attack: keys the random numbers, and begins every message.
        x: inputs [n, *input].
        y: labels [n].
        candidates: which samples can be taken [n].
        whose: what the candidates are, for the message.
        rate: poisoned fraction of the whole set.
        seed: keys the random numbers.
        ids: see `PoisoningAttack.poison`.

    Raises:
        InputError: something does not fit.
    """
    x = np.asarray(x)
    if x.ndim < 2 or len(x) != len(y) or len(y) == 0:
        raise InputError(
            f"{attack}: x has shape {list(x.shape)} for {len(y)} labels; give [n, ...] inputs and "
            "a label for each"
        )
    if not np.issubdtype(x.dtype, np.floating) or not (x.min() >= 0 and x.max() <= 1):
        raise InputError(f"{attack}: inputs must be floating-point numbers in [0, 1]; rescale x")
    if not 0 < rate < 1:
        raise InputError(f"{attack}: rate={rate!r} must be between 0 and 1, both excluded")
    ids = np.arange(len(y)) if ids is None else np.asarray(ids, dtype=np.int64)
    if ids.shape != (len(y),) or len(np.unique(ids)) < len(y):
        raise InputError(f"{attack}: ids must be {len(y)} different numbers, one a sample")
    count, there = round(rate * len(y)), int(candidates.sum())
    if not 1 <= count <= there:
        raise InputError(
            f"{attack}: rate={rate} asks for {count} of {len(y)} samples; between 1 and {there} "
            f"({whose}) can be had"
        )
    draw = _core.random_signed(seed, f"{attack} samples", 0, 0, ids, 2)
    order = np.lexsort((ids, draw[:, 1], draw[:, 0]))
    order = order[candidates[order]]
    rows = order[:count]
    return Victims(
        np.array(x, dtype=np.float32),
        np.array(y, dtype=np.int64),
        ids,
        rows[np.argsort(ids[rows])],
        order[count:],
    )


def check_class(attack: str, y: NDArray[np.int64], target: int) -> None:
    """Refuse a target class that no sample has.

    Raises:
        InputError: it is absent.
    """
    classes = np.unique(y)
    if target not in classes:
        raise InputError(f"{attack}: target={target} is none of the classes {classes.tolist()}")


def on_images(
    attack: str,
    x: NDArray[np.float32],
    change: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    lattice: Fraction | None,
) -> NDArray[np.float32]:
    """Change images of any layout, as [n, channels, height, width] in float64.

    Raises:
        InputError: the inputs are no images.
    """
    if image_shape(x.shape[1:]) is None:
        raise InputError(
            f"{attack}: inputs of shape {list(x.shape[1:])} are no images; a trigger needs "
            "[height, width], [channels, height, width] or [height, width, channels]"
        )
    changed = change(channels_first(x).astype(np.float64))
    return as_given(on_lattice(changed, lattice), x.shape[1:])


def on_lattice(x: NDArray[Any], lattice: Fraction | None) -> NDArray[np.float32]:
    """Clip to [0, 1] and round to the lattice, where there is one."""
    clipped = np.asarray(np.clip(x, 0, 1), dtype=np.float32)
    if lattice is None:
        return clipped
    grid = Lattice.of(lattice)
    level = grid.levels(clipped)
    # A spacing that does not divide 1 has its last level below it.
    return grid.values(np.minimum(level, int(1 / grid.spacing)))
