"""Many cases at once: bounds and points of their boxes in batches.

Properties of nn4sys have ten thousands of boxes, nearly all of which CROWN refutes as they are.
One call for hundreds of boxes costs a twentieth of one call each.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from ..results import Counterexample
    from .property import Case
    from .replay import Replay

FEWEST = 8
"""Cases that are worth a batch."""
_BLOCK = 512
"""Most cases of a batch."""
_VALUES = 1 << 22
"""Most values of all nodes, and most numbers in the conditions, of a batch."""
_SHARE = 0.3
"""Part of the time that batches may take; what they leave is decided one by one."""


@dataclass(frozen=True)
class Screened:
    """What batches leave."""

    open: list[int]
    """Cases that are neither refuted nor violated, by their position."""
    counterexample: Counterexample | None = None


def screen(
    graph: Graph,
    cases: Sequence[Case],
    replay: Replay,
    left: Callable[[], float],
    memory_limit: int | None,
) -> Screened:
    """Refute cases by bounds over their whole boxes, and try the middle of each box.

    Args:
        graph: the network.
        cases: each with at least one clause.
        replay: judges candidates.
        left: seconds until the deadline.
        memory_limit: bytes that coefficients may take.
    """
    open_: list[int] = []
    end = (1 - _SHARE) * left()
    for block in _blocks(graph, cases):
        if len(block) == 1 or left() <= end:
            open_ += block
            continue
        batch = _Batch(graph, [cases[at] for at in block])
        hit = batch.hit(replay)
        if hit is not None:
            return Screened(block, hit)
        rest = np.ones(len(block), dtype=np.bool_)
        with suppress(TimeoutError):
            for method in ("ibp", "crown"):
                if rest.any():
                    batch.refute(method, rest, max(left() - end, 0.0), memory_limit)
        open_ += [at for at, still in zip(block, rest, strict=True) if still]
    return Screened(sorted(open_))


def _blocks(graph: Graph, cases: Sequence[Case]) -> list[list[int]]:
    """Return the positions of the cases in batches of alike conditions."""
    values = sum(math.prod(graph.node_shape(i)) for i in range(graph.num_nodes))
    alike: dict[tuple[int, ...], list[int]] = {}
    for at, case in enumerate(cases):
        alike.setdefault(tuple(len(clause.rows) for clause in case.clauses), []).append(at)
    blocks = []
    for sizes, positions in alike.items():
        outputs = cases[positions[0]].clauses[0].rows.shape[1]
        each = max(values, sum(sizes) * outputs)
        # A clause without conditions has no row to bound.
        count = max(1, min(_BLOCK, _VALUES // each)) if min(sizes) else 1
        blocks += [positions[i : i + count] for i in range(0, len(positions), count)]
    return blocks


class _Batch:
    """Cases whose clauses have the same numbers of rows."""

    def __init__(self, graph: Graph, cases: list[Case]) -> None:
        shape = (len(cases), *graph.input_shape)
        self._graph, self._cases = graph, cases
        self._lower = np.stack([case.lower for case in cases]).reshape(shape)
        self._upper = np.stack([case.upper for case in cases]).reshape(shape)
        clauses = [case.clauses for case in cases]
        self._rows = np.stack([np.concatenate([c.rows for c in own]) for own in clauses])
        self._upper_rhs = np.stack([np.concatenate([c.rhs_upper for c in own]) for own in clauses])
        self._starts = np.cumsum([0, *(len(c.rows) for c in clauses[0])])[:-1]

    def hit(self, replay: Replay) -> Counterexample | None:
        """Return the first middle of a box that is a counterexample."""
        middle: NDArray[np.float64] = self._lower + 0.5 * (self._upper - self._lower)
        single = middle.astype(np.float32).astype(np.float64)
        points = np.clip(single, self._lower, self._upper)
        outputs = self._graph.forward64(points).reshape(len(points), -1, 1)
        meets = (self._rows @ outputs)[:, :, 0] <= self._upper_rhs
        for at in np.flatnonzero(self._all(meets).any(axis=1)):
            case = self._cases[at]
            point = np.clip(points[at].reshape(-1), case.inner_lower, case.inner_upper)
            found = replay(case, point[None])
            if found is not None:
                return found
        return None

    def refute(
        self, method: str, rest: NDArray[np.bool_], timeout: float, memory_limit: int | None
    ) -> None:
        """Mark, among the cases that `rest` leaves, those that the bounds refute."""
        from .._core import margin_bounds

        where = np.flatnonzero(rest)
        bounds = margin_bounds(
            self._graph,
            np.ascontiguousarray(self._lower[where]),
            np.ascontiguousarray(self._upper[where]),
            spec=np.ascontiguousarray(self._rows[where]),
            method=method,
            memory_limit=memory_limit,
            timeout=timeout,
        )
        # A comparison with NaN is false: nothing is refuted by it.
        rest[where] = self._all(~(bounds > self._upper_rhs[where])).any(axis=1)

    def _all(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return, for each clause [cases, clauses], whether all of its rows hold."""
        return np.asarray(np.logical_and.reduceat(rows, self._starts, axis=1))
