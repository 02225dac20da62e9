"""The inputs a certificate must cover, rounded outward to float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..threats import Box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..threats import ThreatModel


@dataclass(frozen=True)
class Regions:
    """A box for each sample, cut with a norm ball around `center` unless that is None.

    Real inputs of the threat model lie inside: `radius` is rounded up, corners outward.
    """

    lower: NDArray[np.float64]
    """[n, *input_shape]"""
    upper: NDArray[np.float64]
    center: NDArray[np.float64] | None = None
    radius: float | NDArray[np.float64] = 0.0
    """One for all samples, or one each [n]."""
    norm: str = "linf"

    @staticmethod
    def around(x: NDArray[np.float32], threat: ThreatModel) -> Regions:
        """Return the threat model's region around each of the inputs [n, *input_shape]."""
        if isinstance(threat, Box):
            low, high = threat.lower, threat.upper
        else:
            low, high = (np.asarray(bound, dtype=np.float64) for bound in threat.bounds)
        lower = np.ascontiguousarray(np.broadcast_to(low, x.shape))
        upper = np.ascontiguousarray(np.broadcast_to(high, x.shape))
        if isinstance(threat, Box):
            return Regions(lower, upper)
        center = np.ascontiguousarray(x, dtype=np.float64)
        return Regions(lower, upper, center, threat.eps_upper, threat.norm)


def describe(threat: ThreatModel) -> Mapping[str, Any]:
    """Return the region in exact terms, for certificates: norm, radius and range as text."""
    if isinstance(threat, Box):
        corners = {
            "lower": [float(v).hex() for v in threat.lower.ravel()],
            "upper": [float(v).hex() for v in threat.upper.ravel()],
        }
        return {"norm": "box", **corners}
    return {
        "norm": threat.norm,
        "eps": str(threat.eps),
        "bounds": [float(bound).hex() for bound in threat.bounds],
    }
