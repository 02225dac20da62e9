"""Certified radii: each sample's distance to the decision boundary, bracketed from both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..threats import L1, L2, Linf
from .attacking import broken, farthest, nearest
from .complete import Complete
from .region import Regions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from aisec_eval._core import Graph, SplitProof

    from .._validate import Samples
    from ..threats import ThreatModel
    from .base import Certifier

ROUNDS = 12
"""Most radii that are tried for a sample."""
FURTHER = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
"""What a counterexample on the boundary is moved outward by, until it is one in float32."""
CLOSE = 0.01
"""Relative distance of the certified from the refuted radius at which a sample is done."""


@dataclass(frozen=True)
class Radii:
    """A bracket of each sample's distance to the boundary [n]."""

    certified: NDArray[np.float64]
    """Nothing nearer changes the label, in real arithmetic; 0 where nothing is certified."""
    upper: NDArray[np.float64]
    """Distance of an adversarial example, rounded up; inf where none was found."""


def check_threat(threat: ThreatModel) -> None:
    """Refuse threat models without a radius.

    Raises:
        InputError: not `Linf`, `L2` or `L1`.
    """
    if not isinstance(threat, Linf | L2 | L1):
        raise InputError(f"radius=True needs Linf, L2 or L1, not {threat.norm}: it has no radius")


def bracket_radii(
    certifier: Certifier,
    graph: Graph,
    samples: Samples,
    spec: NDArray[np.float64],
    threats: Sequence[ThreatModel],
    margin: NDArray[np.float64],
    *,
    block: int,
    memory_limit: int | None,
    progress: Callable[[int, int, str], None] | None,
) -> Radii:
    """Bracket the distance to the boundary of samples the model is right about.

    From above minimum-norm attacks (DeepFool, FMN; re-checked in float64), from below bounds at
    radii between: the smallest margin falls with the radius, so each next radius is where a line
    through the two nearest known margins crosses zero, kept away from both ends (Illinois rule).

    Args:
        certifier: bounds margins from below.
        graph: the network.
        samples: n of them, all classified right.
        spec: margins of each, rows over the logits [n, K - 1, K].
        threats: one a sample, of one norm and input range; their radii are where margins are known
            already.
        margin: smallest margins over the threat models themselves [n].
        block: samples to bound in one call.
        memory_limit: bytes that working memory may take.
        progress: called with rounds done, rounds in all.
    """
    threat = threats[0]
    found = nearest(graph, samples, threat)
    ends = np.where(np.isfinite(found), found, farthest(samples.x, threat))
    at = np.array([threat.eps_upper for threat in threats])
    if isinstance(certifier, Complete):
        # One sample after the other: each radius goes on from what the last one was proven by.
        low = np.zeros(len(samples))
        for row in range(len(samples)):
            if progress is not None:
                progress(row, len(samples), "radius")
            one = slice(row, row + 1)
            sample = samples.take(np.array([row]))
            tree = _Tree(certifier, graph, sample, spec[row], threat, memory_limit)
            low[one] = _bracket(tree, ends[one], at[one], margin[one], None)
            found[row] = min(found[row], tree.nearest)
        return Radii(low, found)

    def margins(rows: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.float64]:
        return _margins(certifier, graph, samples.x, spec, threat, rows, at, block, memory_limit)

    # A radius is certified for the ball that was bounded; there is no going beyond an example.
    return Radii(_bracket(margins, ends, at, margin, progress), found)


def _bracket(
    margins: Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]],
    high: NDArray[np.float64],
    at: NDArray[np.float64],
    value: NDArray[np.float64],
    progress: Callable[[int, int, str], None] | None,
) -> NDArray[np.float64]:
    """Return certified radii, from radii above and a radius with its margin."""
    n = len(high)
    low = np.zeros(n)
    below, above = np.full(n, np.inf), np.full(n, -np.inf)
    rows = np.arange(n)
    for turn in range(ROUNDS):
        # A comparison with NaN is false, and a bound that is not finite proves nothing.
        holds = (value > 0) & np.isfinite(value)
        better, worse = holds & (at > low[rows]), ~holds & (at < high[rows])
        # An end that stays twice counts half: the line bends towards it.
        above[rows[better]] /= 2
        below[rows[worse]] /= 2
        low[rows[better]], below[rows[better]] = at[better], value[better]
        high[rows[worse]], above[rows[worse]] = at[worse], value[worse]
        rows = np.flatnonzero(high - low > CLOSE * high)
        if len(rows) == 0:
            break
        if progress is not None:
            progress(turn, ROUNDS, f"radius, {len(rows)} samples")
        at = _between(low[rows], high[rows], below[rows], above[rows])
        value = margins(rows, at)
        if isinstance(margins, _Tree):
            high[:] = np.minimum(high, margins.nearest)
    return low


class _Tree:
    """Margins of one sample by branch and bound, each radius from the tree of the last one.

    The ends of a tree of signs cover a ball of any radius, so what the largest certified radius was
    proven by, slopes and splits, is where the next radius begins; that is always a larger one.
    """

    def __init__(
        self,
        certifier: Complete,
        graph: Graph,
        sample: Samples,
        spec: NDArray[np.float64],
        threat: ThreatModel,
        memory_limit: int | None,
    ) -> None:
        self.nearest = np.inf
        """Distance of the nearest counterexample met on the way."""
        self._certifier, self._graph, self._sample = certifier, graph, sample
        self._spec, self._threat, self._memory_limit = spec, threat, memory_limit
        self._proof: SplitProof | None = None

    def __call__(self, _: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = Regions.around(self._sample.x, self._threat)
        regions = Regions(whole.lower, whole.upper, whole.center, at, whole.norm)
        found = self._certifier.decide(
            self._graph, regions, self._spec, start=self._proof, memory_limit=self._memory_limit
        )
        if found.answer == "refuted":
            self._proof = found.proof or self._proof
            return np.array([found.bound])
        if found.point is not None:
            self.nearest = min(self.nearest, self._distance(found.point))
        else:
            threat = replace(self._threat, eps=Fraction(float(at[0])))
            for point in broken(self._graph, self._sample, [threat]).values():
                self.nearest = min(self.nearest, self._distance(point))
        # Either answer is final, so that margins tell nothing: the next radius is in the middle.
        return np.array([-np.inf])

    def _distance(self, point: NDArray[Any]) -> float:
        from .._core import check_adversarial

        low, high = self._threat.bounds
        sample = self._sample
        center = sample.x.astype(np.float64)
        step = point.reshape(sample.x.shape) - center
        for further in FURTHER:
            shaped = np.clip(center + (1 + further) * step, low, high).astype(np.float32)
            holds, _, distance, _ = check_adversarial(
                self._graph,
                sample.x,
                shaped,
                sample.y,
                norm=self._threat.norm,
                lower=low,
                upper=high,
                eps=np.inf,
            )
            if holds[0]:
                return float(distance[0])
        return np.inf


def _between(
    low: NDArray[Any], high: NDArray[Any], below: NDArray[Any], above: NDArray[Any]
) -> NDArray[np.float64]:
    width = high - low
    with np.errstate(invalid="ignore"):
        share = below / (below - above)
    # Nothing is known of an end that was never bounded; a tenth is kept from either.
    share = np.where(np.isfinite(share) & np.isfinite(above), np.clip(share, 0.1, 0.9), 0.5)
    return np.asarray(low + share * width, dtype=np.float64)


def _margins(
    certifier: Certifier,
    graph: Graph,
    x: NDArray[np.float32],
    spec: NDArray[np.float64],
    threat: ThreatModel,
    rows: NDArray[np.int64],
    radius: NDArray[np.float64],
    block: int,
    memory_limit: int | None,
) -> NDArray[np.float64]:
    smallest = np.empty(len(rows))
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        whole = Regions.around(x[part], threat)
        chosen = np.ascontiguousarray(radius[start : start + block])
        regions = Regions(whole.lower, whole.upper, whole.center, chosen, whole.norm)
        bounds = certifier.lower_bounds(graph, regions, spec[part], memory_limit=memory_limit)
        smallest[start : start + len(part)] = bounds.min(axis=1, initial=np.inf)
    return smallest
