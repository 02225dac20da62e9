"""Wrong labels: at random, or each class as its pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ... import _core
from ...errors import InputError
from .base import Poisoned, choose

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

_KINDS = ("random", "pairwise")


@dataclass(frozen=True)
class LabelFlip:
    """Symmetric label noise, or noise that confuses each class with one other.

    `"random"` gives any other class with the same chance; `"pairwise"` gives the next class in
    ascending order, the first one after the last (both as in arXiv:1804.06872, section 4). Inputs
    stay as they are.
    """

    kind: str = "random"

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(f"kind={self.kind!r} is unknown; choose one of {', '.join(_KINDS)}")

    @property
    def name(self) -> str:
        """The name in results, which also keys the random numbers."""
        return f"label-flip-{self.kind}"

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
            InputError: an array or option does not fit, or there is one class only.
        """
        del lattice
        classes, code = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"{self.name}: all labels are {classes.tolist()}; there is no other")
        taken = choose(
            self.name, x, y, np.ones(len(y), np.bool_), "all of them",
            rate=rate, seed=seed, ids=ids,
        )  # fmt: skip
        step = np.ones(len(taken.rows), dtype=np.int64)
        if self.kind == "random":
            draw = _core.random_signed(seed, self.name, 0, 0, taken.ids[taken.rows], 1)[:, 0]
            share = 0.5 + 0.5 * draw.astype(np.float64)
            step += np.minimum((share * (len(classes) - 1)).astype(np.int64), len(classes) - 2)
        given = taken.y.copy()
        original = taken.original
        taken.y[taken.rows] = classes[(code[taken.rows] + step) % len(classes)]
        return Poisoned(
            taken.x,
            taken.y,
            taken.mask,
            given,
            taken.ids,
            self.name,
            None,
            seed,
            altered=taken.nobody,
            original=original,
            info={"kind": self.kind, "rate": rate},
        )
