"""Evidence on the integer lattice: adversarial examples that integer data can hold.

Images are integers before they are floats. An adversarial example between two levels is gone once
it is saved; one on the lattice is a picture. What the attacks found is moved to lattice points of
the threat model, searched from there where the move undoes it, and re-checked like everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from ..errors import InputError
from ..lattice import Lattice
from .replay import distances, margins, replay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..datasets import Dataset
    from .base import Problem
    from .target import Target

STEPS = 32
"""Steps of the search that follows where rounding is not enough."""
_SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Parts of the coordinates that a step moves, from all to those with the steepest slopes."""


def spacing_of(data: Dataset) -> Fraction | None:
    """Return the spacing of a dataset's values, None where float32 does not tell them apart."""
    if data.lattice is None:
        return None
    try:
        Lattice.of(data.lattice).check(data.x)
    except InputError:
        return None
    return data.lattice


@dataclass(frozen=True)
class Settled:
    """Evidence on the lattice, one row a sample of the problem."""

    x: NDArray[np.float32]
    survived: NDArray[np.bool_]
    """Whether `x` is an adversarial example on the lattice; elsewhere nothing is known of it."""
    margin: NDArray[np.float64]
    forwards: NDArray[np.int64]
    gradients: NDArray[np.int64]
    draws: NDArray[np.int64]
    """Calls of the model that confirmed `x`."""


def settle(
    target: Target, problem: Problem, x_adv: NDArray[np.float32], lattice: Lattice
) -> Settled:
    """Look for adversarial examples on the lattice near given ones.

    Args:
        target: the model.
        problem: the samples, on the lattice themselves.
        x_adv: an adversarial example of each [m, *input_shape].
        lattice: where the evidence is to lie.

    Returns:
        What was found; rows depend on nothing but themselves.
    """
    region = _Region.of(problem, lattice)
    level = region.nearest(lattice.levels(x_adv))
    n = len(problem)
    forwards, gradients = np.zeros(n, np.int64), np.zeros(n, np.int64)
    survived = np.zeros(n, np.bool_)
    margin = np.full(n, np.inf)
    draws = np.zeros(n, np.int64)

    def check(rows: NDArray[np.int64]) -> None:
        checked = replay(target, problem.take(rows), lattice.values(level[rows]))
        forwards[rows] += checked.forwards
        draws[rows] = checked.forwards
        survived[rows], margin[rows] = checked.confirmed, checked.margin

    check(np.arange(n))
    rows = np.flatnonzero(~survived)
    if len(rows) and target.kind != "callable":
        level[rows], spent = _search(target, problem.take(rows), region.take(rows), level[rows])
        forwards[rows] += spent[0]
        gradients[rows] += spent[1]
        check(rows)
    return Settled(lattice.values(level), survived, margin, forwards, gradients, draws)


@dataclass(frozen=True)
class _Region:
    """The lattice points of the threat model around each sample, as levels."""

    problem: Problem
    lattice: Lattice
    clean: NDArray[np.int64]
    low: NDArray[np.int64]
    """Lowest level of each coordinate, whatever the others do; `high` is the highest."""
    high: NDArray[np.int64]

    @staticmethod
    def of(problem: Problem, lattice: Lattice) -> _Region:
        clean = lattice.levels(problem.x)
        low, high = (_ends(problem, lattice, clean, side) for side in (-1, 1))
        return _Region(problem, lattice, clean, low, high)

    def take(self, rows: NDArray[np.int64]) -> _Region:
        """Return the region of some of the samples."""
        problem, clean = self.problem.take(rows), self.clean[rows]
        return _Region(problem, self.lattice, clean, self.low[rows], self.high[rows])

    def nearest(self, level: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return points of the region near the given ones.

        Where they are outside the norm ball the perturbation is scaled down, in steps of 1/64, as
        little as brings it back.
        """
        norm, eps = self.problem.region["norm"], self.problem.region["eps"]
        level = np.clip(level, self.low, self.high)
        if norm not in ("l2", "l1"):
            return level
        x, long = self.problem.x, level - self.clean
        for part in range(63, -1, -1):
            away = distances(x, self.lattice.values(level), norm)
            rows = np.flatnonzero(away > eps * (1 - 1e-9))
            if len(rows) == 0:
                break
            level[rows] = self.clean[rows] + np.rint(long[rows] * (part / 64)).astype(np.int64)
        return level


def _ends(
    problem: Problem, lattice: Lattice, clean: NDArray[np.int64], side: int
) -> NDArray[np.int64]:
    """Return the last level on one side (-1 or 1) that each coordinate alone may take."""
    region, spacing = problem.region, lattice.spacing
    bound = np.asarray(region["lower" if side < 0 else "upper"])
    ends = np.empty(bound.shape, np.int64)
    for at, value in np.ndenumerate(bound):
        scaled = Fraction(float(value)) / spacing
        ends[at] = ceil(scaled) if side < 0 else floor(scaled)
    # The float32 nearest to a level inside may lie outside.
    ends = ends - side * (side * (lattice.values(ends).astype(np.float64) - bound) > 0)
    ends = np.broadcast_to(ends, clean.shape)
    if region["norm"] == "linf":
        away = clean + side * floor(problem.threat.eps / spacing)
        ends = np.maximum(ends, away) if side < 0 else np.minimum(ends, away)
        values = lattice.values(ends)
        ends = ends - side * (_core.project(problem.x, values, **region) != values)
    return ends


def _search(
    target: Target, problem: Problem, region: _Region, level: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Descend the margin by whole levels; return the points reached and what they cost."""
    lattice, n = region.lattice, len(problem)
    forwards, gradients = np.zeros(n, np.int64), np.zeros(n, np.int64)
    level = level.copy()
    logits = target.logits(lattice.values(level))
    forwards += 1
    margin = np.nan_to_num(margins(logits, problem.y), nan=np.inf)
    share = np.zeros(n, np.int64)
    # L0, patches: only coordinates that are changed already may change further.
    sparse = problem.region["norm"] == "l0" or "constraint" in problem.region
    fixed = level == region.clean if sparse else np.zeros(level.shape, bool)
    gradient = np.zeros(level.shape, np.float32)
    stale = np.ones(n, np.bool_)
    for _ in range(STEPS):
        rows = np.flatnonzero((margin >= 0) & np.isfinite(margin) & (share < len(_SHARES)))
        if len(rows) == 0:
            break
        old = rows[stale[rows]]
        if len(old):
            gradient[old] = _gradient(
                target, lattice.values(level[old]), logits[old], problem.y[old]
            )
            gradients[old] += 1
            forwards[old] += 1
        stale[rows] = False
        step = -np.sign(gradient[rows]).astype(np.int64)
        step[fixed[rows]] = 0
        step *= _steepest(gradient[rows] * (step != 0), share[rows])
        trial = region.take(rows).nearest(level[rows] + step)
        new = target.logits(lattice.values(trial))
        forwards[rows] += 1
        reached = np.nan_to_num(margins(new, problem.y[rows]), nan=np.inf)
        better = reached < margin[rows]
        won = rows[better]
        level[won], margin[won], logits[won] = trial[better], reached[better], new[better]
        stale[won] = True
        share[rows[~better]] += 1
    return level, (forwards, gradients)


def _steepest(gradient: NDArray[np.float32], share: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which coordinates are among the part with the steepest slopes, row by row."""
    slope = np.abs(gradient).reshape(len(gradient), -1)
    ranked = np.sort(slope, axis=1)[:, ::-1]
    count = np.ceil(np.array(_SHARES)[share] * slope.shape[1]).astype(np.int64)
    threshold = ranked[np.arange(len(slope)), count - 1]
    return np.asarray((slope >= threshold[:, None]).reshape(gradient.shape))


def _gradient(
    target: Target, x: NDArray[np.float32], logits: NDArray[np.float32], y: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the gradient of the margin `z_y - max_{i != y} z_i` [m, *input_shape]."""
    rows = np.arange(len(y))
    others = logits.copy()
    others[rows, y] = -np.inf
    cotangent = np.zeros_like(logits)
    cotangent[rows, y] = 1
    cotangent[rows, others.argmax(axis=1)] = -1
    batches = range(0, len(x), target.batch)
    parts = (slice(first, first + target.batch) for first in batches)
    return np.concatenate([_pull(target, x[part], cotangent[part]) for part in parts])


def _pull(
    target: Target, x: NDArray[np.float32], cotangent: NDArray[np.float32]
) -> NDArray[np.float32]:
    graph = target.model.graph
    if target.kind == "native" and graph is not None:
        return graph.value_and_vjp(x, cotangent)[1]
    return target.gradient(x, lambda _: cotangent)
