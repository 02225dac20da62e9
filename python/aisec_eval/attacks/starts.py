"""Starts for minimum-norm attacks: the nearest samples of other classes.

From the clean input a gradient sees one side of the boundary only; masked gradients hide it
altogether. A sample of another class is adversarial already, and the search comes back from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MOST = 2000
"""Samples of a pool that are compared: the first ones."""


@dataclass(frozen=True)
class Pool:
    """Correctly classified samples that others may start from."""

    x: NDArray[np.float32]
    """Inputs [m, *input_shape]."""
    y: NDArray[np.int64]
    """Their labels [m], which are also the model's verdicts."""
    _known: dict[bytes, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)
    """Rows found before, by what was asked: every restart asks again."""

    @staticmethod
    def of(x: NDArray[np.float32], y: NDArray[np.int64], correct: NDArray[np.bool_]) -> Pool:
        """Return the pool of the first `MOST` correctly classified samples."""
        rows = np.flatnonzero(correct)[:MOST]
        return Pool(x[rows], y[rows])

    @staticmethod
    def classified(
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        logits: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> Pool:
        """Return the pool of the first `MOST` samples that a model classifies correctly."""
        correct = np.zeros(len(y), np.bool_)
        for start in range(0, len(y), MOST):
            part = slice(start, start + MOST)
            found = logits(x[part])
            correct[part] = np.isfinite(found).all(axis=1) & (found.argmax(axis=1) == y[part])
            if correct.sum() >= MOST:
                break
        return Pool.of(x, y, correct)

    def nearest(
        self, x: NDArray[np.float32], y: NDArray[np.int64], norm: str, count: int
    ) -> NDArray[np.int64]:
        """Find the nearest samples of other classes.

        Each row depends on its own sample and the pool alone. Of equally near ones the first
        comes first.

        Args:
            x: inputs [n, *input_shape].
            y: labels [n].
            norm: "linf", "l2", "l1" or "l0".
            count: how many, at least 1.

        Returns:
            Rows of the pool [n, count], nearest first; -1 where there are fewer.
        """
        result = np.full((len(y), count), -1, np.int64)
        flat = self.x.reshape(len(self.x), math.prod(x.shape[1:]))
        for i, label in enumerate(y):
            key = blake2b(f"{norm} {count} {label} ".encode() + x[i].tobytes()).digest()
            if key not in self._known:
                other = np.flatnonzero(self.y != label)
                away = _distance(flat[other], x[i].reshape(1, -1), norm)
                self._known[key] = other[np.argsort(away, kind="stable")[:count]]
            order = self._known[key]
            result[i, : len(order)] = order
        return result


def _distance(pool: NDArray[np.float32], x: NDArray[np.float32], norm: str) -> NDArray[Any]:
    """Return what orders the pool by distance [m]; for L2 its square."""
    delta = np.abs(pool - x)
    match norm:
        case "linf":
            return np.asarray(delta.max(axis=1, initial=0))
        case "l0":
            return np.asarray(np.count_nonzero(delta, axis=1))
        case "l1":
            return np.asarray(delta.sum(axis=1, dtype=np.float64))
        case _:
            return np.asarray(np.square(delta, out=delta).sum(axis=1, dtype=np.float64))
