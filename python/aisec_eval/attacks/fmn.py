"""FMN: the nearest adversarial example in any norm, by adaptive norm constraints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .._validate import check_count
from ..errors import InputError
from .min_norm import MinimumNorm, check_positive


@dataclass(frozen=True)
class FMN(MinimumNorm):
    """Fast minimum-norm attack (Pintor et al. 2021, arXiv:2102.12827) for Linf, L2, L1 and L0.

    Gradient steps inside a ball whose radius shrinks while the point is adversarial and grows
    while it is not. Radius changes as in the paper; steps and step size are ours, chosen on the
    MNIST CNN of the reference data.

    Args:
        steps: gradients of each start, at least 1.
        starts: samples of other classes to start from, besides the clean input.
        step_size: Euclidean length of the first step, in units of the input range; None for 30
            (Linf), 3 (L0) or 1.
        radius_change: by which part the radius changes, at the start and at the end.

    Raises:
        InputError: a count or length out of its range.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0")

    steps: int = 55
    starts: int = 9
    step_size: float | None = None
    radius_change: tuple[float, float] = (0.05, 0.001)

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("starts", self.starts, minimum=0)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        if not (len(self.radius_change) == 2 and all(0 <= part < 1 for part in self.radius_change)):
            raise InputError(f"radius_change={self.radius_change} must be two numbers in [0, 1)")

    @property
    def name(self) -> str:
        """`fmn`."""
        return "fmn"
