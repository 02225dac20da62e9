"""Search for counterexamples of a property."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from ..results import Counterexample
    from .property import Case, Clause
    from .replay import Replay

RANDOM_POINTS = 1024
STARTS = 32
STEPS = 60
WANDERED = 200
_STREAM = "verify"
_WANDER = 1 << 24
"""First of the random numbers of searches without gradients."""
_BATCH_ELEMENTS = 1 << 15
"""Numbers in the inputs of a batch: small networks see many points, large ones few."""


class Search:
    """Gradient and random search in one case; the same points for the same seed."""

    def __init__(self, graph: Graph, case: Case, index: int, seed: int, replay: Replay) -> None:
        self.graph = graph
        self.case = case
        self.replay = replay
        self._index = index
        self._seed = seed
        # Float32 numbers in the box; where there are none, the nearest ones guide the search.
        self._low: NDArray[np.float32] = case.inner_lower.astype(np.float32)
        self._low = np.where(
            self._low < case.inner_lower, np.nextafter(self._low, np.float32(np.inf)), self._low
        )
        self._high: NDArray[np.float32] = case.inner_upper.astype(np.float32)
        self._high = np.where(
            self._high > case.inner_upper, np.nextafter(self._high, np.float32(-np.inf)), self._high
        )
        self._high = np.maximum(self._low, self._high)
        self._half: NDArray[np.float32] = (self._high - self._low) * np.float32(0.5)

    @property
    def possible(self) -> bool:
        """Whether the box holds any point."""
        return bool((self.case.lower <= self.case.upper).all())

    def candidates(self, x: NDArray[np.floating]) -> Counterexample | None:
        """Replay those of the points [n, inputs], moved into the box, that look right."""
        points = self._exact(self._clip(np.asarray(x, dtype=np.float32)))
        outputs = self._forward(points)
        hits = np.zeros(len(points), dtype=np.bool_)
        for clause in self.case.clauses:
            hits |= (outputs @ clause.rows.T <= clause.rhs_upper).all(axis=1)
        return self.replay(self.case, points[hits])

    def scattered(self, left: Callable[[], float] = lambda: np.inf) -> Counterexample | None:
        """Try the centre, corners and random points, as many as half of `left()` seconds allow."""
        each = 0.0
        for points in self._scattered():
            room = 0.5 * left() / each if each else len(points)
            if room < 1:
                return None
            some = points[: int(min(room, len(points)))]
            started = time.monotonic()
            found = self.candidates(some)
            if found is not None:
                return found
            each = (time.monotonic() - started) / len(some)
        return None

    def descend(self, clauses: Iterable[int], late: Callable[[], bool]) -> Counterexample | None:
        """Descend towards each of the clauses, until `late()`."""
        steps = any(self.graph.node_op(i) == "sign" for i in range(self.graph.num_nodes))
        for search in (self._wander, self._descend) if steps else (self._descend,):
            for number in clauses:
                found = search(self.case.clauses[number], number, late)
                if found is not None or late():
                    return found
        return None

    def _scattered(self) -> Iterator[NDArray[np.float32]]:
        middle = self._low + self._half
        yield middle[None]
        block = max(4, min(RANDOM_POINTS, _BATCH_ELEMENTS // len(middle)))
        signs = self._signed(0, min(block, 256))
        yield np.where(signs < 0, self._low, self._high)
        yield middle + self._half * self._signed(1, block)

    def _signed(self, step: int, count: int) -> NDArray[np.float32]:
        from .._core import random_signed

        rows = np.arange(count, dtype=np.int64)
        return random_signed(self._seed, _STREAM, self._index, step, rows, len(self._low))

    def _descend(
        self, clause: Clause, number: int, late: Callable[[], bool]
    ) -> Counterexample | None:
        """Projected sign descent on the most violated row, with steps that shrink to nothing."""
        starts = max(4, min(STARTS, _BATCH_ELEMENTS // len(self._low)))
        x = self._low + self._half + self._half * self._signed(2 + number, starts)
        x[0] = self._low + self._half
        rows, rhs = _scaled(clause)
        if not len(rows):
            return None
        for step in range(STEPS):
            shaped = self._clip(x).reshape(-1, *self.graph.input_shape)
            # Which row is worst comes from the outputs, so the gradient is a second pass.
            outputs = self.graph.forward(shaped).reshape(len(x), -1)
            excess = outputs @ rows.T - rhs
            if (excess <= 0).all(axis=1).any():
                found = self.candidates(x[(excess <= 0).all(axis=1)])
                if found is not None:
                    return found
            if late():
                return None
            worst = excess.argmax(axis=1)
            _, gradient = self.graph.value_and_vjp(shaped, np.ascontiguousarray(rows[worst]))
            size = np.float32(0.5 * (1 - step / STEPS) ** 2)
            x = self._clip(x - size * self._half * np.sign(gradient.reshape(len(x), -1)))
        return self.candidates(x)

    def _wander(
        self, clause: Clause, number: int, late: Callable[[], bool]
    ) -> Counterexample | None:
        """Move ever fewer inputs to ends of their ranges, and keep what helps the worst row.

        For networks of steps, where there is no gradient to follow. Random search over corners of a
        shrinking share of the inputs, as in Square (Andriushchenko et al. 2020, arXiv:1912.00049).
        """
        starts = max(4, min(STARTS, _BATCH_ELEMENTS // len(self._low)))
        x = np.where(self._signed(2 + number, starts) < 0, self._low, self._high)
        rows, rhs = _scaled(clause)
        if not len(rows):
            return None
        best = np.full(starts, np.inf, dtype=np.float32)
        kept = x
        for step in range(WANDERED):
            outputs = self.graph.forward(x.reshape(-1, *self.graph.input_shape)).reshape(starts, -1)
            worst = (outputs @ rows.T - rhs).max(axis=1)
            if (worst <= 0).any():
                found = self.candidates(x[worst <= 0])
                if found is not None:
                    return found
            if late():
                return None
            better = worst <= best
            best = np.where(better, worst, best)
            kept = np.where(better[:, None], x, kept)
            share = np.float32(0.3 * (1 - step / WANDERED) ** 2 + 1 / len(self._low))
            at = _WANDER + 2 * (number * WANDERED + step)
            ends = np.where(self._signed(at, starts) < 0, self._low, self._high)
            moved = np.abs(self._signed(at + 1, starts)) < share
            x = np.ascontiguousarray(np.where(moved, ends, kept), dtype=np.float32)
        return None

    def _clip(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.clip(x, self._low, self._high), dtype=np.float32)

    def _exact(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the points moved to the nearest float64 points of the box.

        An input that it holds between two of them is moved to the smaller one.
        """
        return np.clip(x.astype(np.float64), self.case.inner_lower, self.case.inner_upper)

    def _forward(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        shaped = np.ascontiguousarray(x.reshape(-1, *self.graph.input_shape))
        return self.graph.forward64(shaped).reshape(len(x), -1)


def _scaled(clause: Clause) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows of alike size and their right-hand sides."""
    scale = np.abs(clause.rows).max(axis=1, initial=0.0)
    scale[scale == 0] = 1.0
    return (clause.rows / scale[:, None]).astype(np.float32), (clause.rhs_upper / scale).astype(
        np.float32
    )
