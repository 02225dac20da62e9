"""What the board shows, from checked bundles: tracks, and in each one row a model.

A **track** is a set of samples under one threat model; only within it can models be compared.
Evidence about one model from several bundles is joined, whoever brought it: a sample is broken if
anybody broke it, certified if anybody proved it. Only bundles of the highest level are joined and
ranked; the others stand below, as claims.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..results import BROKEN, CERTIFIED, ERROR, MISCLASSIFIED, OPEN, VERDICTS
from . import contents
from .check import LEVELS
from .lock import track
from .rank import classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ..results import Evaluation
    from .check import BundleCheck
    from .lock import LockedCell

_WEAKEST_FIRST = (ERROR, OPEN, CERTIFIED, BROKEN, MISCLASSIFIED)
_STRENGTH = np.array([_WEAKEST_FIRST.index(verdict) for verdict in VERDICTS])
"""By verdict code; a counterexample overrules a bound."""


@dataclass(frozen=True)
class Source:
    """The bundle a row comes from."""

    digest: str
    level: str
    suite: str


@dataclass(frozen=True)
class Row:
    """One model in one track."""

    evaluation: Evaluation
    """With the verdicts of all sources joined; evidence stays in the bundles."""
    sources: tuple[Source, ...]
    rank: int | None = None
    """Rank class, None for claims that were not checked to the end."""
    conflict: bool = False
    """Whether one source broke what another certified: then one of them is wrong."""

    @property
    def level(self) -> str:
        """The level of its sources."""
        return self.sources[0].level


@dataclass(frozen=True)
class Track:
    """Samples under a threat model."""

    key: str
    cell: LockedCell
    rows: tuple[Row, ...]


class Board:
    """Collects checked bundles one at a time, keeping verdicts and no evidence."""

    def __init__(self) -> None:
        self._cells: dict[str, LockedCell] = {}
        self._claims: dict[str, list[Row]] = {}

    def add(self, check: BundleCheck) -> None:
        """Add every evaluation of a bundle that holds."""
        if check.lock is None or check.run is None:
            raise ValueError(f"{check.path} was not read")
        found = contents.evaluations(check.run)
        suite = f"{check.lock.suite.name} {check.lock.suite.version}"
        source = Source(check.digest, check.level, suite)
        for cell in check.lock.of("evaluate"):
            key = track(cell)
            self._cells.setdefault(key, cell)
            e = found[cell.entry]
            nothing = np.zeros((0, *e.x_adv.shape[1:]), dtype=np.float32)
            e = replace(e, x_adv=nothing, x_clean=nothing)
            self._claims.setdefault(key, []).append(Row(e, (source,)))

    def tracks(self) -> list[Track]:
        """Return the tracks by data, norm and radius, rows by rank."""
        found = [
            Track(key, self._cells[key], tuple(_ranked(rows))) for key, rows in self._claims.items()
        ]
        return sorted(found, key=_order)


def _order(found: Track) -> tuple[str, str, float, str]:
    threat = found.cell.threat
    radius = 0.0 if threat is None else float(threat.ball().eps)
    return (found.cell.data, "" if threat is None else threat.norm, radius, found.key)


def _ranked(rows: Sequence[Row]) -> list[Row]:
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        if row.level == LEVELS[-1]:
            by_model.setdefault(row.evaluation.model_digest, []).append(row)
    joined = [_join(group) for group in by_model.values()]
    ranks = classes([row.evaluation for row in joined])
    ranked = [replace(row, rank=rank) for row, rank in zip(joined, ranks, strict=True)]
    claims = [row for row in rows if row.level != LEVELS[-1]]
    return sorted(ranked, key=_place) + sorted(claims, key=_place)


def _place(row: Row) -> tuple[int, float, float, str]:
    bracket = row.evaluation.bracket
    return (row.rank or 0, -bracket.certified, -bracket.attacked, row.evaluation.model)


def _join(rows: Iterable[Row]) -> Row:
    """Join what several bundles show of one model: the strongest evidence for each sample."""
    first, *others = rows
    for other in others:
        verdicts, conflict = join(first.evaluation.verdict, other.evaluation.verdict)
        flags = dict.fromkeys((*first.evaluation.flags, *other.evaluation.flags))
        first = replace(
            first,
            evaluation=replace(first.evaluation, verdict=verdicts, flags=tuple(flags)),
            sources=first.sources + other.sources,
            conflict=first.conflict or conflict,
        )
    return first


def join(a: NDArray[np.int8], b: NDArray[np.int8]) -> tuple[NDArray[np.int8], bool]:
    """Join verdicts on the same samples; also say whether one broke what the other certified."""
    joined = np.where(_STRENGTH[a] >= _STRENGTH[b], a, b).astype(np.int8)
    broken, certified = VERDICTS.index(BROKEN), VERDICTS.index(CERTIFIED)
    conflict = ((a == broken) & (b == certified)) | ((a == certified) & (b == broken))
    return joined, bool(conflict.any())
