"""The joint distribution of given and true labels, estimated by counting confident predictions.

Section 3.1 of arXiv:1911.00068: thresholds per class, the confident joint, its calibration to the
counts of the labels given, and its rounding to whole samples. Every number is rounded as cleanlab
rounds it, since a count that is one off flags another sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_THRESHOLD = 2e-6
_ABSENT = 2
"""Threshold of a class no sample has: out of reach."""


@dataclass(frozen=True)
class Joint:
    """Whole samples by the label they were given and the one they probably have."""

    counts: NDArray[np.int64]
    """Samples given each label [K]."""
    right: NDArray[np.int64]
    """How many of them are labelled rightly [K], at least one."""
    given: NDArray[np.int64]
    """Label given, of every entry off the diagonal that is not 0 [pairs]."""
    likely: NDArray[np.int64]
    """Its probable label [pairs]."""
    disputed: NDArray[np.int64]
    """Its samples [pairs]."""


def thresholds(own: NDArray[Any], label: NDArray[np.int64], classes: int) -> NDArray[Any]:
    """Return the mean probability of each class over the samples given its label [K].

    Args:
        own: probability of the given label [n].
        label: [n], each in [0, K).
        classes: K.
    """
    small = np.uint16 if classes <= 1 << 16 else np.int64
    grouped = own[np.argsort(label.astype(small), kind="stable")]
    ends = np.cumsum(np.bincount(label, minlength=classes)).tolist()
    means = [
        np.mean(grouped[first:end]) if end > first else _ABSENT
        for first, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    return np.clip(means, a_min=_LEAST_THRESHOLD, a_max=None)


def estimate_joint(
    label: NDArray[np.int64], confident: NDArray[np.int32], classes: int, limit: int
) -> Joint:
    """Count confident predictions and calibrate them to the counts of the labels.

    Args:
        label: labels given [n].
        confident: the class each sample is confidently of [n], -1 for none.
        classes: K.
        limit: bytes that the joint may take.

    Raises:
        InputError: the joint does not fit.
    """
    if 32 * classes * classes > limit:
        raise InputError(
            f"{classes} classes need {32 * classes * classes >> 20} MiB for their joint, "
            f"memory_limit is {limit >> 20} MiB; raise it"
        )
    counts = np.bincount(label, minlength=classes)
    sure = confident >= 0
    cells = label[sure] * classes + confident[sure]
    # By probable label, then given: sums run over memory in this order.
    joint = np.bincount(cells, minlength=classes * classes).reshape(classes, classes).T.copy()
    np.fill_diagonal(joint, joint.diagonal().clip(min=1))
    calibrated = joint / joint.sum(axis=0) * counts
    calibrated = calibrated / np.sum(calibrated) * len(label)
    right = np.ones(classes, dtype=np.int64)
    given, likely, disputed = [], [], []
    for i in np.flatnonzero(counts):
        row = _leave_one(round_to_total(calibrated[:, i]), int(i))
        right[i] = row[i]
        row[i] = 0
        others = np.flatnonzero(row)
        given.append(np.full(len(others), i))
        likely.append(others)
        disputed.append(row[others])
    return Joint(counts, right, *(np.concatenate(part) for part in (given, likely, disputed)))


def round_to_total(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round values to integers that add up to their rounded sum.

    Those that rounding moved most are moved back by one; numpy's default sort orders equal ones.
    """
    values = np.ascontiguousarray(values)
    rounded = values.round()
    total = np.sum(values).round()
    while (missing := int(total - np.sum(rounded))) != 0:
        step = 1 if missing > 0 else -1
        order = np.argsort(values - rounded)[::-step]
        rounded[order[: min(abs(missing), len(values))]] += step
    return rounded.astype(np.int64)


def _leave_one(row: NDArray[np.int64], own: int) -> NDArray[np.int64]:
    """Make sure that one sample of the class stays; the other entries give it in equal parts."""
    lacking = max(row[own], 1) - row[own]
    if not lacking:
        return row
    others = max(np.count_nonzero(row) - 1.0, 1.0)
    reduced = np.maximum(row - lacking / others, 0)
    reduced[own] = 1
    whole: NDArray[np.int64] = reduced.astype(np.int64)
    return whole
