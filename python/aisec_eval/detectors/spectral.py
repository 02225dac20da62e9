"""Centred spectral signatures (Tran, Li & Madry, NeurIPS 2018, arXiv:1811.00636)."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError, InputError
from ..results import ScanResult
from .directions import check_labels, leading_directions
from .flag import benjamini_hochberg, highest_in_class
from .source import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .._core import Spectral
    from .source import Source

_BATCH = 16 * MIB
_DISCOVERY_RATE = 0.01
_PART = 1 << 16

_NULL = (
    "chi-square with one degree of freedom of score / eigenvalue: exact for a Gaussian class whose "
    "covariance is known; here it is estimated from the same, possibly poisoned, samples, so a "
    "large share of poison raises the eigenvalue and hides itself, and heavy-tailed features give "
    "more small p-values than 1 %"
)


def spectral_signatures(
    source: Source,
    rate: float | None,
    memory_limit: int | None,
    progress: Callable[[int, int, str], None] | None,
) -> ScanResult:
    """Score samples by their squared projection on the leading direction of their class.

    The first pass gathers means and covariances per class (`leading_directions` says what is done
    where they do not fit); the last one projects each sample, minus its class's mean, on the
    leading eigenvector of the class's covariance.
    """
    limit = memory_limit if memory_limit is not None else _physical_memory() // 2
    batch = min(_BATCH, limit // 4)
    held = batch + source.window_bytes
    size = max(1, batch // source.row_bytes)
    total = 2 * (source.rows or 0)
    done = 0

    def advance(rows: int, note: str) -> None:
        nonlocal done, total
        done += rows
        if note.startswith("pass"):
            total = 0
        if progress is not None:
            progress(done, total, note)

    try:
        fit, label, found = leading_directions(source, size, limit - held, advance)
        score = _second_pass(source, size, fit, label, advance)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None
    return spectral_result(source, label, score, fit, found, rate)


def _second_pass(
    source: Source,
    size: int,
    fit: Spectral,
    label: NDArray[np.int64],
    advance: Callable[[int, str], None],
) -> NDArray[np.float64]:
    score = np.empty(len(label))
    first = 0
    for x, y in source.batches(size):
        check_labels(source, y, label, first)
        score[first : first + len(y)] = fit.score(x, y, first)
        first += len(y)
        advance(len(y), "scores")
    if first != len(label):
        raise DatasetError(f"{source.name}: changed between the passes over it")
    return score


def spectral_result(
    source: Source,
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    fit: Spectral,
    found: dict[str, Any],
    rate: float | None,
) -> ScanResult:
    """Turn the scores of all samples into p-values and flags.

    Args:
        source: what was scanned, for its name.
        label: [n].
        score: [n].
        fit: the directions scored by.
        found: how they were found, see `leading_directions`.
        rate: see `scan`.
    """
    classes, eigenvalues, counts = fit.labels, fit.eigenvalues, fit.counts
    p_value = np.empty_like(score)
    for first in range(0, len(score), _PART):
        part = slice(first, first + _PART)
        own = eigenvalues[np.searchsorted(classes, label[part])]
        p_value[part] = chi_square_tail(score[part], own)
    if rate is None:
        flagged = benjamini_hochberg(p_value, _DISCOVERY_RATE)
        rule = f"Benjamini-Hochberg over all samples at a false discovery rate of {_DISCOVERY_RATE}"
    else:
        flagged = highest_in_class(score, label, 1.5 * rate)
        rule = "the floor(1.5 * rate * n_c) highest scores of each class"
    dim = fit.means.shape[1]
    notes = [
        f"class {c} has {n} samples of {dim} features: its leading direction is mostly chance"
        for c, n in zip(classes.tolist(), counts.tolist(), strict=True)
        if n <= dim
    ]
    if "note" in found:
        notes.append(found["note"])
    return ScanResult(
        score=score,
        flagged=flagged,
        p_value=p_value,
        label=label,
        method="spectral",
        classes=classes,
        eigenvalues=eigenvalues,
        info={
            "source": source.name,
            "features": dim,
            "counts": counts.tolist(),
            "rate": rate,
            "rule": rule,
            "null": _NULL,
            "directions": found["directions"],
            "residual": found.get("residual", 0.0),
            "notes": notes,
        },
    )


def chi_square_tail(
    score: NDArray[np.float64], eigenvalue: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return P(chi-square with one degree of freedom >= score / eigenvalue), 1 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.sqrt(score / (2 * eigenvalue))
    z[score == 0] = 0.0
    return np.fromiter(map(math.erfc, z.tolist()), np.float64, len(z))


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
