"""Rotations and translations: the grid of them, and the worst of a few at random."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .. import _core
from .._validate import check_count
from ..threats import Spatial
from .base import FAILED, FOUND, Found
from .custom import CLEAR
from .images import as_given, channels_first, image_shape
from .replay import margins
from .spatial_check import spell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..threats import ThreatModel
    from .base import Problem
    from .target import Target

CHUNK = 32
"""Transformations tried on a sample before it is asked whether it is broken."""


class _Transforming:
    """An attack that tries a list of transformations on every sample."""

    needs_gradient: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("spatial",)
    restarts: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """The name in results."""
        raise NotImplementedError

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None."""
        if not isinstance(threat, Spatial):
            return f"it is for rotations and translations, not {threat.norm}; give it ae.Spatial"
        if image_shape(target.model.input_shape) is None:
            shape = list(target.model.input_shape)
            return f"inputs of shape {shape} are no images; give it [channels, height, width]"
        return None

    def transformations(self, problem: Problem, threat: Spatial) -> NDArray[np.float64]:
        """Return rotation, right and down of every transformation to try [m or 1, k, 3]."""
        raise NotImplementedError

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        del restart
        threat = problem.threat
        assert isinstance(threat, Spatial)  # noqa: S101 - `unsupported` says so
        tried = self.transformations(problem, threat)
        found = Found.nothing(problem)
        best = np.zeros((len(problem), 3))
        block = max(1, target.batch // CHUNK)
        for start in range(0, len(problem), block):
            rows = np.arange(start, min(start + block, len(problem)))
            for first in range(0, tried.shape[1], CHUNK):
                chosen = tried[rows if len(tried) > 1 else np.zeros_like(rows)]
                chunk = chosen[:, first : first + CHUNK]
                clear = _try(target, problem, rows, chunk, found, best)
                rows = rows[~clear]
                if len(rows) == 0:
                    break
        found.status[found.margin < 0] = FOUND
        return Found(
            **{name: getattr(found, name) for name in ("x", "margin", "status", "forwards")},
            gradients=found.gradients,
            queries=found.queries,
            transform=tuple(map(spell, best)),
        )


@dataclass(frozen=True)
class SpatialGrid(_Transforming):
    """Grid search (Engstrom et al. 2019, arXiv:1712.02779), the largest transformations first.

    A sample is left at its first success. What is not on the grid is not tried: no bound follows.

    Args:
        rotations: evenly spaced angles from -max_rotation to max_rotation.
        translations: evenly spaced shifts along each axis.

    Raises:
        InputError: a count below 1.
    """

    rotations: int = 31
    translations: int = 5

    def __post_init__(self) -> None:
        check_count("rotations", self.rotations)
        check_count("translations", self.translations)

    @property
    def name(self) -> str:
        """The name in results: `spatial-grid`."""
        return "spatial-grid"

    def transformations(self, problem: Problem, threat: Spatial) -> NDArray[np.float64]:
        """Return the grid [1, rotations * translations ** 2, 3]."""
        del problem
        angles = _spaced(threat.max_rotation, self.rotations)
        shifts = _spaced(threat.max_translation, self.translations)
        grid = np.stack(np.meshgrid(angles, shifts, shifts, indexing="ij"), axis=-1)
        grid = grid.reshape(-1, 3)
        limits = np.array([angles.max(), shifts.max(), shifts.max()])
        size = np.abs(grid / np.where(limits > 0, limits, 1)).sum(axis=1)
        return np.asarray(grid[np.argsort(-size, kind="stable")][None])


@dataclass(frozen=True)
class WorstOfK(_Transforming):
    """Worst of `k` random transformations (Engstrom et al. 2019, arXiv:1712.02779).

    Uniform in the limits, drawn for every sample by seed and sample id.

    Args:
        k: transformations tried on each sample.

    Raises:
        InputError: a count below 1.
    """

    k: int = 10

    def __post_init__(self) -> None:
        check_count("k", self.k)

    @property
    def name(self) -> str:
        """The name in results: `worst-of-k`."""
        return "worst-of-k"

    def transformations(self, problem: Problem, threat: Spatial) -> NDArray[np.float64]:
        """Return the draws [m, k, 3]."""
        uniform = _core.random_signed(problem.seed, self.name, 0, 0, problem.ids, 3 * self.k)
        rotation, shift = (float(limit) for limit in _limits(threat))
        scale = np.array([rotation, shift, shift])
        # Products of float64 numbers can exceed an exact limit by their rounding; these cannot.
        inside = 1 - 2.0**-50
        return np.asarray(uniform.reshape(-1, self.k, 3).astype(np.float64) * inside * scale)


def _try(
    target: Target,
    problem: Problem,
    rows: NDArray[np.int64],
    chunk: NDArray[np.float64],
    found: Found,
    best: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Evaluate some transformations of some samples, [rows, k, 3], and keep the worst of each.

    Returns which samples are broken so clearly that no rounding undoes it.
    """
    threat = problem.threat
    assert isinstance(threat, Spatial)  # noqa: S101 - `unsupported` says so
    k = chunk.shape[1]
    images = np.ascontiguousarray(np.repeat(channels_first(problem.x[rows]), k, axis=0))
    flat = chunk.reshape(-1, 3)
    moved = _core.warp(
        images,
        np.ascontiguousarray(flat[:, 0]),
        np.ascontiguousarray(flat[:, 1:]),
        threat.fill,
    )
    points = as_given(moved, problem.x.shape[1:])
    logits = target.logits(points)
    margin = margins(logits, np.repeat(problem.y[rows], k)).reshape(-1, k)
    found.queries[rows] += k
    found.status[rows[np.isnan(margin).any(axis=1)]] = FAILED
    margin = np.where(np.isnan(margin), np.inf, margin)
    worst = margin.argmin(axis=1)
    each = np.arange(len(rows))
    better = margin[each, worst] < found.margin[rows]
    kept = rows[better]
    found.margin[kept] = margin[each, worst][better]
    found.x[kept] = points.reshape(len(rows), k, *problem.x.shape[1:])[each, worst][better]
    best[kept] = chunk[each, worst][better]
    scale = np.abs(np.where(np.isfinite(logits), logits, 0)).max(axis=1).reshape(-1, k)
    return np.asarray((margin < -CLEAR * scale).any(axis=1))


def _limits(threat: Spatial) -> tuple[Fraction, Fraction]:
    return threat.max_rotation, threat.max_translation


def _spaced(limit: Fraction, count: int) -> NDArray[np.float64]:
    """Return evenly spaced numbers from -limit to limit, none beyond it; 0 where there is one."""
    if count == 1:
        return np.zeros(1)
    exact = [limit * (2 * Fraction(i, count - 1) - 1) for i in range(count)]
    nearest = np.array([float(value) for value in exact])
    return np.array(
        [
            value if abs(Fraction(value)) <= limit else float(np.nextafter(value, 0))
            for value in nearest
        ]
    )
