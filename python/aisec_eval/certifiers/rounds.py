"""Cases decided in turns: no case waits for another one to end.

Bounds over every case come first, a share of the time each. What they leave open goes on in rounds,
each of which lets every case do more than the last one did, up to an equal share of the time that
is left. What a round amounts to is counted in parts of the box, not in seconds, so that the clock
decides nothing before the time is up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .falsify import Search
from .input_split import MAX_INPUTS, Outcome, Tree
from .screen import FEWEST, screen
from .sign_split import SignTree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aisec_eval._core import Graph

    from ..results import Counterexample
    from .property import Case
    from .replay import Replay


DESCENT_LEFT = 0.5
"""Part of a case's first turn that its search for counterexamples leaves."""


@dataclass(frozen=True)
class Settled:
    """What became of all cases together."""

    status: str
    """ "unsat", "sat" or "unknown"."""
    counterexample: Counterexample | None = None
    domains: int = 0
    """Parts of boxes that were bounded."""
    worst: Outcome | None = None
    """Of the cases that are open, the one furthest from being decided."""
    trees: tuple[Tree | SignTree, ...] = ()
    """All of them, where they are recorded."""


@dataclass
class Cases:
    """The cases of one property."""

    graph: Graph
    cases: Sequence[Case]
    replay: Replay
    seed: int
    left: Callable[[], float]
    """Seconds until the deadline."""
    memory_limit: int | None
    record: bool
    progress: Callable[[int, int, str], None] | None
    _decided: int = 0

    def settle(self) -> Settled:
        """Decide the cases, or as many as there is time for."""
        trees: list[Tree | SignTree] = []
        unknown: list[Outcome] = []
        open_: Sequence[int] = range(len(self.cases))
        if len(open_) >= FEWEST and not self.record:
            screened = screen(self.graph, self.cases, self.replay, self.left, self.memory_limit)
            if screened.counterexample is not None:
                return Settled("sat", screened.counterexample)
            open_ = screened.open
            self._decided = len(self.cases) - len(open_)
        for waiting, at in zip(range(len(open_), 0, -1), open_, strict=True):
            left = self.left()
            if left <= 0:
                unknown.append(Outcome("unknown", "timeout", bound=-math.inf))
                break
            tree, found = self._begin(at, self.cases[at], left - left / waiting)
            if found is not None:
                return self._sat(found, tree)
            if self.record or tree.waiting:
                trees.append(tree)
            else:
                # Properties may have thousands of cases: what is decided is not kept.
                self._decided += tree.domains
        settled = self._rounds(trees, unknown)
        if settled.status == "unsat" and self.record:
            return replace(settled, trees=tuple(trees))
        return settled

    def _begin(
        self, at: int, case: Case, rest: float
    ) -> tuple[Tree | SignTree, Counterexample | None]:
        """Bound the whole box, and search it for counterexamples, until `rest` seconds are left."""

        def left() -> float:
            return self.left() - rest

        search = Search(self.graph, case, at, self.seed, self.replay)
        free = int((case.inner_lower < case.inner_upper).sum())
        kind = Tree if free <= MAX_INPUTS else SignTree
        tree = kind(self.graph, case, search, self.memory_limit, record=self.record)
        scattered = kind is SignTree
        if scattered and search.possible:
            # A few forward passes, where bounds take many.
            found = search.scattered(left)
            if found is not None:
                return tree, found
        outcome = tree.advance(left())
        if outcome is not None:
            return tree, outcome.counterexample
        if search.possible:
            found = None if scattered else search.scattered(left)
            end = DESCENT_LEFT * left()
            return tree, found or search.descend(tree.open_clauses, lambda: left() <= end)
        return tree, None

    def _rounds(self, trees: list[Tree | SignTree], unknown: list[Outcome]) -> Settled:
        turn, open_ = 0, trees
        while open_:
            later: list[Tree | SignTree] = []
            for at, tree in enumerate(open_):
                waiting = len(open_) - at + len(later)
                left = self.left()
                alone = waiting == 1 and not unknown
                outcome = tree.advance(left, None if alone else turn, left / waiting)
                if self.progress is not None:
                    known = self._decided + sum(one.domains for one in open_)
                    self.progress(known, known + sum(one.waiting for one in open_), tree.name)
                if outcome is None:
                    later.append(tree)
                    continue
                self._decided += tree.domains
                if outcome.status == "sat":
                    return Settled("sat", outcome.counterexample, self._decided)
                if outcome.status == "unknown":
                    unknown.append(outcome)
            open_, turn = later, turn + 1
        if not unknown:
            return Settled("unsat", domains=self._decided)
        worst = min(unknown, key=lambda outcome: outcome.bound)
        return Settled("unknown", domains=self._decided, worst=worst)

    def _sat(self, found: Counterexample, tree: Tree | SignTree) -> Settled:
        return Settled("sat", found, self._decided + tree.domains)
