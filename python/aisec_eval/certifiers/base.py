"""What every certifier offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .region import Regions


class Certifier(Protocol):
    """Bounds linear functions of the logits from below over a region around each sample."""

    @property
    def name(self) -> str:
        """The name `certify(method=...)` knows it by."""
        ...

    def lower_bounds(
        self,
        graph: Graph,
        regions: Regions,
        spec: NDArray[np.float64],
        *,
        memory_limit: int | None = None,
    ) -> NDArray[np.float64]:
        """Return sound lower bounds of `spec @ logits`.

        Args:
            graph: the network.
            regions: one region a sample, n of them.
            spec: rows over the logits, float64 [n, m, K].
            memory_limit: bytes that intermediate coefficients may take.

        Returns:
            float64 [n, m]; `-inf` where nothing finite is known.
        """
        ...
