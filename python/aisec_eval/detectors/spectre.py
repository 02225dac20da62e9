"""SPECTRE: robust covariance and quantum entropy (Hayase et al., ICML 2021, arXiv:2104.11315).

Poison that spreads along the directions of its class hides from the covariance of all samples. So
the covariance is estimated from samples that look Gaussian together, all are whitened by it, and
directions in which they still vary too much are weighted by a matrix exponential. The dimension is
chosen such that the excess is largest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .moments import gather
from .passes import Reader
from .projections import project_classes
from .quadratic import weighted_chi_square_tail
from .verdict import LEVEL, ClassTest, Scores, conclude, judge_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..results import ScanResult
    from .moments import Moments
    from .passes import Progress
    from .source import Source

ALPHA = 4.0
_SQUARES = [k * k for k in range(1, 11)]
_UNKNOWN_RATE = 0.1
_LEAST_ROWS = 20
_PER_DIMENSION = 20
"""Samples of a class for each dimension: fourth moments of fewer are mostly chance."""
_REMOVED, _LIMIT = 1.5, 2.0

NULL = (
    "of samples: a class is Gaussian with the robust covariance; then the score is a sum of "
    "squares of independent normals with the eigenvalues of the weights, and p-values are its tail "
    "(saddlepoint approximation). Heavier tails give more small p-values than 1 %. Of the dataset: "
    "the excess of the best dimension is, on the logarithmic scale, alike in all classes: normal "
    "with a common mean and variance (leave one out, Student's t, Bonferroni over classes)"
)


@dataclass(frozen=True)
class Quantum:
    """What one class gives in the dimension chosen.

    Attributes:
        scores: float64 [n].
        weights: eigenvalues of the weights of trace 1, float64 [dimension].
        dimension: of the ten squares.
        excess: how much all samples vary, in units of those trusted, along the weights.
        trusted: share of the samples that the covariance is estimated from.
    """

    scores: NDArray[np.float64]
    weights: NDArray[np.float64]
    dimension: int
    excess: float
    trusted: float


def quantum_scores(
    z: NDArray[np.float64],
    rate: float,
    squares: list[int],
    *,
    elementwise: bool = False,
    extreme: bool = True,
) -> Quantum:
    """Score the samples of one class.

    Args:
        z: in the leading directions of the class, most variance first, float64 [n, k].
        rate: bound on the poisoned share, in (0, 0.5).
        squares: dimensions to choose from, ascending, at most k.
        elementwise: take the exponential of entries, as some ports do.
        extreme: filter as the authors' program does where the published tail reaches no sample.
    """
    from .._core import quantum_entropy, trusted_rows

    n = len(z)

    def attempt(k: int) -> Quantum:
        narrow = np.ascontiguousarray(z[:, :k])
        kept = np.ones(n, dtype=np.bool_)
        if k > 1:
            kept, _, _ = trusted_rows(narrow, rate, round(_LIMIT * rate * n), extreme)
        scores, _, weights = quantum_entropy(narrow, kept, ALPHA, elementwise)
        # The dimensions are compared in the widest of them.
        left = np.ones(n, dtype=np.bool_)
        left[np.argsort(-scores, kind="stable")[: round(_REMOVED * rate * n)]] = False
        excess = quantum_entropy(z, left, ALPHA, elementwise)[1]
        return Quantum(scores, weights, k, float(excess), float(kept.mean()))

    # The first, that is the smallest, of the best.
    return max((attempt(k) for k in squares), key=lambda found: found.excess)


def spectre(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """Score samples by their quantum entropy within their class.

    Args:
        source: features and labels, read twice (more often if the projections do not fit).
        rate: an upper bound on the poisoned fraction of a class. The filter needs one: without it
            0.1 is assumed, and said, and 1.5 times as many are flagged in suspected classes alone.
        memory_limit: bytes for a batch, the statistics and the projections.
        progress: told of the rows read.

    Raises:
        InputError: the features do not fit, or are not finite.
    """
    reader = Reader(source, memory_limit, progress, 2)
    try:
        moments = gather(reader)
        return _scan(reader, moments, rate)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None


def _scan(reader: Reader, moments: Moments, rate: float | None) -> ScanResult:
    c = len(moments.labels)
    assumed = rate if rate is not None else _UNKNOWN_RATE
    # A sketch has no more directions than this.
    most = min(moments.dim, 2 * moments.directions or moments.dim)
    width = min(_SQUARES[-1], most)
    variances = np.zeros((c, width))

    def basis(index: int) -> NDArray[np.float64]:
        variances[index], vectors = moments.leading(index, width)
        return np.ascontiguousarray(vectors)

    chosen = [i for i in range(c) if moments.counts[i] >= _LEAST_ROWS]
    n = len(reader.label)
    own = np.ones(n)
    tests: list[ClassTest] = []
    kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for index, rows, projected in project_classes(reader, moments, chosen, width, basis):
        spread = variances[index]
        rank = int((spread > 1e-10 * spread[0]).sum()) if spread[0] > 0 else 0
        rank = min(rank, len(rows) // _PER_DIMENSION)
        if rank == 0:
            tests.append(ClassTest(index, np.nan, {"note": "all samples are equal"}))
            kept.append((rows, np.full(len(rows), -4.0, dtype=np.float32)))
            continue
        squares = [k for k in _SQUARES if k <= rank]
        found = quantum_scores(np.ascontiguousarray(projected[:, : squares[-1]]), assumed, squares)
        own[rows] = weighted_chi_square_tail(found.scores, found.weights)
        facts = {
            "excess": found.excess,
            "dimension": found.dimension,
            "trusted": found.trusted,
        }
        # An excess of 1 is none at all.
        value = float(np.log(max(found.excess, 1e-12)))
        tests.append(ClassTest(index, value, facts))
        kept.append((rows, np.log(np.maximum(found.scores, 1e-12)).astype(np.float32)))
    p, notes = judge_classes(tests)
    judged = int(np.isfinite(p).sum())
    scores = Scores.empty(n)
    for (rows, odds), value in zip(kept, p.tolist(), strict=True):
        scores.fill(rows, odds.astype(np.float64), value, judged)
        if np.isfinite(value) and value * judged < LEVEL:
            highest = np.argsort(-odds, kind="stable")[: int(_REMOVED * assumed * len(rows))]
            scores.clean[rows] = 1.0
            scores.clean[rows[highest]] = 0.0
    notes += moments.notes
    if rate is None:
        notes.append(f"no rate was given; the filter assumed at most {_UNKNOWN_RATE} of a class")
    info: dict[str, Any] = {
        "source": reader.source.name,
        "features": moments.dim,
        "counts": moments.counts.tolist(),
        "assumed_rate": assumed,
        "null": NULL,
        **moments.info(),
        "notes": notes,
    }
    result = conclude(scores, reader.label, moments.labels, tests, p, rate, "spectre", info)
    if rate is None:
        rule = f"in suspected classes: the floor({_REMOVED} * {assumed} * n_c) highest scores"
        result = replace(result, info={**result.info, "rule": rule})
    return replace(result, p_value=own)
