"""DeepFool: steps to the nearest linearised boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .._validate import check_count
from .min_norm import MinimumNorm, check_positive


@dataclass(frozen=True)
class DeepFool(MinimumNorm):
    """DeepFool (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599) for L2 and Linf.

    Each step goes to the boundary of the nearest class of the linearised network; the point found
    is then drawn back to the boundary. A step costs an evaluation and a gradient a candidate.

    Args:
        steps: most steps, at least 1.
        candidates: classes considered at a point, those with the largest logits.
        overshoot: how far past the boundary the moves go, as a part of them.

    Raises:
        InputError: a count or length out of its range.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("candidates", self.candidates)
        check_positive("overshoot", self.overshoot)

    @property
    def name(self) -> str:
        """`deepfool`."""
        return "deepfool"
