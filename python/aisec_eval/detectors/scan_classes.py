"""SCAn: statistical contamination analysis (Tang, Wang, Tang & Zhang, USENIX Security 2021).

A sample is the identity of its class plus a variation that has the same law in every class:
x = u + e, u ~ N(0, S_u), e ~ N(0, S_e). Both covariances are found by expectation maximisation,
from counts, sums and the covariance within classes alone. Then every class is cut in two with the
shared S_e as yardstick, and the gain in likelihood is compared between classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .moments import gather, reduced
from .passes import Reader
from .projections import project_classes
from .verdict import ClassTest, Scores, conclude, judge_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..results import ScanResult
    from .moments import Moments
    from .passes import Progress
    from .source import Source

_ROUNDS = 100
_TOLERANCE = 1e-6
_RANK = 1e-10
_WIDTH = 64
_CHUNK = 1024
"""Classes whose identities are computed at once."""
_RESTARTS = 8
_LEAST_ROWS = 4
_NOISE_ROWS = 2000
_NOISE_SIZES = 12
_NOISE_DRAWS = 6
_ANOMALY = float(np.exp(2))

NULL = (
    "the gain in likelihood a sample by cutting a class in two, relative to that of white noise "
    "of as many samples, is, on the logarithmic scale, alike in all classes: normal with a common "
    "mean and variance. Each class is tested against the others (leave one out, Student's t), and "
    "their number is corrected for (Bonferroni). `anomaly_index` is the paper's, whose threshold "
    "e^2 has no null"
)


@dataclass(frozen=True)
class Decomposition:
    """What a sample is made of.

    Attributes:
        whiten: float64 [d, r], the covariance of variations being the identity after it.
        between: eigenvalues of the covariance of identities after `whiten`, float64 [r].
        rounds: of expectation maximisation.
        converged: whether both covariances moved by less than 1e-6 in the last round.
    """

    whiten: NDArray[np.float64]
    between: NDArray[np.float64]
    rounds: int
    converged: bool

    def identity(self, count: float, centred: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected identity, whitened [r], of a class with this mean, less that of all samples."""
        shrink = count * self.between / (count * self.between + 1)
        identity: NDArray[np.float64] = shrink * (centred @ self.whiten)
        return identity


def decompose(
    counts: NDArray[np.int64], means: NDArray[np.float64], within: NDArray[np.float64]
) -> Decomposition:
    """Find the covariances of identities and variations.

    Both are diagonal in one basis, found anew in every round; so a round costs O(d^3 + c d^2)
    however many classes there are, where inverses for each would cost O(c d^3).

    Args:
        counts: samples of each class [c].
        means: of the classes [c, d].
        within: covariance about the class means, of all samples [d, d].

    Raises:
        InputError: nothing varies within the classes.
    """
    n = float(counts.sum())
    weight = counts / n
    centre = weight @ means
    unbiased = n / max(n - 1, 1)
    # Some classes at a time: arrays of all of them may be larger than the statistics.
    parts = [slice(first, first + _CHUNK) for first in range(0, len(counts), _CHUNK)]
    between = np.zeros_like(within)
    for part in parts:
        centred = means[part] - centre
        between += (centred * weight[part, None]).T @ centred
    between *= unbiased
    variation = within * unbiased
    rounds, converged = 0, False
    while True:
        basis, spread = _diagonalise(between, variation)
        if rounds == _ROUNDS or converged:
            break
        rounds += 1
        # E-step: in the basis a class's identity is its mean, shrunk. M-step: covariances of both.
        back = variation @ basis
        last = between, variation
        identities, rests = np.zeros_like(within), np.zeros_like(within)
        means_of = np.zeros((2, len(within)))
        for part in parts:
            shrink = counts[part, None] * spread
            shrink /= shrink + 1
            centred = means[part] - centre
            identity = (shrink * (centred @ basis)) @ back.T
            rest = centred - identity
            identities += (identity * weight[part, None]).T @ identity
            rests += (rest * weight[part, None]).T @ rest
            means_of += np.stack([weight[part] @ identity, weight[part] @ rest])
        between = (identities - np.outer(means_of[0], means_of[0])) * unbiased
        variation = (within + rests - np.outer(means_of[1], means_of[1])) * unbiased
        moved = sum(
            float(np.linalg.norm(new - old))
            for new, old in zip((between, variation), last, strict=True)
        )
        size = float(np.linalg.norm(between) + np.linalg.norm(variation))
        converged = moved <= _TOLERANCE * size
    return Decomposition(basis, spread, rounds, converged)


def _diagonalise(
    between: NDArray[np.float64], variation: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the basis where `variation` is the identity, `between` diagonal, and its diagonal.

    Directions in which nothing varies are left out.
    """
    values, vectors = np.linalg.eigh(variation)
    keep = values > _RANK * max(float(values[-1]), 1e-300)
    if not keep.any() or values[-1] <= 0:
        raise InputError("features are constant within every class: there is nothing to compare")
    whiten = vectors[:, keep] / np.sqrt(values[keep])
    spread, turn = np.linalg.eigh(whiten.T @ between @ whiten)
    return whiten @ turn, np.maximum(spread, 0.0)


def contamination(
    source: Source,
    rate: float | None,
    memory_limit: int | None,
    progress: Progress,
    *,
    clean: Source | None = None,
) -> ScanResult:
    """Score samples by the odds that they belong to the suspicious part of their class.

    Args:
        source: features and labels, read twice.
        rate: an upper bound on the poisoned fraction of a class, see `scan`.
        memory_limit: bytes for a batch, the statistics and the projections.
        progress: told of the rows read.
        clean: samples known to be clean. Then both covariances come from them, and of
            the two parts of a class the one farther from its clean samples is suspicious; without
            them the smaller one.

    Raises:
        InputError: the features do not fit, are not finite, or do not vary within classes.
    """
    reader = Reader(source, memory_limit, progress, 2)
    try:
        narrow, notes = (source, []) if clean is not None else reduced(reader)
        if narrow is not source:
            reader = Reader(narrow, memory_limit, progress, 2)
        moments = gather(reader, pooled=True)
        return _scan(reader, moments, rate, clean, notes)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            message = str(error)
            if message.startswith((source.name, "clean")):
                raise
            raise InputError(f"{source.name}: {message}") from None
        raise InputError(f"{source.name}: {error}") from None


def _scan(
    reader: Reader,
    moments: Moments,
    rate: float | None,
    clean: Source | None,
    notes: list[str],
) -> ScanResult:
    c = len(moments.labels)
    known: Moments | None = None
    if clean is not None:
        known = _clean_moments(clean, moments.dim, reader.limit)
        parts = decompose(known.counts, known.means, known.within())
    elif c < 2:
        raise InputError(
            "SCAn compares classes, and there is one; pass labels, or samples known to be "
            "clean as clean=(features, labels)"
        )
    else:
        parts = decompose(moments.counts, moments.means, moments.within())
    rank = parts.whiten.shape[1]
    width = min(rank, _WIDTH)
    lost = np.zeros(c)

    def basis(index: int) -> NDArray[np.float64]:
        if width == rank:
            return np.ascontiguousarray(parts.whiten)
        values, vectors = moments.leading(index, width, parts.whiten)
        lost[index] = values[-1]
        return np.ascontiguousarray(parts.whiten @ vectors)

    weight = moments.counts / moments.counts.sum()
    centre = weight @ moments.means
    chosen = [i for i in range(c) if moments.counts[i] >= _LEAST_ROWS]
    scores = Scores.empty(len(reader.label))
    tests: list[ClassTest] = []
    kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for index, rows, z in project_classes(reader, moments, chosen, width, basis):
        centred = moments.means[index] - centre
        off = centred @ parts.whiten - parts.identity(float(moments.counts[index]), centred)
        toward = None
        if known is not None and moments.labels[index] in known.labels:
            at = int(np.searchsorted(known.labels, moments.labels[index]))
            toward = (known.means[at] - moments.means[index]) @ basis(index)
        test, odds = _split(z, index, int(moments.labels[index]), float(off @ off), toward)
        tests.append(test)
        kept.append((rows, odds))
    gain = np.array([test.facts["gain"] for test in tests])
    middle = float(np.median(gain)) if len(gain) else 0.0
    deviation = 1.4826 * float(np.median(np.abs(gain - middle))) if len(gain) else 0.0
    for test in tests:
        index_ = abs(test.facts["gain"] - middle) / deviation if deviation > 0 else 0.0
        test.facts["anomaly_index"] = index_
        test.facts["anomalous"] = index_ > _ANOMALY and test.facts["gain"] > middle
    tests = _relative(tests, moments.counts, width)
    p, more = judge_classes(tests)
    judged = int(np.isfinite(p).sum())
    for (rows, odds), value in zip(kept, p.tolist(), strict=True):
        scores.fill(rows, odds.astype(np.float64), value, judged)
    notes = notes + more + moments.notes
    if not parts.converged:
        notes.append(f"expectation maximisation did not converge in {parts.rounds} rounds")
    if width < rank:
        notes.append(
            f"classes are cut in two in {width} of {rank} directions; in those left out a class "
            f"varies at most {lost.max():.2g} times as variations do"
        )
    info = {
        "source": reader.source.name,
        "features": moments.dim,
        "counts": moments.counts.tolist(),
        "clean_samples": int(known.counts.sum()) if known is not None else 0,
        "rounds": parts.rounds,
        "null": NULL,
        **moments.info(),
        "notes": notes,
    }
    return conclude(scores, reader.label, moments.labels, tests, p, rate, "scan", info)


def _relative(tests: list[ClassTest], counts: NDArray[np.int64], width: int) -> list[ClassTest]:
    """Set the logarithm of the gain against that of white noise of as many samples.

    Few samples in many dimensions always fall apart: classes of different sizes are comparable only
    then. The noise is simulated for a few sizes, and interpolated between them.
    """
    from .._core import gaussian_shares

    rows = np.clip([counts[test.index] for test in tests], _LEAST_ROWS, _NOISE_ROWS)
    if len(rows) == 0 or rows.min() == rows.max():
        return tests
    sizes = np.unique(np.geomspace(rows.min(), rows.max(), _NOISE_SIZES).round().astype(int))
    noise = [
        float(np.log(gaussian_shares(np.ones(width), size, _NOISE_DRAWS, 0, 0, 2).mean()))
        for size in sizes.tolist()
    ]
    chance = np.interp(np.log(rows), np.log(sizes), noise)
    return [
        replace(test, statistic=test.statistic - expected)
        for test, expected in zip(tests, chance.tolist(), strict=True)
    ]


def _clean_moments(clean: Source, dim: int, limit: int) -> Moments:
    try:
        known = gather(Reader(clean, limit, None, 1), pooled=True)
    except (ValueError, MemoryError) as error:
        raise InputError(f"clean: {error}") from None
    if known.dim != dim:
        raise InputError(f"clean: {known.dim} features, expected {dim}, as in the data")
    if int(known.counts.max()) < 2:
        raise InputError("clean: every class has one sample; variations need two of one class")
    return known


def _split(
    z: NDArray[np.float64],
    index: int,
    label: int,
    off: float,
    toward: NDArray[np.float64] | None,
) -> tuple[ClassTest, NDArray[np.float32]]:
    """Cut a class in two; the gain in log-likelihood a sample, and odds of the suspicious part."""
    from .._core import two_means

    n = len(z)
    part, centres, inertia, total, _ = two_means(z, 0, label, _RESTARTS)
    size = float(part.mean())
    gain = max(0.0, total - inertia) / n + off
    if size == 0:
        odds = np.full(n, -4.0, dtype=np.float32)
        return ClassTest(index, np.nan, {"gain": gain, "size": 0.0}), odds
    far = [((z - centre) ** 2).sum(1) for centre in centres]
    odds = np.log(size / (1 - size)) + (far[0] - far[1]) / 2
    farther = toward is not None and (
        ((centres[0] - toward) ** 2).sum() > ((centres[1] - toward) ** 2).sum()
    )
    if farther:
        odds, size = -odds, 1 - size
    return ClassTest(index, float(np.log(gain)), {"gain": gain, "size": size}), odds.astype(
        np.float32
    )
