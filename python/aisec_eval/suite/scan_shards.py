"""Scans of tables, cut into shards: by ranges of rows that begin where a part of statistics does.

Spectral signatures need two passes, so their shards come in three stages: statistics of each range,
their sum in the order of the rows, and the scores of each range. Sums of parts do not depend on who
adds them, so neither do scores: any number of shards and workers gives those of `scan`, to the bit.
Other detectors that begin with statistics of all classes get them the same way, and do their later
passes in one shard; those that do not scan a table in one shard, batch by batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RunError
from ..results import Scan
from .identity import engine
from .shard import Shard
from .tables import open_table, same_table, table_identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from .._core import Spectral, Statistics
    from ..detectors.source import Batch, Source
    from .inputs import DataSource
    from .spec import ScanTable
    from .store import Store

STATISTICS, TOTAL, SCORES = "scan-statistics", "scan-total", "scan-scores"
MOMENTS = "scan-moments"
GATHERED = frozenset(
    {
        "activation-clustering",
        "activation-clustering-ica",
        "auto",
        "lda",
        "scan",
        "spectre",
        "split",
    }
)
"""Methods that begin with statistics of all classes in float64, and go on in one shard."""
TARGET_BYTES = 1 << 30
"""Bytes of features in one shard, about."""
_BATCH = 16 << 20


@dataclass(frozen=True, eq=False)
class ScanPart:
    """What one shard contributes to a scan."""

    arrays: Mapping[str, NDArray[Any]] = field(repr=False)


_NOTHING = ScanPart({"statistics": np.zeros(0, dtype=np.uint8)})

PARTS: dict[str, tuple[str, ...]] = {
    STATISTICS: ("statistics",),
    MOMENTS: ("statistics", "label"),
    TOTAL: ("statistics",),
    SCORES: ("label", "score", "row", "x"),
}
"""Arrays of each kind of part."""


def scan_shards(task: ScanTable, data: DataSource) -> tuple[Shard, ...]:
    """Cut the scan of a table into shards, those that need others behind them.

    Raises:
        DatasetError: the table cannot be read.
        InputError: its labels are no column of integers.
    """
    from .._core import Statistics
    from ..detectors.directions import WIDE

    table = open_table(data)
    common: dict[str, Any] = {
        "schema": 1,
        "engine": engine(),
        "data": data.name,
        "table": table_identity(data, table),
    }
    settings = {"method": task.method, "rate": None if task.rate is None else str(task.rate)}
    whole = (0, table.rows)
    alone = (Shard({"kind": "scan", **common, **settings}, None, data, whole),)
    if task.method not in {"spectral", *GATHERED} or table.source.dim > WIDE:
        return alone
    part = Statistics.PART_ROWS
    rows = task.shard_rows or TARGET_BYTES // table.source.row_bytes
    rows = max(1, -(-rows // part)) * part
    ranges = [(first, min(first + rows, table.rows)) for first in range(0, table.rows, rows)]
    if task.method in GATHERED and len(ranges) == 1:
        return alone
    kind = MOMENTS if task.method in GATHERED else STATISTICS
    gathered = [
        Shard({"kind": kind, **common, "rows": list(each)}, None, data, each) for each in ranges
    ]
    needs = [shard.key for shard in gathered]
    total = Shard({"kind": TOTAL, **common, "needs": needs, "stage": 1}, None, data, whole)
    if task.method in GATHERED:
        last = {"kind": "scan", **common, **settings, "needs": [total.key, *needs], "stage": 2}
        return (*gathered, total, Shard(last, None, data, whole))
    scores: dict[str, Any] = {
        "kind": SCORES,
        **common,
        **settings,
        "needs": [total.key],
        "stage": 2,
    }
    return (*gathered, total, *(Shard({**scores, "rows": list(r)}, None, data, r) for r in ranges))


def execute(shard: Shard, store: Store | None) -> Scan | ScanPart:
    """Compute one shard of a table's scan; those it needs are read from the store.

    Raises:
        DatasetError: the table changed since the run was planned.
        RunError: what it needs is not there.
    """
    source = same_table(shard.data, shard.identity["table"])
    kind = shard.identity["kind"]
    if kind == "scan" and not shard.needs:
        return _whole(shard, source)
    if kind == STATISTICS:
        return _statistics(shard, source)
    if kind == MOMENTS:
        return _moments(shard, source)
    if store is None:
        raise RunError(f"shard {shard.key}: needs others, and there is no run folder")
    parts = _read_all(shard, store)
    if kind == TOTAL:
        # A part that does not fit in memory is empty, and then so is the sum.
        fits = all(part.arrays["statistics"].size for part in parts)
        return _part_of(_sum(parts)) if fits else _NOTHING
    if kind == "scan":
        return _whole(shard, _with(source, parts))
    fit, _ = _fit(parts)
    return _scores(shard, source, fit)


def assemble(shards: Sequence[Shard], store: Store) -> Scan:
    """Join the scores of a table's shards, once all are there, into one scan."""
    from ..detectors.evidence import embed, worst
    from ..detectors.spectral import spectral_result

    last = [shard for shard in shards if shard.identity["kind"] == SCORES]
    if not last:
        found = store.read(shards[-1])
        if not isinstance(found, Scan):
            raise RunError("the last shard of a scan holds something else")
        return found
    source = same_table(last[0].data, last[0].identity["table"])
    fit, how = _fit(_read_all(last[0], store))
    parts = [_read(shard, store) for shard in last]
    label, score, rows, x = (
        np.concatenate([part.arrays[name] for part in parts]) for name in PARTS[SCORES]
    )
    rate = last[0].identity["rate"]
    rate = None if rate is None else float(Fraction(rate))
    result = spectral_result(source, label, score, fit, how, rate)
    top = worst(score)
    kept = (rows % _stride(source) == 0) | np.isin(rows, top)
    evidence = embed(x[kept].astype(np.float64), rows[kept], result, top)
    return Scan(last[0].data.name, result, None, evidence)


def _whole(shard: Shard, source: Source) -> Scan:
    from ..detectors import METHODS
    from ..detectors.evidence import look

    rate = shard.identity["rate"]
    rate = None if rate is None else float(Fraction(rate))
    result = METHODS[shard.identity["method"]](source, rate, None, None)
    return Scan(shard.data.name, result, None, look(source, result))


def _statistics(shard: Shard, source: Source) -> ScanPart:
    from .._core import Statistics

    gathered: Statistics | None = None
    for row, (x, y) in _batches(source, *shard.rows):
        if gathered is None:
            gathered = Statistics(x.shape[1], _limit(), first=row, single=True)
        gathered.update(x, y)
    if gathered is None:
        raise RunError(f"shard {shard.key}: holds no rows")
    return _part_of(gathered)


def _moments(shard: Shard, source: Source) -> ScanPart:
    """Labels and, where they fit, statistics in float64."""
    from .._core import Statistics

    gathered: Statistics | None = None
    label: list[NDArray[np.int64]] = []
    for row, (x, y) in _batches(source, *shard.rows):
        try:
            if not label:
                gathered = Statistics(x.shape[1], _limit(), first=row)
            if gathered is not None:
                gathered.update(x, y)
        except MemoryError:
            gathered = None
        label.append(y)
    if not label:
        raise RunError(f"shard {shard.key}: holds no rows")
    found = _NOTHING if gathered is None else _part_of(gathered)
    return ScanPart({**found.arrays, "label": np.concatenate(label)})


def _with(source: Source, parts: Sequence[ScanPart]) -> Source:
    """The source, with the statistics of all its rows where they fit."""
    from ..detectors.sources.gathered import gathered

    total, *moments = parts
    if not total.arrays["statistics"].size:
        return source
    label = np.concatenate([part.arrays["label"] for part in moments])
    return gathered(source, total.arrays["statistics"].tobytes(), label)


def _sum(parts: Sequence[ScanPart]) -> Statistics:
    """Add statistics up, from the first rows to the last."""
    total: Statistics | None = None
    for part in parts:
        read = _from(part)
        if total is None:
            total = read
        else:
            total.merge(read)
    if total is None:
        raise RunError("a scan without statistics")
    return total


def _scores(shard: Shard, source: Source, fit: Spectral) -> ScanPart:
    from ..detectors.evidence import worst

    first, stop = shard.rows
    label, score = np.empty(stop - first, dtype=np.int64), np.empty(stop - first)
    step, looked, features = _stride(source), [], []
    for row, (x, y) in _batches(source, first, stop):
        inside = slice(row - first, row - first + len(y))
        score[inside] = fit.score(x, y, row)
        label[inside] = y
        # The worst of a shard are among the worst of its batches, those of the data among these.
        rows = np.union1d(np.arange(-row % step, len(y), step), worst(score[inside]))
        looked.append(rows + row)
        features.append(x[rows].astype(np.float64))
    rows, x = np.concatenate(looked), np.concatenate(features)
    kept = (rows % step == 0) | np.isin(rows, worst(score) + first)
    return ScanPart({"label": label, "score": score, "row": rows[kept], "x": x[kept]})


def _batches(source: Source, first: int, stop: int) -> Iterator[tuple[int, Batch]]:
    for x, y in source.batches(max(1, _BATCH // source.row_bytes), first):
        left = stop - first
        yield first, (x[:left], y[:left])
        first += min(left, len(y))
        if first >= stop:
            return


def _stride(source: Source) -> int:
    from ..detectors.evidence import stride

    return stride(source.rows or 1, source.row_bytes // 4)


def _fit(parts: Sequence[ScanPart]) -> tuple[Spectral, dict[str, Any]]:
    from .._core import Spectral

    return Spectral(_from(parts[0])), {"directions": "covariance matrices"}


def _part_of(statistics: Statistics) -> ScanPart:
    return ScanPart({"statistics": np.frombuffer(statistics.to_bytes(), dtype=np.uint8)})


def _from(part: ScanPart) -> Statistics:
    from .._core import Statistics

    return Statistics.from_bytes(part.arrays["statistics"].tobytes(), _limit())


def _limit() -> int:
    from ..detectors.passes import physical_memory

    return physical_memory() // 2


def _read_all(shard: Shard, store: Store) -> list[ScanPart]:
    return [_checked(store.read_part(key)) for key in shard.identity["needs"]]


def _read(shard: Shard, store: Store) -> ScanPart:
    return _checked(store.read(shard))


def _checked(part: object) -> ScanPart:
    if not isinstance(part, ScanPart):
        raise RunError("a shard of a scan holds something else")
    return part
