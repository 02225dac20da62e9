"""Branch and bound over the inputs: complete for boxes of few dimensions.

Each box is bounded by CROWN planes. Whatever a plane excludes is clipped off the box, and what is
left is cut in two across a long edge that the bounds depend on (Bunel et al. 2018,
arXiv:1711.00455; clipping: Zhou et al. 2025, arXiv:2512.11087).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from ..results import Counterexample
    from .falsify import Search
    from .property import Case

MAX_INPUTS = 20
"""Wider inputs make trees that are too large."""
BATCH = 64
MAX_DOMAINS = 1 << 20
"""Boxes that wait; beyond it the search gives up."""
DEEP_DOMAINS = 1 << 16
"""From here on the newest boxes go first, which keeps the queue short."""
ROUNDS = 12
"""Of choosing the weights of a conjunction."""
_UNIT = np.float64(2.0**-53)


@dataclass(frozen=True)
class Outcome:
    """How the search in one case ended."""

    status: str
    """ "unsat", "sat" or "unknown"."""
    reason: str = ""
    counterexample: Counterexample | None = None
    bound: float = np.inf
    """Smallest slack proven of the boxes that are left, see `Specification.slack`."""


@dataclass(frozen=True)
class Specification:
    """All rows of a case's clauses, and which of them belong together."""

    rows: NDArray[np.float64]
    """[m, outputs]"""
    rhs: NDArray[np.float64]
    """[m], rounded up."""
    clauses: tuple[slice, ...]

    @staticmethod
    def of(case: Case) -> Specification:
        """Lay the clauses of a case one under the other."""
        ends = np.cumsum([len(clause.rhs_upper) for clause in case.clauses])
        starts = [0, *ends[:-1]]
        return Specification(
            np.ascontiguousarray(np.concatenate([clause.rows for clause in case.clauses])),
            np.concatenate([clause.rhs_upper for clause in case.clauses]),
            tuple(slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True)),
        )

    def slack(self, bounds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return by how much each clause [n, clauses] is refuted, from bounds of rows [n, m].

        Positive: refuted. One row of a conjunction is enough.
        """
        over = bounds - self.rhs
        columns = [over[:, part].max(axis=1, initial=-np.inf) for part in self.clauses]
        return np.stack(columns, axis=1)


class Tree:
    """The boxes of one case that are not decided yet."""

    def __init__(self, graph: Graph, case: Case, search: Search, memory_limit: int | None) -> None:
        self.open_clauses: tuple[int, ...] = tuple(range(len(case.clauses)))
        """Clauses that the bounds over the whole box leave open."""
        self.domains = 0
        """Boxes bounded so far."""
        self._graph = graph
        self._case = case
        self._search = search
        self._memory_limit = memory_limit
        self._spec = Specification.of(case)
        self._lower, self._upper = case.lower[None], case.upper[None]
        self._slack = np.array([-np.inf])

    @property
    def waiting(self) -> int:
        """Boxes that wait."""
        return len(self._lower)

    def advance(self, left: float) -> Outcome | None:
        """Bound a batch of boxes and split what is left of them; the first batch is the whole box.

        Args:
            left: seconds until the deadline.

        Returns:
            How the case ended, None while it goes on.
        """
        splits = len(self._case.lower) <= MAX_INPUTS
        if not self.waiting:
            return Outcome("unsat")
        if left <= 0:
            return self._ended("timeout")
        if self.domains and not splits:
            return self._ended(f"bound: {len(self._case.lower)} inputs are too many to split")
        if self.waiting > MAX_DOMAINS:
            return self._ended(f"memory: more than {MAX_DOMAINS} boxes wait")
        taken = self._next()
        low, high = self._lower[taken], self._upper[taken]
        try:
            bounds, planes, constants = self._planes(low, high, left)
        except TimeoutError:
            return self._ended("timeout")
        refuted = self._spec.slack(bounds)
        if not self.domains:
            self.open_clauses = tuple(np.flatnonzero(~(refuted[0] > 0)).tolist())
        self.domains += len(taken)
        worst = refuted.min(axis=1)
        # A comparison with NaN is false: nothing is proven by it.
        open_ = ~(worst > 0)
        if not splits and open_.any():
            self._slack = worst
            return self._suggested(low, high, planes)
        keep = np.ones(self.waiting, dtype=np.bool_)
        keep[taken] = False
        self._keep(keep)
        if not open_.any():
            return None
        low, high, planes, refuted = low[open_], high[open_], planes[open_], refuted[open_]
        found = self._suggested(low, high, planes)
        if found is not None:
            return found
        return self._split(low, high, planes, constants[open_], refuted)

    def _next(self) -> NDArray[np.intp]:
        """Return which boxes go next: the worst, where a counterexample is most likely."""
        if self.waiting > DEEP_DOMAINS:
            return np.arange(self.waiting - BATCH, self.waiting)
        return np.sort(np.argsort(self._slack, kind="stable")[:BATCH])

    def _keep(self, rows: NDArray[np.bool_]) -> None:
        self._lower, self._upper = self._lower[rows], self._upper[rows]
        self._slack = self._slack[rows]

    def _planes(
        self, low: NDArray[np.float64], high: NDArray[np.float64], left: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return bounds [n, m], coefficients [n, m, d] and constants [n, m]."""
        from .._core import margin_planes

        shape = (len(low), *self._graph.input_shape)
        bounds, coefficients, constants = margin_planes(
            self._graph,
            np.ascontiguousarray(low.reshape(shape)),
            np.ascontiguousarray(high.reshape(shape)),
            spec=self._spec.rows,
            memory_limit=self._memory_limit,
            timeout=left,
        )
        return bounds, coefficients.reshape(*bounds.shape, low.shape[1]), constants

    def _suggested(
        self, low: NDArray[np.float64], high: NDArray[np.float64], planes: NDArray[np.float64]
    ) -> Outcome | None:
        """Try the centre of each box and the lowest corner of each plane."""
        if not self._search.possible:
            return None
        corners = np.where(planes > 0, low[:, None], high[:, None])
        centres = (low + 0.5 * (high - low))[:, None]
        points = np.concatenate([centres, corners], axis=1).reshape(-1, low.shape[1])
        found = self._search.candidates(points)
        return None if found is None else Outcome("sat", counterexample=found)

    def _split(
        self,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        planes: NDArray[np.float64],
        constants: NDArray[np.float64],
        refuted: NDArray[np.float64],
    ) -> Outcome | None:
        """Clip the boxes and put both halves of each in the queue."""
        low, high, empty = clip(self._spec, refuted, planes, constants, low, high)
        rest = ~empty
        low, high, worst = low[rest], high[rest], refuted[rest].min(axis=1)
        at = _axis(self._spec, refuted[rest], planes[rest], high - low)
        here = np.arange(len(low))
        start, end = low[here, at], high[here, at]
        middle = start + 0.5 * (end - start)
        left_high, right_low = high.copy(), low.copy()
        left_high[here, at] = right_low[here, at] = middle
        self._lower = np.concatenate([self._lower, low, right_low])
        self._upper = np.concatenate([self._upper, left_high, high])
        self._slack = np.concatenate([self._slack, worst, worst])
        if ((middle <= start) | (middle >= end)).any():
            return self._ended("precision: a box cannot be split further in float64")
        return None

    def _ended(self, reason: str) -> Outcome:
        return Outcome("unknown", reason, bound=float(self._slack.min()))


def clip(
    spec: Specification,
    refuted: NDArray[np.float64],
    planes: NDArray[np.float64],
    constants: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Shrink boxes to hulls of what the planes leave of them for the clauses not refuted.

    A counterexample meets `plane_i(x) <= rhs_i` for every row i of some clause, and so any sum of
    these conditions. Limits are rounded outward, so none is lost.

    Args:
        spec: rows and clauses.
        refuted: slack of each clause [n, clauses]; the planes are read where not positive.
        planes: coefficients [n, m, d].
        constants: [n, m].
        low: corners [n, d].
        high: the same.

    Returns:
        New corners, and which boxes are empty: no clause can be met there.
    """
    new_low = np.full_like(low, np.inf)
    new_high = np.full_like(high, -np.inf)
    empty = np.ones(len(low), dtype=np.bool_)
    for number, part in enumerate(spec.clauses):
        own_low, own_high = low.copy(), high.copy()
        gone = refuted[:, number] > 0
        for _ in range(2):
            for row in range(part.start, part.stop):
                room = spec.rhs[row] - constants[:, row]
                size = np.abs(spec.rhs[row]) + np.abs(constants[:, row])
                gone |= _cut(planes[:, row], room, size, own_low, own_high)
        if part.stop - part.start > 1:
            rooms = spec.rhs[part] - constants[:, part]
            sizes = np.abs(spec.rhs[part]) + np.abs(constants[:, part])
            together = _combine(planes[:, part], rooms, sizes, own_low, own_high)
            gone |= _cut(*together, own_low, own_high)
        some = ~gone
        new_low[some] = np.minimum(new_low[some], own_low[some])
        new_high[some] = np.maximum(new_high[some], own_high[some])
        empty &= gone
    return new_low, new_high, empty


def _combine(
    planes: NDArray[np.float64],
    rooms: NDArray[np.float64],
    sizes: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Add up the conditions of a conjunction, weighted so that the sum is hardest to meet.

    Any weights that are not negative give a valid condition; these maximise the dual of "some
    point of the box meets all of them" by multiplicative weights.

    Args:
        planes: coefficients [n, k, d] of `planes · x <= rooms`.
        rooms: [n, k].
        sizes: at least the absolute value of every number behind `rooms`.
        low: corners [n, d].
        high: the same.

    Returns:
        Coefficients [n, d], right-hand side [n] and size [n], as `_cut` takes them; the size
        covers the roundings of the sum.
    """
    known = np.isfinite(rooms) & np.isfinite(sizes)
    planes = np.where(known[:, :, None], planes, 0.0)
    rooms, sizes = np.where(known, rooms, 0.0), np.where(known, sizes, 0.0)
    weights = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
    best, best_weights = np.full(len(low), -np.inf), weights
    with np.errstate(all="ignore"):
        for _ in range(ROUNDS):
            total = np.einsum("nk,nkd->nd", weights, planes)
            lowest = np.where(total > 0, low, high)
            excess = np.einsum("nkd,nd->nk", planes, lowest) - rooms
            value = np.einsum("nk,nk->n", weights, excess)
            better = value > best
            best = np.where(better, value, best)
            best_weights = np.where(better[:, None], weights, best_weights)
            scale = np.abs(excess).max(axis=1, keepdims=True)
            weights = weights * np.exp(excess / np.where(scale > 0, scale, 1.0))
            weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
        reach = np.maximum(np.abs(low), np.abs(high))
        size = np.einsum("nkd,nd->nk", np.abs(planes), reach) + sizes
        return (
            np.einsum("nk,nkd->nd", best_weights, planes),
            np.einsum("nk,nk->n", best_weights, rooms),
            4 * planes.shape[1] * np.einsum("nk,nk->n", best_weights, size),
        )


def _cut(
    plane: NDArray[np.float64],
    room: NDArray[np.float64],
    size: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Shrink the corners in place to where `plane · x <= room`; return where that is nowhere.

    `size` is at least the absolute value of every number `room` was computed from.
    """
    with np.errstate(all="ignore"):
        least = np.where(plane > 0, plane * low, plane * high)
        total = least.sum(axis=1)
        # Every sum here has at most d + 4 roundings, relative to the sizes of its terms.
        error = (4 * plane.shape[1] + 32) * _UNIT * (np.abs(least).sum(axis=1) + size) + 1e-290
        others = (room - total + error)[:, None] + least
        limit = others / plane
        outward = 8 * _UNIT * np.abs(limit) + 1e-290
        usable = np.isfinite(limit) & (np.abs(plane) > 1e-200)
        shrink = usable & (plane > 0) & (limit + outward < high)
        np.copyto(high, limit + outward, where=shrink)
        raise_ = usable & (plane < 0) & (limit - outward > low)
        np.copyto(low, limit - outward, where=raise_)
        nowhere = (low > high).any(axis=1)
        result: NDArray[np.bool_] = nowhere | (total - error > room)
        return result


def _axis(
    spec: Specification,
    refuted: NDArray[np.float64],
    planes: NDArray[np.float64],
    width: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Return the input to split [n].

    The edge is weighed with the square root of the planes' relative slopes across it, summed over
    open clauses. Slopes alone, as in smart branching, follow what loose relaxations exaggerate;
    edges alone ignore inputs that hardly matter; the mean makes smaller trees than either.
    """
    score = np.zeros_like(width)
    for number, part in enumerate(spec.clauses):
        slopes = np.abs(planes[:, part])
        steepest = slopes.max(axis=2, keepdims=True, initial=0.0)
        relative = slopes / np.where(steepest > 0, steepest, 1.0)
        weight = np.sqrt(np.maximum(relative.max(axis=1, initial=0.0), 1e-6))
        score += np.where(refuted[:, number, None] > 0, 0.0, weight * width)
    axis: NDArray[np.intp] = np.argmax(score, axis=1)
    return axis
