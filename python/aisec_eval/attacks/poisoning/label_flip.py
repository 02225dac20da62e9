"""Wrong labels: at random, or each class as its pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ...errors import InputError
from .planting import Change, Planting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from numpy.typing import NDArray

    from .base import Victims

_KINDS = ("random", "pairwise")


@dataclass(frozen=True)
class LabelFlip(Planting):
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

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {"kind": self.kind}

    def candidates(self, y: NDArray[np.int64]) -> tuple[NDArray[np.bool_], str]:
        """Return all samples.

        Raises:
            InputError: there is one class only.
        """
        classes = np.unique(y)
        if len(classes) < 2:
            raise InputError(f"{self.name}: all labels are {classes.tolist()}; there is no other")
        return np.ones(len(y), dtype=np.bool_), "all of them"

    def change(self, taken: Victims, seed: int, lattice: Fraction | None) -> Change:
        """Give the samples taken another label."""
        del lattice
        classes, code = np.unique(taken.y, return_inverse=True)
        step = np.ones(len(taken.rows), dtype=np.int64)
        if self.kind == "random":
            draw = _core.random_signed(seed, self.name, 0, 0, taken.ids[taken.rows], 1)[:, 0]
            share = 0.5 + 0.5 * draw.astype(np.float64)
            step += np.minimum((share * (len(classes) - 1)).astype(np.int64), len(classes) - 2)
        taken.y[taken.rows] = classes[(code[taken.rows] + step) % len(classes)]
        return Change()
