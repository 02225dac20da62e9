"""Branch and bound over the inputs: complete for boxes of few dimensions.

The search is native (`_core.InputSplit`); what it suggests as counterexamples is replayed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from aisec_eval._core import Graph

    from ..results import Counterexample
    from .falsify import Search
    from .property import Case

MAX_INPUTS = 20
"""Wider inputs make trees that are too large."""
MEMORY = 1 << 30
"""Bytes that boxes which wait may take where no limit is given."""
WAVES = 200
"""Of boxes between two looks at the clock; a matter of milliseconds each."""
FIRST_WAVES = 8
"""Where other cases wait: in the first turn; four times as many in each next one."""


@dataclass(frozen=True)
class Outcome:
    """How the search in one case ended."""

    status: str
    """ "unsat", "sat" or "unknown"."""
    reason: str = ""
    counterexample: Counterexample | None = None
    bound: float = np.inf
    """Smallest slack proven of the boxes that are left: how far a clause is from being refuted."""


class Tree:
    """The boxes of one case that are not decided yet."""

    name = "input split"

    def __init__(
        self,
        graph: Graph,
        case: Case,
        search: Search,
        memory_limit: int | None,
        *,
        record: bool = False,
    ) -> None:
        from .._core import InputSplit

        self._search = search
        clauses = case.clauses
        self._tree = InputSplit(
            graph,
            case.lower,
            case.upper,
            rows=np.ascontiguousarray(np.concatenate([clause.rows for clause in clauses])),
            rhs=np.concatenate([clause.rhs_upper for clause in clauses]),
            sizes=[len(clause.rhs_upper) for clause in clauses],
            memory_limit=MEMORY if memory_limit is None else memory_limit,
            record=record,
        )

    @property
    def open_clauses(self) -> tuple[int, ...]:
        """Clauses that the bounds over the whole box leave open."""
        return tuple(self._tree.open)

    @property
    def domains(self) -> int:
        """Boxes bounded so far."""
        return self._tree.domains

    @property
    def waiting(self) -> int:
        """Boxes that wait."""
        return self._tree.waiting

    @property
    def proof(self) -> str | None:
        """The tree, once it is refuted, as the entries of a certificate; None if not kept."""
        return self._tree.proof()

    def advance(
        self, left: float, turn: int | None = None, share: float = np.inf
    ) -> Outcome | None:
        """Bound and split boxes for a while; the first call bounds the whole box.

        Args:
            left: seconds until the deadline.
            turn: how often the case had its turn before, where other cases wait.
            share: seconds that this turn may take.

        Returns:
            How the case ended, None while it goes on.
        """
        if not self.waiting:
            return Outcome("unsat")
        if left <= 0:
            return self._ended("timeout")
        waves = WAVES if turn is None else min(WAVES, FIRST_WAVES << 2 * min(turn, 8))
        waves = waves if self.domains else 1
        status, points = self._tree.advance(waves, max(min(left, share), 0.0))
        if status == "refuted":
            return Outcome("unsat")
        if status == "points" and self._search.possible:
            found = self._search.candidates(points)
            if found is not None:
                return Outcome("sat", counterexample=found)
        if status == "precision":
            return self._ended("precision: a box cannot be split further in float64")
        if status == "memory":
            return self._ended(f"memory: {self.waiting} boxes wait")
        return None

    def _ended(self, reason: str) -> Outcome:
        return Outcome("unknown", reason, bound=self._tree.slack)
