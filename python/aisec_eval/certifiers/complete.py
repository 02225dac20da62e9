"""Complete verification: branch and bound over the signs of neurons (beta-CROWN)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InputError
from .alpha_crown import AlphaCROWN
from .property import Case, Clause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from aisec_eval._core import Graph, SplitProof

    from .region import Regions

WORK_PER_SECOND = 2e9
"""Scalar operations that tuned intermediate bounds may cost for each second there is."""
WHY = {
    "timeout": "timeout",
    "memory": "memory: more open domains than fit",
    "domains": "domains: as many as were allowed",
    "stuck": "bound: no neuron is left to split",
    "not finite": "not finite",
    "met": "counterexample",
}
"""Reasons by the native answer."""


@dataclass(frozen=True)
class Decided:
    """What branch and bound found out about a case."""

    answer: str
    """ "refuted", "met", or a key of WHY."""
    point: NDArray[np.float64] | None
    """Where met: an input of the box, flat."""
    bound: float
    """How far above its right-hand sides each clause stays, see `VerifyResult.bound`."""
    domains: int
    proof: SplitProof | None


def decide(
    graph: Graph,
    case: Case,
    *,
    timeout: float,
    memory_limit: int | None = None,
    most_domains: int | None = None,
    record: bool = False,
    start: SplitProof | None = None,
    **region: Any,
) -> Decided:
    """Decide whether an input of the case meets one of its clauses.

    Args:
        graph: the network.
        case: box and clauses, at least one.
        timeout: seconds.
        memory_limit: bytes that coefficients and open domains may take.
        most_domains: parts of the box after which to give up.
        record: keep what a certificate is written from.
        start: proof of the same clauses over a region of another size, to begin with.
        region: `center`, `radius` and `norm` of a ball that cuts the box.
    """
    from .._core import decide as native

    shape = graph.input_shape
    found = native(
        graph,
        case.lower.reshape(1, *shape),
        case.upper.reshape(1, *shape),
        rows=np.ascontiguousarray(np.concatenate([clause.rows for clause in case.clauses])),
        rhs_lower=np.concatenate([clause.rhs_lower for clause in case.clauses]),
        rhs_upper=np.concatenate([clause.rhs_upper for clause in case.clauses]),
        sizes=[len(clause.rhs_upper) for clause in case.clauses],
        inner=(case.inner_lower.reshape(shape), case.inner_upper.reshape(shape)),
        timeout=max(timeout, 0.0),
        memory_limit=memory_limit,
        effort=WORK_PER_SECOND * min(max(timeout, 1.0), 600.0),
        most_domains=most_domains,
        record=record,
        start=start,
        **region,
    )
    return Decided(*found)


@dataclass(frozen=True)
class Explained:
    """What complete verification found out about n samples."""

    bounds: NDArray[np.float64]
    """Lower bounds [n, m]."""
    why: list[str]
    """Why a sample is open, see WHY; empty where it is not."""
    points: dict[int, NDArray[Any]]
    """Inputs [*input_shape] whose margin is at most zero, by sample."""


@dataclass(frozen=True)
class Complete:
    """Branch and bound over the signs of neurons, until each sample is decided or time is up.

    alpha-CROWN first; what it leaves open is attacked, and what no attack breaks has intermediate
    bounds with slopes of their own, then beta-CROWN (Wang et al. 2021, arXiv:2103.06624) on domains
    split by filtered smart branching (De Palma et al. 2021, arXiv:2104.06718). Every refutation is
    computed once more in float64 with every rounding error taken off it. ReLU and leaky ReLU are
    split at zero, curves where that takes most off their distance from the chord (Shi et al.
    2024, arXiv:2405.21063).
    """

    timeout: float = 60.0
    """Seconds for one sample."""

    name: ClassVar[str] = "complete"

    def __post_init__(self) -> None:
        if not (0.0 < self.timeout < math.inf):
            raise InputError(f"Complete(timeout={self.timeout!r}) must be seconds above 0")

    def lower_bounds(
        self,
        graph: Graph,
        regions: Regions,
        spec: NDArray[np.float64],
        *,
        memory_limit: int | None = None,
    ) -> NDArray[np.float64]:
        """Return sound lower bounds of `spec @ logits` [n, m]; see `Certifier`."""
        return self.explain(graph, regions, spec, memory_limit=memory_limit).bounds

    def explain(
        self,
        graph: Graph,
        regions: Regions,
        spec: NDArray[np.float64],
        *,
        memory_limit: int | None = None,
        broken: Callable[[NDArray[np.int64]], Mapping[int, NDArray[Any]]] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Explained:
        """Return lower bounds, and why samples with bounds that are not above 0 are open.

        The rows that are above zero after alpha-CROWN keep that bound; the others of a decided
        sample share the smallest bound of the parts they were split into.

        Args:
            graph: the network.
            regions: one region a sample, n of them.
            spec: rows over the logits, float64 [n, m, K].
            memory_limit: bytes that coefficients and open domains may take.
            broken: an attack: given the samples that alpha-CROWN leaves open, returns adversarial
                examples by their position among those. What it breaks is not split.
            progress: called with the number of samples done.
        """
        start = time.monotonic()
        n = len(spec)
        bounds = AlphaCROWN().lower_bounds(graph, regions, spec, memory_limit=memory_limit)
        open_ = np.flatnonzero(~(bounds > 0).all(axis=1))
        why = [""] * n
        points: dict[int, NDArray[Any]] = {}
        if broken is not None and len(open_):
            points = {int(open_[at]): point for at, point in broken(open_).items()}
            for i in points:
                why[i] = WHY["met"]
            open_ = np.array([i for i in open_ if i not in points], dtype=np.int64)
        spent = (time.monotonic() - start) / max(1, n)
        for done, i in enumerate(open_.tolist()):
            if progress is not None:
                progress(n - len(open_) + done)
            if self.timeout <= spent:
                why[i] = WHY["timeout"]
                continue
            found = decide(
                graph,
                self._case(regions, spec[i][~(bounds[i] > 0)], i),
                timeout=self.timeout - spent,
                memory_limit=memory_limit,
                **regions.ball(i),
            )
            if found.answer == "refuted":
                bounds[i] = np.where(bounds[i] > 0, bounds[i], found.bound)
            else:
                why[i] = WHY[found.answer]
            if found.point is not None:
                points[i] = found.point.reshape(graph.input_shape)
        return Explained(bounds, why, points)

    def decide(
        self,
        graph: Graph,
        regions: Regions,
        rows: NDArray[np.float64],
        *,
        start: SplitProof | None,
        memory_limit: int | None = None,
    ) -> Decided:
        """Decide one sample, and keep its proof: where another radius may begin.

        Args:
            graph: the network.
            regions: one.
            rows: margins, over the logits [m, K].
            start: proof of the same rows for a smaller radius.
            memory_limit: bytes that coefficients and open domains may take.
        """
        return decide(
            graph,
            self._case(regions, rows, 0),
            timeout=self.timeout,
            memory_limit=memory_limit,
            record=True,
            start=start,
            **regions.ball(0),
        )

    def _case(self, regions: Regions, rows: NDArray[np.float64], i: int) -> Case:
        """One clause a row: a margin of at most zero."""
        zero = np.zeros(1)
        low, high = regions.lower[i].ravel(), regions.upper[i].ravel()
        clauses = tuple(Clause(row[None], zero, zero) for row in rows)
        return Case(low, high, low, high, clauses)
