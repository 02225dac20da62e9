"""What certifiers share whose bounds are one native call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .region import Regions


class NativeBounds:
    """A `Certifier` that the engine computes: the subclass says which by `name` and options."""

    name: ClassVar[str]

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
            **self._options(),
        )

    def _options(self) -> Mapping[str, Any]:
        """Return what the method takes besides."""
        return {}
