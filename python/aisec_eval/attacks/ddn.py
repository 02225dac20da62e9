"""DDN: the nearest adversarial example in L2, direction and norm apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .._validate import check_count
from ..errors import InputError
from .min_norm import MinimumNorm, check_positive


@dataclass(frozen=True)
class DDN(MinimumNorm):
    """Decoupled direction and norm (Rony et al. 2019, arXiv:1811.09600) for L2.

    Cross-entropy steps, each followed by a move to the sphere whose radius shrinks while the point
    is adversarial and grows while it is not. Step size and radius change as in the paper; points
    are not rounded to 8 bits.

    Args:
        steps: gradients of each start, at least 1.
        starts: samples of other classes to start from, besides the clean input.
        step_size: length of the first step and first radius, in units of the input range.
        radius_change: by which part the radius changes, below 1.

    Raises:
        InputError: a count or length out of its range.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    steps: int = 55
    starts: int = 9
    step_size: float = 1.0
    radius_change: float = 0.05

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("starts", self.starts, minimum=0)
        check_positive("step_size", self.step_size)
        check_positive("radius_change", self.radius_change)
        if self.radius_change >= 1:
            raise InputError(f"radius_change={self.radius_change} must be below 1")

    @property
    def name(self) -> str:
        """`ddn`."""
        return "ddn"
