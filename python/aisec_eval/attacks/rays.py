"""RayS: the nearest boundary in Linf of a model that tells its decision only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .._validate import check_count
from ..errors import InputError
from .min_norm import MinimumNorm


@dataclass(frozen=True)
class RayS(MinimumNorm):
    """RayS (Chen & Gu 2020, arXiv:2006.12792) for Linf.

    Looks among the sign vectors for the one along which the boundary is nearest, flipping blocks
    of signs from the whole sample down to single values. Only the predicted class is used, and no
    random numbers. A sample is left as soon as an example within the radius is found.

    Args:
        queries: evaluations a sample may cost.
        tolerance: to which part of the input range distances are measured, in (0, 1).

    Raises:
        InputError: a count below 1, or a tolerance outside (0, 1).
    """

    needs_gradient: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("linf",)

    queries: int = 5000
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_count("queries", self.queries)
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance={self.tolerance!r} must be above 0 and below 1")

    @property
    def name(self) -> str:
        """The name in results: `rays`."""
        return "rays"
