"""An evolutionary search over tables; needs scores, no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._validate import check_count
from .engine import NativeAttack, search

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .base import Found, Problem
    from .target import Target


@dataclass(frozen=True)
class Evolution(NativeAttack):
    """Evolutionary search over `Tabular`, after MoEvA2 (Simonetto et al. 2022, arXiv:2112.01156).

    As there: a population of changed rows, two-point crossover over features, mutation by kind of
    feature. Unlike there every child is made to satisfy all constraints before it is evaluated, so
    that the margin is the only objective; each child replaces the worst member at once; and no row
    is evaluated twice. Where the threat model allows no more rows than `queries`, all of them are
    tried: a sample it leaves open then has no adversarial example.

    Args:
        queries: evaluations a sample may cost a restart.
        population: rows that are kept, at least 2.
        restarts: runs with fresh random numbers on the samples not yet broken.

    Raises:
        InputError: a count below its minimum.
    """

    needs_gradient: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("tabular",)

    queries: int = 5000
    population: int = 40
    restarts: int = 1

    def __post_init__(self) -> None:
        check_count("queries", self.queries)
        check_count("population", self.population, minimum=2)
        check_count("restarts", self.restarts)

    @property
    def name(self) -> str:
        """The name in results: `evolution`."""
        return "evolution"

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {"queries": self.queries, "population": self.population}

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample once; the first run begins at the best point known."""
        return search(self, target, problem, restart, starts=None if restart else problem.best)
