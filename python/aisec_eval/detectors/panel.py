"""The panel: every detector that the input allows, one verdict on the dataset, nothing told.

Each detector with a null of its own has a share of the chance of a false alarm (Bonferroni). Those
that raise the alarm give the scores, as log-odds: a sample is suspicious if any of them says so.
A one-sided confusion of classes, seen by the neighbours, names classes; their samples are scored
by neighbours and features together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError, InputError
from ..results import ScanResult
from .calibrate import clean_shares, share_interval
from .knn import find_neighbours
from .neighbours import copies, judge
from .one_sided import NULL as ONE_SIDED_NULL
from .one_sided import one_sided
from .split import splits_with_hints

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .one_sided import OneSided
    from .passes import Progress
    from .source import Source

_SHOWN = 20
_ALONE = 0.15
"""With so few neighbours of its label a sample is the neighbours' case, no part of its class."""
_ABOUT = ("source", "counts", "features")


@dataclass
class Member:
    """What one detector of the panel says.

    A detector joins by a verdict calibrated on its own, `{"poisoned", "p", "level"}`, and, once it
    raises the alarm, by log-odds of poison of the samples.
    """

    dataset: Mapping[str, Any]
    info: Mapping[str, Any]
    score: NDArray[np.float64] | None = None
    """Log-odds [n]; None where another member scores the samples in its stead."""
    flagged: NDArray[np.bool_] | None = None
    p_value: NDArray[np.float64] | None = None
    classes: tuple[int, ...] = ()
    """Classes it suspects."""
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def of(result: ScanResult) -> Member:
        """A member from the result of a detector that runs by itself."""
        return Member(
            result.info["dataset"],
            {key: value for key, value in result.info.items() if key not in _ABOUT},
            result.score,
            result.flagged,
            result.p_value,
            tuple(result.info.get("target_classes", ())),
            list(result.info["notes"]),
        )


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
    del rate
    members: dict[str, Member] = {}
    notes: list[str] = []
    ids, sided, label, aside = None, None, None, None
    hints: dict[int, NDArray[np.float64]] = {}
    try:
        found = find_neighbours(source, memory_limit, progress)
        label, ids = found.label, found.ids
        neighbours = judge(found, source.name)
        sided = one_sided(label, ids, found.distance)
        hints = {c: odds[sided.agree] for c, odds in sided.odds.items()}
        aside = sided.agree <= _ALONE * ids.shape[1]
        for c in hints:
            aside &= label != c
        aside |= copies(label, ids, found.distance)
    except InputError as error:
        # What refuses neighbours (size, a single class) does not speak against the rest.
        notes.append(f"neighbours did not run: {error}")
    split = splits_with_hints(source, memory_limit, progress, hints, aside)
    if label is not None and not np.array_equal(label, split.label):
        raise DatasetError(f"{source.name}: changed between two passes over it")
    members["split"] = Member.of(split)
    if sided is not None:
        members["one-sided"] = _sided_member(sided, hints, split)
        members["neighbours"] = Member.of(neighbours)
    return _combine(source, split, members, ids, notes)


def _sided_member(
    sided: OneSided, hints: Mapping[int, NDArray[np.float64]], split: ScanResult
) -> Member:
    """The classes named; samples of those that splits could not look at are scored here."""
    left = [c for c in hints if c not in split.info["target_classes"]]
    member = Member(
        sided.dataset,
        {"dataset": sided.dataset, "null": ONE_SIDED_NULL, "class_tests": sided.tests},
        classes=tuple(hints),
    )
    if left:
        score = np.full(len(split.label), -100.0)
        for c in left:
            score = np.where(split.label == c, hints[c], score)
        member.score, member.flagged = score, score > 0
    return member


def _combine(
    source: Source,
    split: ScanResult,
    members: dict[str, Member],
    ids: NDArray[np.uint32] | None,
    notes: list[str],
) -> ScanResult:
    tests = [
        member.dataset["p"] / member.dataset["level"]
        for member in members.values()
        if member.dataset["p"] is not None
    ]
    level = sum(member.dataset["level"] for member in members.values())
    alarming = [name for name, member in members.items() if member.dataset["poisoned"]]
    # Splits score what one-sided confusion names.
    scoring = [
        name
        for name, member in members.items()
        if member.score is not None
        and (name in alarming or (name == "split" and split.info["target_classes"]))
    ]
    score, clean = _scores(members, scoring, len(split.score))
    order = np.argsort(-score, kind="stable")
    flagged = np.zeros(len(score), dtype=np.bool_)
    for name in scoring:
        found = members[name].flagged
        flagged |= found if found is not None else False
    info: dict[str, Any] = {
        "source": source.name,
        "features": split.info["features"],
        "counts": split.info["counts"],
        "dataset": {
            "poisoned": bool(alarming),
            "p": min(1.0, level * min(tests)) if tests else None,
            "level": level,
        },
        "alarming": alarming,
        "target_classes": list(
            dict.fromkeys(c for name in alarming for c in members[name].classes)
        ),
        "rate": float((1 - clean).mean()),
        "rate_interval": share_interval(score) if alarming else None,
        "null": "the nulls of all detectors, under `detectors`, hold (Bonferroni over them)",
        "rule": "samples flagged by a detector that raised the alarm",
        "detectors": {name: dict(member.info) for name, member in members.items()},
        "notes": notes
        + [f"{name}: {note}" for name, member in members.items() for note in member.notes],
    }
    if alarming:
        info["evidence"] = _evidence(order[:_SHOWN], score, members, scoring, ids, split.label)
    return ScanResult(
        score=score,
        flagged=flagged,
        p_value=clean_shares(order, clean),
        label=split.label,
        method="auto",
        classes=split.classes,
        eigenvalues=np.empty(0),
        info=info,
    )


def _scores(
    members: dict[str, Member], scoring: list[str], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds that an alarming detector is right about a sample; probability that it is clean.

    Without an alarm samples are ranked by the smallest of their p-values.
    """
    if not scoring:
        ranks = [m.p_value for m in members.values() if m.p_value is not None]
        return -np.log10(len(ranks) * np.minimum.reduce(ranks)), np.ones(n)
    scores = [(members[name].score, members[name].flagged) for name in scoring]
    score = np.logaddexp.reduce([one for one, _ in scores if one is not None])
    clean = np.ones(n)
    for one, flagged in scores:
        if one is not None and flagged is not None:
            clean /= 1 + np.exp(np.where(flagged, one, -np.inf))
    return score, clean


def _evidence(
    top: NDArray[np.int64],
    score: NDArray[np.float64],
    members: dict[str, Member],
    scoring: list[str],
    ids: NDArray[np.uint32] | None,
    label: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """What speaks against the most suspicious samples: log-odds by detector, nearest neighbours."""
    rows = []
    for i in top.tolist():
        row: dict[str, Any] = {
            "sample": i,
            "label": int(label[i]),
            "score": float(score[i]),
            "by": {
                name: float(values[i])
                for name in scoring
                if (values := members[name].score) is not None
            },
        }
        if ids is not None:
            row["neighbours"] = ids[i].tolist()
            row["neighbour_labels"] = label[ids[i]].tolist()
        rows.append(row)
    return rows
