"""Confident learning: which labels are wrong, from probabilities predicted out of fold.

Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70
(2021), arXiv:1911.00068. Three passes over the probabilities, batch by batch: what each row says of
its label, which class it is confidently of, and which rows a pair of classes disputes most. The
mask is that of cleanlab's `find_label_issues` on the same numbers, but where equal probabilities
straddle a cut: there the earlier row is flagged, while cleanlab's choice is its sort's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import InputError
from ..results import ScanResult
from .joint import Joint, estimate_joint, thresholds
from .passes import Reader
from .source import open_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .passes import Progress
    from .source import Source

Filter = Literal[
    "prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"
]
Rank = Literal["self_confidence", "normalized_margin", "confidence_weighted_entropy"]

_CUT = 1e-6
"""How far below a class's threshold a probability still counts as confident."""
_SHOWN = 20
_SUM = 1e-3

_NULL = (
    "each label was drawn from the probabilities given for its sample: the p-value is then the "
    "probability of a label no more likely than the one given, and exact; probabilities that are "
    "too sure, as those of overfitted networks, give more small ones. The flags do not use it"
)
_RULES: dict[str, str] = {
    "prune_by_noise_rate": "for each pair of classes, as many samples as the estimated joint "
    "counts off its diagonal, those with the largest margin first",
    "prune_by_class": "for each class, as many samples as the estimated joint counts off its "
    "diagonal, those with the smallest probability of their label first",
    "both": "what both the pairs and the classes would flag",
    "confident_learning": "samples confidently of another class than the label",
    "predicted_neq_given": "samples whose most likely class is not the label",
}


def confident_learning(
    probabilities: Any,
    labels: Any = None,
    *,
    filter_by: Filter = "prune_by_noise_rate",
    rank_by: Rank = "self_confidence",
    memory_limit: int | None = None,
    progress: Progress = None,
) -> ScanResult:
    """Find wrong labels; exact, and out of core.

    Nothing but the results (25 bytes a sample, 40 while they are made), `32 * K * K` bytes and a
    batch is in memory. Results do not depend on batches, threads or where the rows come from.

    Args:
        probabilities: float [n, K], predicted for samples that the model was not trained on, in
            [0, 1]: anything that `scan` reads. float16 is taken as float32.
        labels: the labels given, integers from 0 to K - 1, as `scan` takes them.
        filter_by: which samples are flagged. Whatever is chosen, one whose label is the most likely
            class, within 1e-6, is not. `"prune_by_noise_rate"`: for each pair of classes the number
            of wrong labels is estimated, and that many samples with the largest margin are flagged;
            `"prune_by_class"`: the same for each class, by the probability of the label; `"both"`
            of them; `"confident_learning"`: all samples confidently of another class;
            `"predicted_neq_given"`: all whose most likely class is another.
        rank_by: the label quality that `score` is minus of. For probabilities p and label y:
            `"self_confidence"`, p_y; `"normalized_margin"`, (p_y - max of the others + 1) / 2;
            `"confidence_weighted_entropy"`, ln(1 + e) / e of e = entropy / ln(K) / p_y, 1 where e
            is 0 (cleanlab's falls to 0 where e is below 1e-6, which ranks the surest labels last).
        memory_limit: bytes for a batch and the joint.
        progress: called as `progress(rows done, rows in all or 0 if unknown, note)`.

    Returns:
        `flagged`, the mask; `score`, minus the quality of each label, so the highest is the most
        suspicious; `p_value` and what it assumes in `info["null"]`. `info` also has the class
        thresholds, the estimated share of wrong labels (`rate`) and the largest entries of the
        joint off its diagonal (`confusions`).

    Raises:
        InputError: a value is no probability, a label no class (the row is named), there is only
            one class, or an option is unknown.
        DatasetError: a file cannot be read, or changed between the passes.
    """
    if filter_by not in get_args(Filter):
        raise InputError(f"filter_by={filter_by!r} must be one of {', '.join(get_args(Filter))}")
    if rank_by not in get_args(Rank):
        raise InputError(f"rank_by={rank_by!r} must be one of {', '.join(get_args(Rank))}")
    source = open_source(probabilities, labels, memory_limit=memory_limit)
    return _learn(source, filter_by, rank_by, memory_limit, progress)


def confident(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """Scan with the defaults of `confident_learning`; the features are probabilities.

    Args:
        source: probabilities and labels.
        rate: must be None: the share of wrong labels is estimated.
        memory_limit: see `confident_learning`.
        progress: see `confident_learning`.
    """
    if rate is not None:
        raise InputError('method="confident" estimates the share of wrong labels; leave rate out')
    return _learn(source, "prune_by_noise_rate", "self_confidence", memory_limit, progress)


@dataclass(frozen=True)
class _Judged:
    """What the first pass says of every row."""

    own: NDArray[Any]
    """Probability of the given label [n], in the dtype of the probabilities."""
    quality: NDArray[np.float64]
    tail: NDArray[np.float64]
    agrees: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    gap: float
    classes: int


def _learn(
    source: Source,
    filter_by: Filter,
    rank_by: Rank,
    memory_limit: int | None,
    progress: Progress,
) -> ScanResult:
    pruned = filter_by in ("prune_by_noise_rate", "both")
    reader = Reader(source, memory_limit, progress, passes=3 if pruned else 2)
    try:
        judged = _judge(reader, rank_by)
        cuts = thresholds(judged.own, reader.label, judged.classes)
        confident = _confident(reader, cuts)
        joint = estimate_joint(reader.label, confident, judged.classes, reader.limit)
        flagged, ties = _flags(reader, judged, confident, joint, filter_by)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None
    flagged &= ~judged.agrees
    return _result(source, reader.label, judged, cuts, joint, flagged, ties, filter_by, rank_by)


def _judge(reader: Reader, rank_by: Rank) -> _Judged:
    from .._core import judge_labels

    parts, gap, classes = [], 0.0, 0
    dtype: np.dtype[Any] = np.dtype(np.float64)
    for first, (p, y) in reader.batches("probabilities"):
        *part, largest = judge_labels(p, y, rank_by, first)
        parts.append(part)
        gap, classes, dtype = max(gap, largest), p.shape[1], p.dtype
    if classes < 2 or not reader.label.any():
        raise InputError(
            f"{reader.source.name}: {classes} columns and labels up to {reader.label.max()}; wrong "
            "labels are found among at least two classes: pass probabilities [n, classes] and "
            "labels"
        )
    own, quality, tail, agrees, predicted = (np.concatenate(p) for p in zip(*parts, strict=True))
    return _Judged(own.astype(dtype), quality, tail, agrees, predicted, gap, classes)


def _confident(reader: Reader, cuts: NDArray[Any]) -> NDArray[np.int32]:
    """Return the class each row is confidently of [n], -1 where there is none."""
    from .._core import confident_classes

    # In the dtype of the probabilities, as the comparison is.
    least = (cuts - _CUT).astype(np.float64)
    found = [confident_classes(p, least) for _, (p, _) in reader.batches("confident classes")]
    return np.concatenate(found)


def _flags(
    reader: Reader,
    judged: _Judged,
    confident: NDArray[np.int32],
    joint: Joint,
    filter_by: Filter,
) -> tuple[NDArray[np.bool_], int]:
    """Return the flags before labels that agree are taken out, and the number of ties."""
    label = reader.label
    if filter_by == "predicted_neq_given":
        return ~judged.predicted, 0
    if filter_by == "confident_learning":
        return (confident >= 0) & (confident != label), 0
    flagged = np.ones(len(label), dtype=np.bool_)
    ties = 0
    if filter_by in ("prune_by_class", "both"):
        flagged = _least_own(judged.own, label, joint)
    if filter_by in ("prune_by_noise_rate", "both"):
        disputed, ties = _disputed(reader, joint)
        flagged &= disputed
    return flagged, ties


def _least_own(own: NDArray[Any], label: NDArray[np.int64], joint: Joint) -> NDArray[np.bool_]:
    """Flag the samples of each class least likely of it, as many as the joint says."""
    order = np.lexsort((own, label))
    ends = np.cumsum(joint.counts)
    flagged = np.zeros(len(label), dtype=np.bool_)
    for end, count, right in zip(ends, joint.counts, joint.right, strict=True):
        if count > 1:
            flagged[order[end - count : end - min(right, count)]] = True
    return flagged


def _disputed(reader: Reader, joint: Joint) -> tuple[NDArray[np.bool_], int]:
    from .._core import Prune

    kept = joint.counts[joint.given] > 1
    prune = Prune(len(joint.counts), joint.given[kept], joint.likely[kept], joint.disputed[kept])
    for _, (p, y) in reader.batches("disputed labels"):
        prune.update(p, y)
    rows, ties = prune.finish()
    flagged = np.zeros(len(reader.label), dtype=np.bool_)
    flagged[rows] = True
    return flagged, ties


def _result(
    source: Source,
    label: NDArray[np.int64],
    judged: _Judged,
    cuts: NDArray[Any],
    joint: Joint,
    flagged: NDArray[np.bool_],
    ties: int,
    filter_by: Filter,
    rank_by: Rank,
) -> ScanResult:
    classes = np.flatnonzero(joint.counts)
    notes = []
    if judged.gap > _SUM:
        notes.append(
            f"rows of probabilities sum to 1 within {judged.gap:.2g} only and are used as they are"
        )
    if ties:
        notes.append(
            f"for {ties} pairs of classes samples of equal margin are on both sides of the cut: "
            "the earlier ones are flagged"
        )
    few = int((joint.counts == 1).sum())
    if few:
        notes.append(f"{few} classes have one sample: it is not flagged by counts of pairs")
    largest = np.argsort(-joint.disputed, kind="stable")[:_SHOWN]
    return ScanResult(
        score=-judged.quality,
        flagged=flagged,
        p_value=judged.tail,
        label=label,
        method="confident",
        classes=classes,
        eigenvalues=np.empty(0),
        info={
            "source": source.name,
            "features": judged.classes,
            "counts": joint.counts[classes].tolist(),
            "rate": float(joint.disputed.sum() / len(label)),
            "filter_by": filter_by,
            "rank_by": rank_by,
            "rule": _RULES[filter_by] + "; but never where the label is the most likely class",
            "null": _NULL,
            "thresholds": [float(cuts[c]) for c in classes],
            "confusions": [
                {
                    "given": int(joint.given[i]),
                    "likely": int(joint.likely[i]),
                    "count": int(joint.disputed[i]),
                }
                for i in largest
            ],
            "notes": notes,
        },
    )
