"""Certified radii: each sample's distance to the decision boundary, bracketed from both sides."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..threats import L1, L2, Linf
from .alpha_crown import AlphaCROWN
from .attacking import broken, farthest, nearest
from .complete import Complete
from .crossing import CLOSE, Crossing, holds
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
APPROACHES = 4
"""Attacks on radii that branch and bound leaves open, at most."""
SHARE = 0.15
"""Of the seconds that branch and bound has for one radius, how many one of several gets."""
PATIENCE = 1.5
"""Times the seconds for one radius that all further radii of a sample get together."""


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
    clean: NDArray[np.float64],
    block: int,
    memory_limit: int | None,
    progress: Callable[[int, int, str], None] | None,
) -> Radii:
    """Bracket the distance to the boundary of samples the model is right about.

    From above minimum-norm attacks (DeepFool, FMN; re-checked in float64), from below bounds at
    radii that follow the smallest margin to where it crosses zero. Branch and bound begins where
    alpha-CROWN ends, each radius from the proof of the last one.

    Args:
        certifier: bounds margins from below.
        graph: the network.
        samples: n of them, all classified right.
        spec: margins of each, rows over the logits [n, K - 1, K].
        threats: one a sample, of one norm and input range; their radii are where margins are known
            already.
        margin: smallest margins over the threat models themselves [n].
        clean: smallest margins at the samples, about [n].
        block: samples to bound in one call.
        memory_limit: bytes that working memory may take.
        progress: called with rounds done, rounds in all.
    """
    threat = threats[0]
    found = nearest(graph, samples, threat)
    ends = np.where(np.isfinite(found), found, farthest(samples.x, threat))
    at = np.array([threat.eps_upper for threat in threats])
    quick = AlphaCROWN() if isinstance(certifier, Complete) else certifier

    def margins(rows: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.float64]:
        return _margins(quick, graph, samples.x, spec, threat, rows, at, block, memory_limit)

    crossing = Crossing(ends, clean, early=getattr(quick, "stop", False))
    if isinstance(certifier, Complete):
        # What branch and bound certified says little of the margin that is followed.
        crossing.low[holds(margin)] = at[holds(margin)]
        rows = np.arange(len(samples))
    else:
        rows = crossing.learn(np.arange(len(samples)), at, margin)
    for turn in range(ROUNDS):
        if len(rows) == 0:
            break
        if progress is not None:
            progress(turn, ROUNDS, f"radius, {len(rows)} samples")
        next_ = crossing.aim(rows)
        rows = crossing.learn(rows, next_, margins(rows, next_))
    low = crossing.low
    if isinstance(certifier, Complete):
        for row in range(len(samples)):
            if progress is not None:
                progress(row, len(samples), "radius")
            sample = samples.take(np.array([row]))
            tree = _Tree(certifier, graph, sample, spec[row], threat, memory_limit)
            tree.nearest = float(found[row])
            low[row] = tree.climb(float(low[row]), float(ends[row]))
            found[row] = tree.nearest
    # A radius is certified for the ball that was bounded; there is no going beyond an example.
    return Radii(low, found)


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
        """Distance of the nearest counterexample known."""
        self._certifier, self._graph, self._sample = certifier, graph, sample
        self._spec, self._threat, self._memory_limit = spec, threat, memory_limit
        self._proof: SplitProof | None = None

    def climb(self, low: float, high: float) -> float:
        """Return the largest radius that is proven, from one that is and one that is not."""
        whole = self._certifier.timeout
        end = time.monotonic() + PATIENCE * whole
        while high - low > CLOSE * high:
            seconds = min(SHARE * whole, end - time.monotonic())
            if seconds <= 0:
                break
            # Either answer is final, so that margins tell nothing.
            middle = (low + high) / 2
            if self._proves(middle, seconds):
                low = middle
            else:
                high = min(middle, self.nearest)
        self._approach(high)
        return low

    def _approach(self, open_: float) -> None:
        """Attack radii between one that is not proven and the nearest counterexample's."""
        for _ in range(APPROACHES):
            if not open_ < self.nearest * (1 - CLOSE) < np.inf:
                break
            before = self.nearest
            self._attack((open_ + before) / 2)
            if self.nearest >= before:
                break

    def _proves(self, at: float, seconds: float) -> bool:
        whole = Regions.around(self._sample.x, self._threat)
        regions = Regions(whole.lower, whole.upper, whole.center, np.array([at]), whole.norm)
        found = replace(self._certifier, timeout=seconds).decide(
            self._graph, regions, self._spec, start=self._proof, memory_limit=self._memory_limit
        )
        if found.answer == "refuted":
            self._proof = found.proof or self._proof
            return True
        if found.point is not None:
            self.nearest = min(self.nearest, self._distance(found.point))
        else:
            self._attack(at)
        return False

    def _attack(self, at: float) -> None:
        threat = replace(self._threat, eps=Fraction(at))
        for point in broken(self._graph, self._sample, [threat]).values():
            self.nearest = min(self.nearest, self._distance(point))

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
