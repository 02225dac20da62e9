"""CROWN-IBP (Zhang et al. 2020, arXiv:1906.06316): intervals, and linear bounds at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .region import Regions


@dataclass(frozen=True)
class CROWNIBP:
    """CROWN-IBP (Zhang et al. 2020, arXiv:1906.06316): intervals, and linear bounds at the end.

    Intermediate bounds are interval bounds (for L1 and L2 balls, those of layers that are affine in
    the input use the dual norm); only the specification is carried back to the input. Never looser
    than IBP, and cheap: one pass back a row.
    Float64 with every rounding error taken off the bound.
    """

    name: ClassVar[str] = "crown-ibp"

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
