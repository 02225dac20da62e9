"""Linear discriminants: samples that belong, by the subspace that separates classes, elsewhere.

Class means and the covariance within classes span a subspace in which Gaussian classes of one shape
are told apart best (Fisher, 1936; Rao, 1948). There a sample has log-odds of every other class
against its own; the largest of them is its score. It finds wrong labels, and backdoors whose
features still show where they came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..results import ScanResult
from .flag import benjamini_hochberg, highest_in_class
from .moments import gather, reduced
from .passes import Reader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .moments import Moments
    from .passes import Progress
    from .source import Source

_WIDTH = 64
_RANK = 1e-10
_DISCOVERY_RATE = 0.01
_CHUNK = 4096
_CELLS = 1 << 20
"""Odds of samples against classes that are held at once."""
_GRID = 256

_LEAST_SAMPLES = 20
"""Of a class, to say where its scores lie."""

NULL = (
    "log-odds, less the median of their class and divided by how far its upper quartile is from "
    "that, are distributed alike in all classes: a p-value is the rank among the samples of the "
    "other classes. Wrong labels in all classes make each other's p-values larger. There is no "
    "verdict on the dataset"
)


def discriminants(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """Score samples by the log-odds that they belong to another class than their own.

    Args:
        source: features and labels, read twice.
        rate: an upper bound on the poisoned fraction of a class, see `scan`.
        memory_limit: bytes for a batch and the statistics.
        progress: told of the rows read.

    Raises:
        InputError: the features do not fit, are not finite, or there is one class.
    """
    reader = Reader(source, memory_limit, progress, 2)
    try:
        narrow, notes = reduced(reader)
        if narrow is not source:
            reader = Reader(narrow, memory_limit, progress, 2)
        moments = gather(reader, pooled=True, most=2)
        return _scan(reader, moments, rate, notes)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None


def _scan(reader: Reader, moments: Moments, rate: float | None, notes: list[str]) -> ScanResult:
    from .._core import Projection

    c = len(moments.labels)
    name = reader.source.name
    if c < 2:
        raise InputError(f"{name}: one class, and discriminants tell classes apart; pass labels")
    weight = moments.counts / moments.counts.sum()
    centre = weight @ moments.means
    basis, eigenvalues = _subspace(moments, weight, centre, name)
    centres = (moments.means - centre) @ basis
    projection = Projection(
        np.zeros(1, dtype=np.int64), centre[None], np.ascontiguousarray(basis[None])
    )
    prior = np.log(weight)
    score = np.empty(len(reader.label))
    suspect = np.empty(len(reader.label), dtype=np.int64)
    own = np.searchsorted(moments.labels, reader.label)
    cells = min(_CELLS, reader.limit // 128)
    step = max(1, min(_CHUNK, cells // c))
    for first, (x, y) in reader.batches("scores"):
        z = projection.apply(x, np.zeros_like(y), first)
        for start in range(0, len(y), step):
            part = slice(first + start, first + min(start + step, len(y)))
            odds, other = _odds(z[start : start + step], own[part], centres, prior)
            score[part], suspect[part] = odds, other
    p_value = leave_class_out(score, own)
    if rate is None:
        tails = _gaussian_tails(score, own, centres, prior, cells)
        flagged = benjamini_hochberg(tails, _DISCOVERY_RATE)
        rule = (
            "Benjamini-Hochberg over all samples at a false discovery rate of "
            f"{_DISCOVERY_RATE}, as if classes were Gaussian with the pooled covariance: of "
            "classes of other shapes more clean samples are flagged"
        )
    else:
        flagged = highest_in_class(score, reader.label, 1.5 * rate)
        rule = "the floor(1.5 * rate * n_c) highest scores of each class"
    pairs, often = np.unique(own[flagged] * c + suspect[flagged], return_counts=True)
    frequent = np.argsort(-often, kind="stable")[:20]
    return ScanResult(
        score=score,
        flagged=flagged,
        p_value=p_value,
        label=reader.label,
        method="lda",
        classes=moments.labels,
        eigenvalues=np.empty(0),
        info={
            "source": name,
            "features": moments.dim,
            "counts": moments.counts.tolist(),
            "dimension": basis.shape[1],
            "discriminant_eigenvalues": eigenvalues.tolist(),
            # What flagged samples look like: [label, other class, how many].
            "confused": [
                [
                    int(moments.labels[pairs[i] // c]),
                    int(moments.labels[pairs[i] % c]),
                    int(often[i]),
                ]
                for i in frequent.tolist()
            ],
            "rate": rate,
            "rule": rule,
            "null": NULL,
            **moments.info(),
            "notes": notes + moments.notes,
        },
    )


def _subspace(
    moments: Moments, weight: NDArray[np.float64], centre: NDArray[np.float64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Basis [d, r] that makes variations within classes white, leading discriminants first."""
    values, vectors = np.linalg.eigh(moments.within())
    keep = values > _RANK * max(float(values[-1]), 1e-300)
    if not keep.any() or values[-1] <= 0:
        raise InputError(f"{name}: features are constant within every class")
    whiten = vectors[:, keep] / np.sqrt(values[keep])
    apart = np.sqrt(weight)[:, None] * ((moments.means - centre) @ whiten)
    _, singular, turn = np.linalg.svd(apart, full_matrices=False)
    rank = int((singular > 1e-12 * max(float(singular[0]), 1e-300)).sum())
    rank = max(1, min(rank, _WIDTH, len(moments.labels) - 1))
    return whiten @ turn[:rank].T, singular[:rank] ** 2


def _odds(
    z: NDArray[np.float64],
    own: NDArray[np.int64],
    centres: NDArray[np.float64],
    prior: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Largest log-odds of another class against the own one [n], and which."""
    linear = z @ centres.T + (prior - 0.5 * (centres**2).sum(1))
    rows = np.arange(len(z))
    mine = linear[rows, own]
    linear[rows, own] = -np.inf
    other = linear.argmax(1)
    odds: NDArray[np.float64] = linear[rows, other] - mine
    return odds, other


def leave_class_out(score: NDArray[np.float64], own: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rank of every score among those of other classes, each in the units of its class.

    `(1 + number as high) / (1 + number)`. Classes of fewer than 20 samples have the units of all
    samples together, as has one whose upper quartile is its median.

    Args:
        score: higher is more suspicious [n].
        own: index of the class, every one from 0 on there [n].
    """
    order = np.argsort(own, kind="stable")
    starts = np.searchsorted(own[order], np.arange(int(own.max()) + 2))
    middle, upper = np.quantile(score, [0.5, 0.75])
    z = np.empty_like(score)
    for c in range(len(starts) - 1):
        rows = order[starts[c] : starts[c + 1]]
        centre, width = middle, upper - middle
        if len(rows) >= _LEAST_SAMPLES:
            low, high = np.quantile(score[rows], [0.5, 0.75])
            if high > low:
                centre, width = low, high - low
        z[rows] = (score[rows] - centre) / max(width, 1e-300)
    everything = np.sort(z)
    p_value = np.empty_like(score)
    for c in range(len(starts) - 1):
        rows = order[starts[c] : starts[c + 1]]
        inside = np.sort(z[rows])
        above = len(z) - np.searchsorted(everything, z[rows], side="left")
        same = len(inside) - np.searchsorted(inside, z[rows], side="left")
        p_value[rows] = (1 + above - same) / (1 + len(z) - len(inside))
    return p_value


def _gaussian_tails(
    score: NDArray[np.float64],
    own: NDArray[np.int64],
    centres: NDArray[np.float64],
    prior: NDArray[np.float64],
    cells: int,
) -> NDArray[np.float64]:
    """Chance that a sample of its class has some log-odds as large: the union bound, at most 1.

    Against class k the log-odds are normal with mean prior_k - prior - D^2 / 2 and variance D^2.
    """
    from scipy.special import log_ndtr

    p_value = np.empty_like(score)
    order = np.argsort(own, kind="stable")
    starts = np.searchsorted(own[order], np.arange(len(centres) + 1))
    for c in range(len(centres)):
        rows = order[starts[c] : starts[c + 1]]
        if not len(rows):
            continue
        square = np.delete(((centres - centres[c]) ** 2).sum(1), c)
        distance = np.sqrt(np.maximum(square, 1e-300))
        mean = np.delete(prior, c) - prior[c] - square / 2
        values = score[rows]
        grid = np.linspace(float(values.min()), float(values.max()), _GRID)
        # Fewer values than points of the grid are computed as they are.
        at = values if len(values) <= _GRID else grid
        log = np.empty(len(at))
        step = max(1, cells // len(centres))
        for first in range(0, len(at), step):
            tails = log_ndtr(-(at[first : first + step, None] - mean) / distance)
            log[first : first + step] = np.logaddexp.reduce(tails, axis=1)
        np.minimum(log, 0.0, out=log)
        p_value[rows] = np.exp(log if at is values else np.interp(values, grid, log))
    return p_value
