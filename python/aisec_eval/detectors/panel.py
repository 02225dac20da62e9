"""The panel: every detector that the input allows, one verdict on the dataset, nothing told.

Each detector with a null of its own has a share of the chance of a false alarm (Bonferroni). Those
that raise the alarm give the scores, as log-odds: a sample is suspicious if any of them says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError, InputError
from ..results import ScanResult
from .calibrate import clean_shares
from .neighbours import find_neighbours, judge
from .split import class_splits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .passes import Progress
    from .source import Source

_SHOWN = 20
_ABOUT = ("source", "counts", "features")


def panel(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """Run the detectors that have a calibrated verdict, and combine them.

    Args:
        source: features and labels.
        rate: not used: the rate is estimated.
        memory_limit: bytes for each detector.
        progress: told of the work of each detector in turn.

    Raises:
        InputError: no detector can scan this input; the reason is given.
    """
    split = class_splits(source, rate, memory_limit, progress)
    found, ids = {"split": split}, None
    notes = []
    try:
        label, ids, distance, dim = find_neighbours(source, memory_limit, progress)
        if not np.array_equal(label, split.label):
            raise DatasetError(f"{source.name}: changed between two passes over it")
        found["neighbours"] = judge(label, ids, distance, source.name, dim)
    except InputError as error:
        # What refuses neighbours (size, a single class) does not speak against the rest.
        notes.append(f"neighbours did not run: {error}")
    return _combine(source, found, ids, notes)


def _combine(
    source: Source,
    found: dict[str, ScanResult],
    ids: NDArray[np.uint32] | None,
    notes: list[str],
) -> ScanResult:
    one = found["split"]
    verdicts = {name: result.info["dataset"] for name, result in found.items()}
    tests = [verdict["p"] for verdict in verdicts.values() if verdict["p"] is not None]
    alarming = [name for name, verdict in verdicts.items() if verdict["poisoned"]]
    score, clean = _scores(found, alarming)
    order = np.argsort(-score, kind="stable")
    flagged = np.zeros(len(score), dtype=np.bool_)
    for name in alarming:
        flagged |= found[name].flagged
    info: dict[str, Any] = {
        "source": source.name,
        "features": one.info["features"],
        "counts": one.info["counts"],
        "dataset": {
            "poisoned": bool(alarming),
            "p": min(1.0, 2 * min(tests)) if tests else None,
            "level": sum(verdict["level"] for verdict in verdicts.values()),
        },
        "alarming": alarming,
        "target_classes": one.info["target_classes"],
        "rate": float((1 - clean).mean()),
        "null": "the nulls of all detectors, under `detectors`, hold (Bonferroni over them)",
        "rule": "samples flagged by a detector that raised the alarm",
        "detectors": {
            name: {key: value for key, value in result.info.items() if key not in _ABOUT}
            for name, result in found.items()
        },
        "notes": notes
        + [f"{name}: {note}" for name in found for note in found[name].info["notes"]],
    }
    if alarming:
        info["evidence"] = _evidence(order[:_SHOWN], score, found, alarming, ids)
    return ScanResult(
        score=score,
        flagged=flagged,
        p_value=clean_shares(order, clean),
        label=one.label,
        method="auto",
        classes=one.classes,
        eigenvalues=np.empty(0),
        info=info,
    )


def _scores(
    found: dict[str, ScanResult], alarming: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds that an alarming detector is right about a sample; probability that it is clean.

    Without an alarm samples are ranked by the smallest of their p-values.
    """
    if not alarming:
        least = np.minimum.reduce([result.p_value for result in found.values()])
        return -np.log10(len(found) * least), np.ones(len(least))
    score = np.logaddexp.reduce([found[name].score for name in alarming])
    clean = np.ones(len(score))
    for name in alarming:
        odds = np.where(found[name].flagged, found[name].score, -np.inf)
        clean /= 1 + np.exp(odds)
    return score, clean


def _evidence(
    top: NDArray[np.int64],
    score: NDArray[np.float64],
    found: dict[str, ScanResult],
    alarming: list[str],
    ids: NDArray[np.uint32] | None,
) -> list[dict[str, Any]]:
    """What speaks against the most suspicious samples: log-odds by detector, nearest neighbours."""
    label = found["split"].label
    rows = []
    for i in top.tolist():
        row: dict[str, Any] = {
            "sample": i,
            "label": int(label[i]),
            "score": float(score[i]),
            "by": {name: float(found[name].score[i]) for name in alarming},
        }
        if ids is not None:
            row["neighbours"] = ids[i].tolist()
            row["neighbour_labels"] = label[ids[i]].tolist()
        rows.append(row)
    return rows
