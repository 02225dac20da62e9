"""Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): the cheapest bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .region import Regions


@dataclass(frozen=True)
class IBP:
    """Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): the cheapest bounds.

    The specification is merged with the affine operators behind it, and for L1 and L2 balls the
    layers that are affine in the input are bounded by the dual norm.
    Float64 with every rounding error taken off the bound.
    """

    name: ClassVar[str] = "ibp"

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
