"""Sparse-RS: random search over sparse changes, patches and frames; scores, no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._validate import check_count
from ..errors import InputError
from .engine import NativeAttack

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class SparseRS(NativeAttack):
    """Sparse-RS (Croce et al. 2022, arXiv:2006.12834) for L0, patches and frames, margin loss.

    L0: exactly `eps` coordinates are changed, each to an end of its range. Patches: where the patch
    lies and what it shows are searched in turn. Frames: squares of it are repainted. The paper's
    schedules, stretched to the budget.

    Args:
        queries: evaluations a sample may cost a restart.
        alpha_init: share of the changes (L0: twice that), the patch or the frame that the first
            proposals renew, in (0, 1]; 0.3 for L0, 0.4 for patches, 0.5 for frames when None.
        restarts: runs with fresh random numbers on the samples not yet broken.

    Raises:
        InputError: a count below 1, or alpha_init outside (0, 1].
    """

    needs_gradient: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("l0", "patch", "frame")

    queries: int = 5000
    alpha_init: float | None = None
    restarts: int = 1

    def __post_init__(self) -> None:
        check_count("queries", self.queries)
        check_count("restarts", self.restarts)
        if self.alpha_init is not None and not 0 < self.alpha_init <= 1:
            raise InputError(f"alpha_init={self.alpha_init!r} must be above 0 and at most 1")

    @property
    def name(self) -> str:
        """The name in results: `sparse-rs`."""
        return "sparse-rs"

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {"queries": self.queries, "alpha_init": self.alpha_init}
