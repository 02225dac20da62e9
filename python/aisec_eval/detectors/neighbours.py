"""Label disagreement with the nearest neighbours, with a null for the whole dataset.

A wrong label sits deep inside another class: nearly none of its neighbours carry it, and they
agree among themselves. Correct samples near a boundary disagree, too, but the fewer neighbours
share their label, the fewer such samples there are. So samples are counted by agreement, and a
second mode at deep disagreement is what raises the alarm, not disagreement as such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..results import ScanResult
from .calibrate import binomial_tail, clean_shares
from .knn import DUPLICATE, find_neighbours, side_findings
from .knn import K as _K

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .knn import Neighbourhoods
    from .passes import Progress
    from .source import Source

LEVEL = 0.003
"""Chance of an alarm on a dataset without wrong labels, as far as the null is true."""
_WINDOWS = (2, 4)
_SHOWN = 100
_PART = 1 << 14

NULL = (
    "the fewer of its 20 nearest neighbours share a sample's label, the fewer such samples there "
    "are, among samples that lie as deep in the other class as half of its own samples do, whose "
    "neighbours carry hardly a third label and whose class is one that the features tell apart; "
    "then at most half of those that share 0 to 3 (0 to 7) share 0 to 1 (0 to 3)"
)


def neighbour_disagreement(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """Score samples by how few of their 20 nearest neighbours (cosine) share their label.

    Args:
        source: features and labels; all are held in memory, three times over as float32.
        rate: not used: the rate is estimated.
        memory_limit: bytes for features and neighbours.
        progress: told of rows read and of pairs of blocks compared.

    Raises:
        InputError: too little memory, one class only, or a feature that is not finite.
    """
    del rate
    return judge(find_neighbours(source, memory_limit, progress), source.name)


def judge(found: Neighbourhoods, name: str) -> ScanResult:
    """Turn neighbours and their distances into scores, p-values and a verdict."""
    label, ids, distance = found.label, found.ids, found.distance
    n, k = ids.shape
    classes, code = np.unique(label, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"{name}: all labels are {classes[0]}; neighbours need two classes")
    agree, rival, suggested, margin = _votes(code, ids, distance)
    # A class that its own neighbours do not show, or that has no 2k members, says nothing.
    told = np.array([(code == c).sum() >= 2 * k and np.median(agree[code == c]) > k / 2
                     for c in range(len(classes))])  # fmt: skip
    clear = told[code] & (agree + rival >= 0.9 * k)
    counts = np.bincount(agree[clear], minlength=k + 1)
    copied = copies(label, ids, distance)
    deep_in = within_reach(code, agree, suggested, distance, 0.5)
    single = np.bincount(agree[clear & ~copied & deep_in], minlength=k + 1)
    p, width = 1.0, _WINDOWS[0]
    for w in _WINDOWS if k == _K else ():
        deep, less = int(single[:w].sum()), int(single[w : 2 * w].sum())
        tail = min(1.0, len(_WINDOWS) * binomial_tail(deep, deep + less))
        if tail < p:
            p, width = tail, w
    alarm = p < LEVEL
    odds, p_value, excess = _sample_values(clear, agree, margin, counts, width, alarm)
    info: dict[str, Any] = {
        "source": name,
        "features": found.dim,
        "neighbours": k,
        "metric": "cosine",
        "index": found.index,
        "null": NULL,
        "rule": "where the dataset is alarming: samples more likely mislabelled than not",
        "dataset": {"poisoned": alarm, "p": p, "level": LEVEL},
        "agreement": np.bincount(agree, minlength=k + 1).tolist(),
        "rate": excess / n,
        "notes": found.notes + _notes(k, classes[~told]),
    } | side_findings(found)
    if alarm:
        info["suggested_labels"] = _suggestions(odds, classes[suggested])
    return ScanResult(
        score=odds,
        flagged=alarm & (odds > 0),
        p_value=p_value,
        label=label,
        method="neighbours",
        classes=classes,
        eigenvalues=np.empty(0),
        info=info,
    )


def copies(
    label: NDArray[np.int64], ids: NDArray[np.uint32], distance: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Samples that an earlier one of their class is a near-duplicate of [n].

    Copies agree and disagree together, and lie together: one of them counts.
    """
    earlier = (ids < np.arange(len(ids))[:, None]) & (label[ids] == label[:, None])
    copied: NDArray[np.bool_] = (earlier & (distance <= DUPLICATE)).any(1)
    return copied


def within_reach(
    code: NDArray[np.int64],
    agree: NDArray[np.int64],
    suggested: NDArray[np.int64],
    distance: NDArray[np.float32],
    share: float,
) -> NDArray[np.bool_]:
    """Samples whose neighbours are as near as those of a share of the class they lie in.

    A wrong label lies anywhere in the other class. Outliers, and inputs that a model is wrong
    about, lie at its fringe, where fewer neighbours of one's own class mean little.
    """
    far, k = distance[:, -1], distance.shape[1]
    limit = np.zeros(int(code.max()) + 1)
    for c in range(len(limit)):
        own = far[(code == c) & (agree >= k / 2)]
        limit[c] = np.quantile(own, share) if len(own) else 0.0
    inside: NDArray[np.bool_] = far <= limit[np.where(agree >= k / 2, code, suggested)]
    return inside


def _votes(
    code: NDArray[np.int64], ids: NDArray[np.uint32], distance: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Neighbours of the own label, of the most frequent other one, that one, the weighted margin.

    The margin is between -1 (all neighbours share the label) and 1; nearer ones weigh more.
    """
    n, k = ids.shape
    agree, rival, suggested = (np.zeros(n, dtype=np.int64) for _ in range(3))
    margin = np.zeros(n)
    for first in range(0, n, _PART):
        part = slice(first, min(first + _PART, n))
        found, own = np.sort(code[ids[part]], axis=1), code[part, None]
        agree[part] = (found == own).sum(1)
        # The longest run of an other label in the sorted ones.
        run = np.ones_like(found)
        for j in range(1, k):
            run[:, j] = np.where(found[:, j] == found[:, j - 1], run[:, j - 1] + 1, 1)
        run[found == own] = 0
        best = run.argmax(1)
        rows = np.arange(len(found))
        rival[part], suggested[part] = run[rows, best], found[rows, best]
        near = distance[part].astype(np.float64)
        scale = near[:, -1:].copy()
        scale[scale == 0] = 1.0
        weight = np.exp(-near / scale)
        weight /= weight.sum(1, keepdims=True)
        votes = code[ids[part]]
        others = (weight * ((votes == suggested[part, None]) & (votes != own))).sum(1)
        margin[part] = others - (weight * (votes == own)).sum(1)
    return agree, rival, suggested, margin


def _sample_values(
    clear: NDArray[np.bool_],
    agree: NDArray[np.int64],
    margin: NDArray[np.float64],
    counts: NDArray[np.int64],
    width: int,
    alarm: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Log-odds of a wrong label, p-values, and the number of wrong labels.

    Below the alarm, p-values are ranks. Above, the clean samples with deep disagreement are as many
    as the null allows, and the p-value is the share of clean samples that disagree as deeply.
    """
    n, k = len(agree), len(counts) - 1
    order = np.lexsort((-margin, agree))
    clean = np.ones(n)
    expected = counts.astype(np.float64)
    if alarm:
        # Half a sample more than was seen: no count is certainly empty.
        level = (counts[width : 2 * width].sum() + 0.5) / width
        expected[:width] = np.minimum(expected[:width], level)
        share = expected / np.maximum(counts, 1)
        clean[clear] = share[agree[clear]]
    p_value = clean_shares(order, clean)
    ratio = (counts - expected + 0.25) / (expected + 0.5)
    # Fewer that agree are never less suspicious.
    odds = np.minimum.accumulate(np.log(ratio))
    step = odds - 1e-3 * np.arange(k + 1)
    unclear = np.where(clear, 0.0, min(0.0, step[0]) - 1.0)
    return step[agree] + unclear + 4e-4 * margin, p_value, float(n - clean.sum())


def _suggestions(odds: NDArray[np.float64], other: NDArray[np.int64]) -> list[dict[str, int]]:
    top = np.argsort(-odds, kind="stable")[:_SHOWN]
    return [{"sample": int(i), "label": int(other[i])} for i in top if odds[i] > 0]


def _notes(k: int, untold: NDArray[np.int64]) -> list[str]:
    notes = []
    if k < _K:
        notes.append(f"only {k + 1} samples: there is no verdict on the dataset")
    if len(untold):
        names = ", ".join(map(str, untold[:10].tolist())) + (" ..." if len(untold) > 10 else "")
        notes.append(f"classes too small, or not told apart by the features, left out: {names}")
    return notes
