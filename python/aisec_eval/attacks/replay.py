"""Re-checks adversarial examples with code that did not search for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..threats import Corruptions, Spatial, ThreatModel, Transformation
from . import corruption_library, spatial_check
from .majority import Votes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .base import Problem
    from .target import Target


@dataclass(frozen=True)
class Replay:
    """Which candidates are adversarial examples, one row a candidate."""

    confirmed: NDArray[np.bool_]
    margin: NDArray[np.float64]
    """Upper bound of the margin (graphs), the margin of a batch of one (callables), or the median
    of several (randomised ones)."""
    reason: tuple[str, ...]
    """Why a candidate is refused; empty where it is confirmed."""
    forwards: NDArray[np.int64]
    """Calls of the model: of a randomised one, the draws it took to be sure."""


def replay(
    target: Target, problem: Problem, x_adv: NDArray[np.float32], transform: Sequence[str] = ()
) -> Replay:
    """Check norm, input range and a strictly negative margin, all without tolerance.

    Under threat models of transformations `transform` says which one made each candidate; it is
    computed again, see `refuse_transform`.

    Where the model has a graph the margin is bounded by float64 interval arithmetic; otherwise it
    is that of a fresh call on the candidate alone, in whatever precision the model has. Of a
    randomised model fresh calls must prove, at 99 % confidence, that the candidate is misclassified
    more often than not.
    """
    n = len(problem)
    graph = target.model.graph
    if graph is not None:
        from .._core import check_adversarial

        confirmed, margin, _, faults = check_adversarial(
            graph, problem.x, x_adv, problem.y, **problem.region
        )
        faults = [
            why or _untransformed(problem, i, x_adv[i], transform) for i, why in enumerate(faults)
        ]
        confirmed = np.array([not why for why in faults], np.bool_)
        return Replay(confirmed, margin, tuple(faults), np.zeros(n, np.int64))
    confirmed = np.zeros(n, np.bool_)
    margin = np.full(n, np.nan)
    forwards = np.zeros(n, np.int64)
    reasons = []
    for i in range(n):
        reason = _outside(problem, i, x_adv[i])
        reason = reason or _untransformed(problem, i, x_adv[i], transform)
        if not reason and target.random:
            votes = vote(target, problem.take([i]), x_adv[i : i + 1])
            margin[i], forwards[i] = votes.margin[0], votes.draws[0]
            if votes.decided[0] < 1 or not margin[i] < 0:
                reason = f"only {votes.wrong[0]} of {votes.draws[0]} draws are misclassified"
        elif not reason:
            logits = target.logits(x_adv[i : i + 1])
            margin[i], forwards[i] = margins(logits, problem.y[i : i + 1])[0], 1
            if not margin[i] < 0:
                reason = f"margin {margin[i]:.3g} of a fresh call is not negative"
        confirmed[i] = not reason
        reasons.append(reason)
    return Replay(confirmed, margin, tuple(reasons), forwards)


def vote(target: Target, problem: Problem, points: NDArray[np.float32]) -> Votes:
    """Draw from a randomised model until it is sure what it says of each point."""
    votes = Votes(len(problem), target.model.num_classes)

    def draw(rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        logits = target.logits(np.ascontiguousarray(points[rows]))
        return logits, margins(logits, problem.y[rows])

    votes.run(draw)
    return votes


def refuse_transform(
    threat: ThreatModel,
    clean: NDArray[np.float32],
    point: NDArray[np.float32],
    transform: str,
    *,
    seed: int,
    sample: int,
) -> str:
    """Say why a point is not what a transformation makes of a clean sample; empty where it is.

    Rotations and translations are computed again in float64 by other code
    (`spatial_check.TOLERANCE`); corruptions from the clean sample, seed and sample id by the
    library that defines them (`corruption_library.TOLERANCE`). The margin is that of the point
    itself. Threat models that are not of transformations refuse nothing here.
    """
    if isinstance(threat, Spatial):
        return spatial_check.refuse(threat, clean, point, transform)
    if isinstance(threat, Corruptions):
        return corruption_library.refuse(threat, clean, point, transform, seed=seed, sample=sample)
    return ""


def _untransformed(
    problem: Problem, row: int, point: NDArray[np.float32], transform: Sequence[str]
) -> str:
    if not isinstance(problem.threat, Transformation):
        return ""
    return refuse_transform(
        problem.threat,
        problem.x[row],
        point,
        transform[row] if transform else "",
        seed=problem.seed,
        sample=int(problem.ids[row]),
    )


def margins(logits: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return z_y - max_{i != y} z_i in float64 [n]; NaN where logits are NaN or +inf."""
    wide = logits.astype(np.float64)
    rows = np.arange(len(y))
    own = wide[rows, y]
    bad = np.isnan(wide).any(axis=1) | (wide == np.inf).any(axis=1)
    wide[rows, y] = -np.inf
    other = wide.max(axis=1)
    bad |= ~np.isfinite(own) | ~np.isfinite(other)
    with np.errstate(invalid="ignore"):
        return np.where(bad, np.nan, own - other)


def distances(x: NDArray[np.float32], x_adv: NDArray[np.float32], norm: str) -> NDArray[np.float64]:
    """Return the norm of each perturbation in float64 [n]; the largest coordinate for boxes.

    L0 counts coordinates that differ.
    """
    delta = np.abs(x_adv.astype(np.float64) - x.astype(np.float64)).reshape(len(x), -1)
    if norm == "l2":
        return np.asarray(np.sqrt((delta * delta).sum(axis=1)))
    if norm == "l0":
        return np.asarray((delta != 0).sum(axis=1), dtype=np.float64)
    return np.asarray(delta.sum(axis=1) if norm == "l1" else delta.max(axis=1))


def _outside(problem: Problem, row: int, point: NDArray[np.float32]) -> str:
    """Say in a few words why a point is not in the threat model; empty where it is."""
    region = problem.region
    wide = point.astype(np.float64)
    if not ((wide >= region["lower"]) & (wide <= region["upper"])).all():
        return "outside the input range"
    eps, clean = region["eps"], problem.x[row].astype(np.float64)
    if "constraint" in region:
        from .._core import check_constraint

        one = slice(row, row + 1)
        return check_constraint(problem.x[one], point[None], constraint=region["constraint"])[0]
    if region["norm"] == "box":
        return ""
    delta = wide - clean
    size = np.abs(delta)
    if region["norm"] == "l0":
        return "outside the norm ball" if (size != 0).sum() > eps else ""
    if region["norm"] == "linf":
        # Rounding to nearest hides an excess only at the radius itself: there the remainder of
        # the subtraction (Knuth's two-sum) decides.
        part = delta - wide
        remainder = (wide - (delta - part)) + (-clean - part)
        outside = (size > eps) | ((size == eps) & (remainder * np.sign(delta) > 0))
        return "outside the norm ball" if outside.any() else ""
    # Rounding makes a sum of n terms too small by at most a factor of 1 - (n + 2) 2^-53.
    slack = 1 + (size.size + 4) * 2.0**-52
    length = np.sqrt((size * size).sum()) if region["norm"] == "l2" else size.sum()
    return "outside the norm ball" if length * slack > eps else ""
