"""Square Attack: random search over windows; needs scores, no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._validate import check_count
from ..errors import InputError
from .engine import NativeAttack, search

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .base import Found, Problem
    from .target import Target


@dataclass(frozen=True)
class Square(NativeAttack):
    """Square Attack (Andriushchenko et al. 2020, arXiv:1912.00049), margin loss.

    Defaults and schedule as in AutoAttack; every sample draws its own windows, from all positions.
    Images of any shape (channels first, or last where the last axis has at most 4 entries) and
    vectors of features, Linf, L2, L1 and boxes. Tables (`Tabular`) are searched by blocks of
    features: numbers move to either end of what they may be, categories to any, and where the
    budget is shared new changes make old ones give way.

    Args:
        queries: evaluations a sample may cost a restart, the start point included.
        p_init: fraction of the sample the first windows cover, above 0 and at most 1.
        restarts: runs with fresh random numbers on the samples not yet broken.
        eot: draws of a randomised model that logits are averaged over, each a query of its own;
            graphs and JAX functions are not randomised and drawn once.

    Raises:
        InputError: a count below 1, or p_init outside (0, 1].
    """

    needs_gradient: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box", "tabular")

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1
    eot: int = 1

    def __post_init__(self) -> None:
        check_count("queries", self.queries)
        check_count("restarts", self.restarts)
        check_count("eot", self.eot)
        if not 0 < self.p_init <= 1:
            raise InputError(f"p_init={self.p_init!r} must be above 0 and at most 1")

    @property
    def name(self) -> str:
        """The name in results: `square`."""
        return "square"

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {"queries": self.queries, "p_init": self.p_init}

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        return search(self, target.expected(self.eot), problem, restart)
