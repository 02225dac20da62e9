"""HopSkipJump: the nearest adversarial example of a model that tells its decision only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .._validate import check_count
from .min_norm import MinimumNorm


@dataclass(frozen=True)
class HopSkipJump(MinimumNorm):
    """HopSkipJump (Chen, Jordan & Wainwright 2020, arXiv:1904.02144) for L2 and Linf.

    From an adversarial point to the boundary by binary search, then along the direction that the
    decisions around it point to, and back to the boundary. It begins at uniform noise; where that
    keeps the label, at noise in blocks. Only the predicted class is used. A sample is left as soon
    as an example within the radius is found.

    Args:
        queries: evaluations a sample may cost each start.
        starts: nearest samples of other classes to begin at, besides noise.
        first_probes: decisions the first direction takes; the i-th takes sqrt(i) times as many.
        most_probes: decisions a direction takes at most.
        tries: points of noise tried before giving up.

    Raises:
        InputError: a count below its minimum (`starts` may be 0, the others not).
    """

    needs_gradient: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")

    queries: int = 5000
    starts: int = 0
    first_probes: int = 100
    most_probes: int = 10_000
    tries: int = 100

    def __post_init__(self) -> None:
        for name in ("queries", "first_probes", "most_probes", "tries"):
            check_count(name, getattr(self, name))
        check_count("starts", self.starts, minimum=0)

    @property
    def name(self) -> str:
        """The name in results: `hop-skip-jump`."""
        return "hop-skip-jump"
