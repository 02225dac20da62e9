"""CROWN (Zhang et al. 2018, arXiv:1811.00866): linear bounds carried back to the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .region import Regions


@dataclass(frozen=True)
class CROWN:
    """CROWN (Zhang et al. 2018, arXiv:1811.00866): linear bounds carried back to the input.

    Intermediate bounds are interval bounds, tightened by CROWN wherever a nonlinear operator would
    gain from it; the result is never looser than IBP.
    Float64 with every rounding error taken off the bound.
    """

    name: ClassVar[str] = "crown"

    def lower_bounds(
        self,
        graph: Graph,
        regions: Regions,
        spec: NDArray[np.float64],
        *,
        memory_limit: int | None = None,
    ) -> NDArray[np.float64]:
        """Return sound lower bounds of `spec @ logits` [n, m]; see `Certifier`."""
        from .._core import margin_bounds

        return margin_bounds(
            graph,
            regions.lower,
            regions.upper,
            spec=spec,
            method=self.name,
            center=regions.center,
            radius=regions.radius,
            norm=regions.norm,
            memory_limit=memory_limit,
        )
