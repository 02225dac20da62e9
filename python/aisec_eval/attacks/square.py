"""Square Attack: random search over windows; needs scores, no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from .._validate import check_count
from ..errors import InputError
from .base import Found

if TYPE_CHECKING:
    from ..threats import ThreatModel
    from .base import Problem
    from .target import Target


@dataclass(frozen=True)
class Square:
    """Square Attack (Andriushchenko et al. 2020, arXiv:1912.00049), margin loss.

    Defaults and schedule as in AutoAttack; every sample draws its own windows, from all positions.
    Images of any shape (channels first, or last where the last axis has at most 4 entries) and
    vectors of features, Linf, L2, L1 and boxes.

    Args:
        queries: evaluations a sample may cost a restart, the start point included.
        p_init: fraction of the sample the first windows cover, above 0 and at most 1.
        restarts: runs with fresh random numbers on the samples not yet broken.

    Raises:
        InputError: a count below 1, or p_init outside (0, 1].
    """

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1

    def __post_init__(self) -> None:
        check_count("queries", self.queries)
        check_count("restarts", self.restarts)
        if not 0 < self.p_init <= 1:
            raise InputError(f"p_init={self.p_init!r} must be above 0 and at most 1")

    @property
    def name(self) -> str:
        """The name in results: `square`."""
        return "square"

    @property
    def needs_gradient(self) -> bool:
        """False: scores suffice."""
        return False

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None."""
        del threat
        if not target.model.capabilities.scores:
            return "the model returns labels only; square needs scores"
        return None

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        if target.kind == "native":
            graph = target.model.graph
            assert graph is not None  # noqa: S101 - `kind` says so
            x, margin, status, queries, _ = _core.square(
                graph,
                problem.x,
                problem.y,
                problem.ids,
                **problem.region,
                seed=problem.seed,
                restart=restart,
                queries=self.queries,
                p_init=self.p_init,
                batch=target.lane,
            )
            none = np.zeros_like(queries)
            return Found(x, margin, status, none, none.copy(), queries)
        return self._ask_and_tell(target, problem, restart)

    def _ask_and_tell(self, target: Target, problem: Problem, restart: int) -> Found:
        """Search natively, evaluate where the model is; the batch is refilled as searches end."""
        search = _core.Square(
            problem.x,
            problem.y,
            problem.ids,
            num_classes=target.model.num_classes,
            **problem.region,
            seed=problem.seed,
            restart=restart,
            queries=self.queries,
            p_init=self.p_init,
        )
        found = Found.nothing(problem)
        rows = min(target.batch, len(problem))
        buffer = np.empty((rows, *problem.x.shape[1:]), np.float32)
        while asked := search.ask(buffer):
            logits = np.ascontiguousarray(target.logits(buffer[:asked]))
            ended, (x, margin, status, queries, _) = search.tell(buffer, logits)
            found.x[ended], found.margin[ended] = x, margin
            found.status[ended], found.queries[ended] = status, queries
        return found
