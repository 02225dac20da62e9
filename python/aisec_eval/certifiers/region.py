"""The inputs a certificate must cover, rounded outward to float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..threats import Box, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


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
    def around(x: NDArray[np.float32], threats: ThreatModel | Sequence[ThreatModel]) -> Regions:
        """Return the regions around the inputs [n, *input_shape].

        Args:
            x: the inputs.
            threats: one threat model for all, or one each; all of one norm.
        """
        each = [threats] if isinstance(threats, ThreatModel) else threats
        ends = [
            (threat.lower, threat.upper) if isinstance(threat, Box) else threat.bounds
            for threat in each
        ]
        lower, upper = np.empty(x.shape), np.empty(x.shape)
        for row, (low, high) in enumerate(ends):
            rows = slice(None) if isinstance(threats, ThreatModel) else row
            lower[rows], upper[rows] = low, high
        if isinstance(each[0], Box):
            return Regions(lower, upper)
        center = x.astype(np.float64, order="C")
        if isinstance(threats, ThreatModel):
            return Regions(lower, upper, center, threats.eps_upper, threats.norm)
        radius = np.array([threat.eps_upper for threat in each])
        return Regions(lower, upper, center, radius, each[0].norm)

    def ball(self, row: int) -> dict[str, Any]:
        """Return center, radius and norm of one region's ball by name; nothing without one."""
        if self.center is None:
            return {}
        radius = np.broadcast_to(self.radius, len(self.lower))[row]
        center = np.ascontiguousarray(self.center[row : row + 1])
        return {"center": center, "radius": float(radius), "norm": self.norm}


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
