"""Deep k-NN: a sample whose neighbourhood, as large as its class, votes for another label.

Peri, Gupta, Huang, Fowl, Zhu, Feizi, Goldstein & Dickerson, "Deep k-NN Defense against Clean-label
Data Poisoning Attacks", ECCV Workshops 2020, arXiv:1909.13374. Clean-label poison is moved, in the
features, next to samples of the class that it shall be taken for, while it keeps its label. Few of
a large neighbourhood are poison, too, so its vote is that of the other class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..results import ScanResult
from .knn import find_votes, side_findings
from .neighbours import judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .passes import Progress
    from .source import Source

NULL = (
    "none: the rule compares votes and has no chance of a false alarm that could be stated; on "
    "clean data it flags the samples that lie within another class. The p-value is a rank: the "
    "share of samples whose neighbourhood votes at least as clearly against their label"
)
RULE = "samples whose label is not the most frequent one among their k nearest neighbours"


def deep_knn(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """Flag samples that the plurality of their k nearest neighbours (cosine) outvotes.

    k is that of the sample's class c: its size `n_c`, the order of magnitude that the paper's
    ablation ends at, as the vote has to hold more than twice the poison of a class. With `rate`, an
    upper bound on the poisoned fraction of any class, it is the least odd number of which less than
    half can be poison, `2 * floor(rate * n_c) + 1`. Never more than all others. The vote is exact,
    equal distances by index; a tie goes to the sample's own label. The score is the difference of
    votes for the rival and for the own label as a share of k, in [-1, 1].

    One search serves this vote, the 20 nearest neighbours, near-duplicates and outliers: the
    verdict of `method="neighbours"` is in `info["neighbours"]`.

    Args:
        source: features and labels; all are held in memory, three times over as float32.
        rate: upper bound on the poisoned fraction of any class, if there is one.
        memory_limit: bytes for features and neighbours.
        progress: told of rows read and of neighbourhoods counted.

    Raises:
        InputError: too many samples for an exact search, too little memory, one class only, or a
            feature that is not finite.
    """

    def voters(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(counts) < 2:
            raise InputError(f"{source.name}: all labels are equal; neighbours need two classes")
        k = counts if rate is None else 2 * np.floor(rate * counts).astype(np.int64) + 1
        least: NDArray[np.int64] = np.minimum(k, counts.sum() - 1)
        return least

    found, votes = find_votes(source, memory_limit, progress, voters)
    k = votes.k[votes.code]
    score = (votes.rival.astype(np.int64) - votes.own) / k
    disagreement = judge(found, source.name)
    classes, counts = np.unique(found.label, return_counts=True)
    flagged = score > 0
    at_least = len(score) - np.searchsorted(np.sort(score), score)
    return ScanResult(
        score=score,
        flagged=flagged,
        p_value=at_least / len(score),
        label=found.label,
        method="deep-knn",
        classes=classes,
        eigenvalues=np.empty(0),
        info={
            "source": source.name,
            "features": found.dim,
            "counts": counts.tolist(),
            "k": votes.k.tolist(),
            "metric": "cosine",
            "index": found.index,
            "null": NULL,
            "rule": RULE,
            "rate": rate,
            "rivals": _rivals(flagged, classes[votes.code], classes[votes.rival_code]),
            "neighbours": {
                key: disagreement.info[key] for key in ("dataset", "rate", "agreement", "null")
            },
            "notes": list(disagreement.info["notes"]),
        }
        | side_findings(found),
    )


def _rivals(
    flagged: NDArray[np.bool_], label: NDArray[np.int64], rival: NDArray[np.int64]
) -> list[list[int]]:
    """What flagged samples look like, the most frequent first: [label, other class, how many]."""
    pairs, often = np.unique(np.stack([label[flagged], rival[flagged]]), axis=1, return_counts=True)
    order = np.argsort(-often, kind="stable")[:20]
    return [[int(pairs[0, i]), int(pairs[1, i]), int(often[i])] for i in order]
