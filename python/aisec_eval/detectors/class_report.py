"""One row a class of what any scan found: how many samples, how many too many, which suspected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .nulls import NORMAL_MAD

if TYPE_CHECKING:
    import polars as pl

    from ..results import ScanResult

LOW = 0.01
"""P-values up to here are counted."""


def class_report(result: ScanResult) -> pl.DataFrame:
    """Lay the result of a scan out by class.

    Returns:
        One row a class, the most suspicious first: `class`, `samples`, `flagged` and
        `flagged_share`; `median_score`; `low_p`, how many samples have a p-value of at most 0.01,
        and `expected`, how many without poison, as far as the null is true; `anomaly_index`, how
        far the share of low p-values is from the median of the classes in units of 1.4826 MAD (at
        least what chance makes of it); `p`, of the detector's own test of the class, null where it
        has none; `suspected`, whether the detector names it as a target.
    """
    import polars as pl

    classes, place = np.unique(result.label, return_inverse=True)
    counts = np.bincount(place, minlength=len(classes))

    def total(mask: np.ndarray) -> np.ndarray:
        return np.bincount(place, weights=mask, minlength=len(classes)).astype(np.int64)

    flagged, low = total(result.flagged), total(result.p_value <= LOW)
    order = np.argsort(place, kind="stable")
    groups = np.split(result.score[order], np.cumsum(counts)[:-1])
    tests = {entry["class"]: entry.get("p") for entry in result.info.get("class_tests", ())}
    suspected = set(result.info.get("target_classes", ()))
    share = low / counts
    # No spread is below that of a count: classes without any low p-value would be certain of it.
    chance = np.sqrt(LOW * (1 - LOW) / counts)
    centre = share - np.median(share)
    index = centre / np.maximum(NORMAL_MAD * np.median(np.abs(centre)), chance)
    frame = pl.DataFrame(
        {
            "class": classes,
            "samples": counts.astype(np.int64),
            "flagged": flagged,
            "flagged_share": flagged / counts,
            "median_score": np.array([np.median(group) for group in groups]),
            "low_p": low,
            "expected": LOW * counts,
            "anomaly_index": index,
            "p": pl.Series([tests.get(c) for c in classes.tolist()], dtype=pl.Float64),
            "suspected": np.array([c in suspected for c in classes.tolist()], np.bool_),
        }
    )
    return frame.sort(
        ["suspected", "flagged_share", "anomaly_index", "class"],
        descending=[True, True, True, False],
    )
