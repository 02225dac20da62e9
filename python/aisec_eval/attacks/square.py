"""Square Attack: random search over windows; needs scores, no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._validate import check_count
from ..errors import InputError
from .engine import NativeAttack

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Square(NativeAttack):
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

    needs_gradient: ClassVar[bool] = False

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
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {"queries": self.queries, "p_init": self.p_init}
