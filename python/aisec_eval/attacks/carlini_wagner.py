"""The L2 attack of Carlini and Wagner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .._validate import check_count
from .min_norm import MinimumNorm, check_positive


@dataclass(frozen=True)
class CarliniWagner(MinimumNorm):
    """Carlini & Wagner's L2 attack (2017, arXiv:1608.04644) with confidence 0.

    Adam on squared distance plus `constant` times the margin, in the space of tanh; the constant
    is searched by further runs. Defaults as in the paper's code, but for 1000 steps a run.

    Args:
        steps: gradients of one run, at least 1; a run ends early when it no longer improves.
        runs: constants tried, at least 1.
        step_size: of Adam.
        constant: the first one.

    Raises:
        InputError: a count or length out of its range.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    steps: int = 1000
    runs: int = 9
    step_size: float = 0.01
    constant: float = 1e-3

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("runs", self.runs)
        check_positive("step_size", self.step_size)
        check_positive("constant", self.constant)

    @property
    def name(self) -> str:
        """`carlini-wagner`."""
        return "carlini-wagner"
