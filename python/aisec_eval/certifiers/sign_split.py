"""Branch and bound over the signs of neurons: for boxes of many dimensions.

The search is native (`_core.decide`); what it finds as a counterexample is replayed here.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from .complete import WHY, decide
from .input_split import Outcome
from .property import Case

if TYPE_CHECKING:
    from aisec_eval._core import Graph, SplitProof

    from .falsify import Search


FIRST_DOMAINS = 256
"""Parts of the box in the first turn, where other cases wait; four times more in each next one."""
CROWN_SHARE = 0.3
"""Part of the time left that bounds over the whole box may take: a search for counterexamples
follows them, whatever they say."""


class SignTree:
    """One case, decided in two steps: bounds over the whole box, then everything else."""

    name = "sign split"

    def __init__(
        self,
        graph: Graph,
        case: Case,
        search: Search,
        memory_limit: int | None,
        *,
        record: bool = False,
    ) -> None:
        self.open_clauses: tuple[int, ...] = tuple(range(len(case.clauses)))
        """Clauses that the bounds over the whole box leave open."""
        self.domains = 0
        """Parts of the box bounded so far."""
        self._best = np.full(len(case.clauses), -np.inf)  # of each clause, while it is open
        self._bound = -np.inf  # of all of them, by splitting
        self._graph = graph
        self._case = case
        self._search = search
        self._memory_limit = memory_limit
        self._record = record
        self._proof: SplitProof | None = None

    @property
    def waiting(self) -> int:
        """Whether the case is undecided."""
        return int(bool(self.open_clauses))

    @property
    def proof(self) -> str | None:
        """The tree, once it is refuted, as the entries of a certificate; None if not kept."""
        if self._proof is None:
            return None
        case = self._case
        return self._proof.write(self._graph, case.lower, case.upper, clauses=len(case.clauses))

    def advance(
        self, left: float, turn: int | None = None, share: float = np.inf
    ) -> Outcome | None:
        """Bound the whole box, the first time; then search until the case is decided.

        Args:
            left: seconds until the deadline.
            turn: how often the case had its turn before, where other cases wait: the search ends
                after so many parts of the box, and begins again in the next turn.
            share: seconds that this turn may take.

        Returns:
            How the case ended, None where something is open and there is time for more.
        """
        if left <= 0:
            return Outcome("unknown", "timeout", bound=self.bound)
        if not self.domains:
            self.domains = 1
            self._by_bounds(left)
            if self.open_clauses or self._record:
                return None
        if not self.open_clauses and not self._record:
            return Outcome("unsat")
        return self._search_all(left, turn, share)

    @property
    def bound(self) -> float:
        """What is proven of the clause that is furthest from being refuted."""
        open_ = self._best[list(self.open_clauses)]
        return max(self._bound, float(open_.min(initial=np.inf)))

    def _by_bounds(self, left: float) -> None:
        """Refute clauses by bounds over the whole box, the cheap ones first."""
        for method in ("ibp", "crown", "crown-ibp"):
            with suppress(TimeoutError):
                self._refute(method, left * CROWN_SHARE)
                if method == "crown":
                    # The last one is for networks whose nodes take too long to bound by CROWN.
                    return

    def _refute(self, method: str, timeout: float) -> None:
        from .._core import margin_bounds

        clauses = [self._case.clauses[number] for number in self.open_clauses]
        if not clauses:
            return
        shape = (1, *self._graph.input_shape)
        (bounds,) = margin_bounds(
            self._graph,
            self._case.lower.reshape(shape),
            self._case.upper.reshape(shape),
            spec=np.concatenate([clause.rows for clause in clauses])[None],
            method=method,
            memory_limit=self._memory_limit,
            timeout=timeout,
        )
        parts = np.split(bounds, np.cumsum([len(clause.rhs_upper) for clause in clauses])[:-1])
        for number, clause, part in zip(self.open_clauses, clauses, parts, strict=True):
            slack = np.nextafter(part - clause.rhs_upper, -np.inf)
            self._best[number] = np.fmax(self._best[number], slack.max(initial=-np.inf))
        # A comparison with NaN is false: nothing is refuted by it.
        self.open_clauses = tuple(
            number
            for number, clause, part in zip(self.open_clauses, clauses, parts, strict=True)
            if not (part > clause.rhs_upper).any()
        )

    def _search_all(self, left: float, turn: int | None, share: float) -> Outcome | None:
        case = self._case
        started = time.monotonic()
        if not self._record:
            clauses = tuple(case.clauses[number] for number in self.open_clauses)
            case = Case(case.lower, case.upper, case.inner_lower, case.inner_upper, clauses)
        found = decide(
            self._graph,
            case,
            timeout=min(left, share),
            memory_limit=self._memory_limit,
            most_domains=None if turn is None else FIRST_DOMAINS << 2 * min(turn, 16),
            record=self._record,
        )
        self.domains += found.domains
        self._bound = max(self._bound, found.bound)
        if found.answer == "refuted":
            self.open_clauses, self._proof = (), found.proof
            return Outcome("unsat")
        if found.point is not None and self._search.possible:
            point = self._search.replay(case, found.point[None])
            if point is not None:
                return Outcome("sat", counterexample=point)
        late = time.monotonic() - started >= left
        if found.answer == "domains" or (found.answer == "timeout" and not late):
            return None
        return Outcome("unknown", WHY[found.answer], bound=self.bound)
