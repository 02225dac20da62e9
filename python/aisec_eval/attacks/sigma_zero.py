"""sigma-zero: as few changed coordinates as possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .._validate import check_count
from .min_norm import MinimumNorm, check_positive


@dataclass(frozen=True)
class SigmaZero(MinimumNorm):
    """sigma-zero (Cina et al. 2025, arXiv:2402.01879) for L0.

    Descent on the margin plus a smooth count of the changed coordinates; changes below a threshold
    that follows success and failure are undone. Constants as in the paper.

    Args:
        steps: gradients of each start, at least 1.
        starts: samples of other classes to start from, besides the clean input.
        step_size: largest move of a coordinate in the first step, in units of the input range.
        sigma: smoothing of the count.
        threshold: first threshold, in units of the input range.
        threshold_step: by how much it moves, in units of the step size.

    Raises:
        InputError: a count or length out of its range.
    """

    norms: ClassVar[tuple[str, ...]] = ("l0",)

    steps: int = 300
    starts: int = 2
    step_size: float = 1.0
    sigma: float = 1e-3
    threshold: float = 0.3
    threshold_step: float = 0.01

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("starts", self.starts, minimum=0)
        for name in ("step_size", "sigma", "threshold", "threshold_step"):
            check_positive(name, getattr(self, name))

    @property
    def name(self) -> str:
        """`sigma-zero`."""
        return "sigma-zero"
