"""The portfolio behind method "fast": attacks that miss different things, cheap ones first.

Every stage gets the samples that the ones before have not broken, and spends by what those have
seen of each sample: long searches go to samples near the boundary, further starts to samples whose
nearest adversarial example is not far outside the threat model, queries to samples whose margin
they move. Each decision reads one sample only, so that results depend neither on the others nor on
their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from .. import _core
from .apgd import APGD
from .base import FOUND, Found
from .engine import NativeAttack, run_native, search
from .evolution import Evolution
from .fab import FABT
from .fmn import FMN
from .hop_skip_jump import HopSkipJump
from .rays import RayS
from .replay import distances, margins
from .selected import STUCK, Flat, Near, Unfinished, add, best_margins, clean_margins
from .sigma_zero import SigmaZero
from .sparse_rs import SparseRS
from .square import Square

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..threats import ThreatModel
    from .base import Attack, Problem
    from .target import Target

_RANKED = 9
"""Most classes whose linearised distance is computed, those with the largest logits."""
_MOVED = 0.01
"""A search that lowers the margin by this part of it is worth going on with."""


@dataclass(frozen=True)
class Targeted(NativeAttack):
    """APGD on one other class after another, those first whose boundary is nearest.

    Distances are those of the linearised network at the clean input, `margin / ||gradient||` in
    the dual norm (MALT: Melamed, Yehudai & Vardi 2024, arXiv:2407.02240).
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")

    objective: Literal["margin", "dlr"]
    steps: int
    targets: int
    restarts: int = 1
    large_radius: bool = False
    """L1 only: begin at three, then two times the radius."""

    @property
    def name(self) -> str:
        """`apgd-margin-t`, or `apgd-t` for the difference of logits ratio."""
        return "apgd-margin-t" if self.objective == "margin" else "apgd-t"

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {"steps": self.steps, "large_radius": self.large_radius}

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        found = Found.nothing(problem)
        order, cost = nearest_classes(target, problem)
        found.forwards[:] += cost
        found.gradients[:] += cost
        for classes in order.T[: self.targets]:
            rows = np.flatnonzero(found.status != FOUND)
            if len(rows) == 0:
                break
            part = problem.take(rows)
            add(found, rows, search(self, target, part, restart, targets=classes[rows]))
        return found


def nearest_classes(target: Target, problem: Problem) -> tuple[NDArray[np.int64], int]:
    """Return the other classes [m, most], nearest boundary first, and what a sample cost."""
    x, y, rows = problem.x, problem.y, np.arange(len(problem))
    assert problem.clean is not None  # noqa: S101 - the driver gives it
    logits = problem.clean.astype(np.float64)
    own = logits[rows, y].copy()
    logits[rows, y] = -np.inf
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, : min(_RANKED, logits.shape[1] - 1)]
    if ranked.shape[1] == 1:
        return ranked, 0
    away = np.empty(ranked.shape)
    for rank, classes in enumerate(ranked.T):
        cotangent = np.zeros(logits.shape, np.float32)
        cotangent[rows, y] = 1
        cotangent[rows, classes] = -1
        gradient = np.concatenate(
            [
                _gradient(target, x[i : i + target.batch], cotangent[i : i + target.batch])
                for i in range(0, len(x), target.batch)
            ]
        )
        size = _dual(gradient.reshape(len(x), -1).astype(np.float64), problem.threat.norm)
        with np.errstate(divide="ignore", invalid="ignore"):
            away[:, rank] = (own - logits[rows, classes]) / size
    # Without a gradient a class is infinitely far, or nothing is known of it.
    order = np.argsort(np.where(np.isnan(away), np.inf, away), axis=1, kind="stable")
    return np.take_along_axis(ranked, order, axis=1), ranked.shape[1]


def _gradient(
    target: Target, x: NDArray[np.float32], cotangent: NDArray[np.float32]
) -> NDArray[np.float32]:
    if target.kind == "native":
        graph = target.model.graph
        assert graph is not None  # noqa: S101 - `kind` says so
        return graph.value_and_vjp(x, cotangent)[1]
    return target.gradient(x, lambda _: cotangent)


def _dual(gradient: NDArray[np.float64], norm: str) -> NDArray[np.float64]:
    if norm == "l2":
        return np.asarray(np.sqrt((gradient * gradient).sum(axis=1)))
    size = np.abs(gradient)
    return np.asarray(size.max(axis=1) if norm == "l1" else size.sum(axis=1))


@dataclass(frozen=True)
class DataStarts(FMN):
    """FMN from the nearest samples of other classes, for as long as it ends near the radius.

    The first start is for every sample, the second for samples with an adversarial example within
    twice `reach` radii, the next ones for those with one within `reach`.
    """

    reach: float = 1.5

    @property
    def restarts(self) -> int:
        """One: the starts are taken in turn within a run."""
        return 1

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {name: value for name, value in super().options.items() if name != "reach"}

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem from as many starts as it is worth."""
        found = Found.nothing(problem)
        if problem.pool is None:
            return found
        norm, eps = problem.threat.norm, problem.region["eps"]
        starts = problem.pool.nearest(problem.x, problem.y, norm, self.starts)
        nearest = np.full(len(problem), np.inf)
        for turn, start in enumerate(starts.T, 1):
            reach = {1: np.inf, 2: 2 * self.reach}.get(turn, self.reach)
            worth = (turn == 1) | (nearest <= reach * eps)
            rows = np.flatnonzero(worth & (found.status != FOUND) & (start >= 0))
            if len(rows) == 0:
                break
            part = problem.take(rows)
            points = problem.pool.x[start[rows]]
            one = run_native(self, target, part, restart * self.starts + turn, starts=points)
            away = np.where(one.status == FOUND, distances(part.x, one.x, norm), np.inf)
            nearest[rows] = np.minimum(nearest[rows], away)
            outside = away > eps
            one.x[outside] = part.x[outside]
            one.margin[outside] = np.inf
            one.status[outside & (one.status == FOUND)] = 0
            _deepen(target, part, one)
            add(found, rows, one)
        return found


def _deepen(target: Target, problem: Problem, found: Found) -> None:
    """Stretch perturbations to the whole radius: nearest points lie right behind the boundary."""
    if problem.threat.norm == "l0" or len(rows := np.flatnonzero(found.status == FOUND)) == 0:
        return
    clean, region = problem.x[rows], problem.region
    away = distances(clean, found.x[rows], problem.threat.norm)
    scale = (region["eps"] / np.maximum(away, 1e-30)).reshape(-1, *[1] * (clean.ndim - 1))
    far = (clean + scale * (found.x[rows].astype(np.float64) - clean)).astype(np.float32)
    far = _core.project(clean, far, **region)
    margin = margins(target.logits(far), problem.y[rows])
    found.forwards[rows] += 1
    better = margin < found.margin[rows]
    found.x[rows[better]], found.margin[rows[better]] = far[better], margin[better]


@dataclass(frozen=True)
class Boundary(FABT):
    """FAB-T in L2 and L1, where it comes out where no descent does; in Linf APGD finds as much."""

    norms: ClassVar[tuple[str, ...]] = ("l2", "l1")

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once, towards the class of this run."""
        found = super().run(target, problem, restart)
        _deepen(target, problem, found)
        return found


@dataclass(frozen=True)
class Persistent(Square):
    """Square from the best point so far, on samples whose margin it moves.

    Samples that no gradient has moved, and those of models without gradients, get the whole
    attack from its own start.

    Args:
        queries, p_init: of the whole attack.
        glance: queries after which a sample whose margin did not move at all is left.
        probe: more queries, after which one whose margin did not move enough is left.
        more: queries of the samples whose margin did.
        part: as `p_init`, for searches that begin at the best point.
    """

    glance: int = 100
    probe: int = 150
    more: int = 3500
    part: float = 0.1

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        found = Found.nothing(problem)
        before = best_margins(problem)
        stuck = before >= (1 - STUCK) * clean_margins(problem)
        whole, rows = np.flatnonzero(stuck), np.flatnonzero(~stuck)
        if len(whole):
            plain = Square(self.queries, self.p_init)
            add(found, whole, search(plain, target, problem.take(whole), restart))
        # Each search begins where the one before has ended.
        for turn, (queries, least) in enumerate(
            ((self.glance, 0.0), (self.probe, _MOVED), (self.more, 1.0)), 1
        ):
            if len(rows) == 0:
                break
            better = (found.margin < before)[rows].reshape(-1, *[1] * (problem.x.ndim - 1))
            assert problem.best is not None  # noqa: S101 - the driver gives it
            starts = np.where(better, found.x[rows], problem.best[rows])
            attack = Square(queries, self.part)
            one = search(attack, target, problem.take(rows), 3 * restart + turn, starts=starts)
            add(found, rows, one)
            left = found.status[rows] != FOUND
            rows = rows[left & (found.margin[rows] < (1 - least) * before[rows])]
        return found


@dataclass(frozen=True)
class Fresh(Square):
    """Square from its own start, on samples where it keeps up with the attacks before.

    Args:
        queries, p_init: of the whole attack.
        probe: queries after which a sample is left whose margin it has lowered by less than
            `part` of what the attacks before have lowered it by.
        part: see `probe`.
    """

    probe: int = 1000
    part: float = 2 / 3

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        found = search(Square(self.probe, self.p_init), target, problem, restart)
        clean, best = clean_margins(problem), best_margins(problem)
        keeps_up = clean - found.margin >= self.part * (clean - best)
        rows = np.flatnonzero(keeps_up & (found.status != FOUND))
        if len(rows):
            whole = Square(self.queries, self.p_init)
            add(found, rows, search(whole, target, problem.take(rows), restart))
        return found


_STAGES: tuple[Attack, ...] = (
    APGD("margin", steps=20),
    Targeted("margin", steps=25, targets=2),
    SigmaZero(),
    DataStarts(steps=40, starts=9),
    Boundary(targets=9, steps=50),
    Near(Targeted("dlr", steps=100, targets=2, restarts=2), within=0.3),
    Near(APGD("ce", steps=100), within=0.3),
    Near(APGD("margin", steps=50), within=0.3, from_best=True),
    Unfinished(APGD("margin", steps=100)),
    Persistent(),
    Flat(RayS()),
    Flat(HopSkipJump()),
    Near(APGD("margin", steps=100), within=0.15, from_best=True),
    Near(Targeted("dlr", steps=100, targets=3, restarts=3), within=0.1, first=2000),
    Near(Fresh(), within=0.15),
    SparseRS(),
    Evolution(),
)


_STAGES_L1: tuple[Attack, ...] = (
    APGD("margin", steps=50, large_radius=True),
    Targeted("margin", steps=40, targets=2, large_radius=True),
    Boundary(targets=3, steps=50),
    DataStarts(steps=100, starts=9),
    APGD("ce", steps=100, restarts=3, large_radius=True),
    Targeted("dlr", steps=100, targets=3, large_radius=True),
    Near(APGD("margin", steps=100), within=0.3, from_best=True),
    Unfinished(APGD("margin", steps=100)),
    Persistent(),
    Near(Targeted("dlr", steps=100, targets=5, restarts=2, large_radius=True), within=0.1),
    Near(Fresh(), within=0.15),
)
"""From inside an L1 ball a step moves a few coordinates; from larger balls it comes back."""


_LIGHT: tuple[Attack, ...] = (
    *_STAGES[:3],
    DataStarts(steps=40, starts=3),
    Near(Targeted("dlr", steps=50, targets=2), within=0.3),
    Persistent(glance=60, probe=100, more=200),
    SparseRS(queries=500),
    Evolution(queries=500),
)


_LIGHT_L1: tuple[Attack, ...] = (
    *_STAGES_L1[:3],
    DataStarts(steps=100, starts=3),
    Near(Targeted("dlr", steps=50, targets=2, large_radius=True), within=0.3),
    Persistent(glance=60, probe=100, more=200),
)


def light(threat: ThreatModel) -> tuple[Attack, ...]:
    """Return the stages of method "light": those of "fast" without its long searches."""
    stages = _LIGHT_L1 if threat.norm == "l1" else _LIGHT
    return tuple(a for a in stages if threat.norm in getattr(a, "norms", ()))


def fast(threat: ThreatModel) -> tuple[Attack, ...]:
    """Return the stages of method "fast": those that are defined for the norm."""
    stages = _STAGES_L1 if threat.norm == "l1" else _STAGES
    return tuple(a for a in stages if threat.norm in getattr(a, "norms", ()))


_BY_LABELS: tuple[Attack, ...] = (RayS(), HopSkipJump())


def by_labels(threat: ThreatModel) -> tuple[Attack, ...]:
    """Return what "fast" and "light" are on models that give labels only."""
    return tuple(a for a in _BY_LABELS if threat.norm in getattr(a, "norms", ()))
