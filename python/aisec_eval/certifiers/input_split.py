"""Branch and bound over the inputs: complete for boxes of few dimensions.

Each box is bounded by CROWN planes. Whatever a plane excludes is clipped off the box, and what is
left is cut in two across the input that the bounds depend on most (Bunel et al. 2018,
arXiv:1711.00455; clipping: Zhou et al. 2025, arXiv:2512.11087).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

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
    domains: int = 0
    """Boxes bounded."""


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


def decide(
    graph: Graph,
    case: Case,
    search: Search,
    left: Callable[[], float],
    memory_limit: int | None,
    progress: Callable[[int, int, str], None] | None,
) -> Outcome:
    """Bound the case's box, split it until every part is decided, or until time is up.

    Args:
        graph: the network.
        case: box and clauses; at least one clause.
        search: replays what the planes suggest.
        left: seconds until the deadline.
        memory_limit: bytes that coefficients may take.
        progress: called with boxes decided, boxes known, and a note.
    """
    spec = Specification.of(case)
    splits = len(case.lower) <= MAX_INPUTS
    lower, upper = case.lower[None], case.upper[None]
    slack = np.array([-np.inf])
    domains = 0

    def ended(reason: str) -> Outcome:
        return Outcome("unknown", reason, bound=float(slack.min()), domains=domains)

    while len(lower):
        if left() <= 0:
            return ended("timeout")
        if len(lower) > MAX_DOMAINS:
            return ended(f"memory: more than {MAX_DOMAINS} boxes wait")
        # The worst boxes first: a counterexample is most likely there.
        if len(lower) > DEEP_DOMAINS:
            taken = np.arange(len(lower) - BATCH, len(lower))
        else:
            taken = np.sort(np.argsort(slack, kind="stable")[:BATCH])
        low, high = lower[taken], upper[taken]
        shape = (len(taken), *graph.input_shape)
        try:
            bounds, coefficients, constants = _planes(
                graph, low.reshape(shape), high.reshape(shape), spec.rows, memory_limit, left()
            )
        except TimeoutError:
            return ended("timeout")
        keep = np.ones(len(lower), dtype=np.bool_)
        keep[taken] = False
        lower, upper, slack = lower[keep], upper[keep], slack[keep]
        domains += len(taken)
        planes = coefficients.reshape(len(taken), len(spec.rhs), low.shape[1])
        refuted = spec.slack(bounds)
        worst = refuted.min(axis=1)
        # A comparison with NaN is false: nothing is proven by it.
        open_ = ~(worst > 0)
        if progress is not None:
            progress(domains, domains + len(lower) + int(open_.sum()), "input split")
        if not open_.any():
            continue
        low, high, planes = low[open_], high[open_], planes[open_]
        constants, refuted, worst = constants[open_], refuted[open_], worst[open_]
        if search.possible:
            found = search.candidates(_suggested(low, high, planes))
            if found is not None:
                return Outcome("sat", counterexample=found, domains=domains)
        if not splits:
            slack = np.concatenate([slack, worst])
            return ended(f"bound: {len(case.lower)} inputs are too many to split")
        low, high, empty = clip(spec, refuted, planes, constants, low, high)
        rest = ~empty
        low, high, planes = low[rest], high[rest], planes[rest]
        at = _axis(spec, refuted[rest], planes, high - low)
        here = np.arange(len(low))
        middle = low[here, at] + 0.5 * (high[here, at] - low[here, at])
        if ((middle <= low[here, at]) | (middle >= high[here, at])).any():
            slack = np.concatenate([slack, worst])
            return ended("precision: a box cannot be split further in float64")
        left_high, right_low = high.copy(), low.copy()
        left_high[here, at] = right_low[here, at] = middle
        lower = np.concatenate([lower, low, right_low])
        upper = np.concatenate([upper, left_high, high])
        slack = np.concatenate([slack, worst[rest], worst[rest]])
    return Outcome("unsat", domains=domains)


def _planes(
    graph: Graph,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    rows: NDArray[np.float64],
    memory_limit: int | None,
    timeout: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    from .._core import margin_planes

    return margin_planes(
        graph,
        np.ascontiguousarray(lower),
        np.ascontiguousarray(upper),
        spec=rows,
        memory_limit=memory_limit,
        timeout=max(timeout, 0.0),
    )


def clip(
    spec: Specification,
    refuted: NDArray[np.float64],
    planes: NDArray[np.float64],
    constants: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Shrink boxes to hulls of what the planes leave of them for the clauses not refuted.

    A counterexample meets `plane_i(x) <= rhs_i` for every row i of some clause. Limits are
    rounded outward, so none is lost.

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
        some = ~gone
        new_low[some] = np.minimum(new_low[some], own_low[some])
        new_high[some] = np.maximum(new_high[some], own_high[some])
        empty &= gone
    return new_low, new_high, empty


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
        return nowhere | (total - error > room)


def _suggested(
    low: NDArray[np.float64], high: NDArray[np.float64], planes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the centres and each plane's lowest corner, [n * (m + 1), d]."""
    corners = np.where(planes > 0, low[:, None], high[:, None])
    centres = (low + 0.5 * (high - low))[:, None]
    return np.concatenate([centres, corners], axis=1).reshape(-1, low.shape[1])


def _axis(
    spec: Specification,
    refuted: NDArray[np.float64],
    planes: NDArray[np.float64],
    width: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Return the input to split [n]: the one over which the planes of open clauses vary most."""
    score = np.zeros_like(width)
    for number, part in enumerate(spec.clauses):
        reach = np.maximum(np.abs(planes[:, part]), 1e-3).max(axis=1, initial=1e-3) * width
        score += np.where(refuted[:, number, None] > 0, 0.0, reach)
    return np.argmax(score, axis=1)
