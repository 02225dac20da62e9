"""Activation clustering (Chen et al., SafeAI 2019, arXiv:1811.03728), with a null for the clusters.

Samples of a class, in ten dimensions, are cut in two. Every class can be: what is asked is whether
there is a valley between the two parts. On the line through both centres, found from one half of
the samples, those of the other half about the middle are counted, and those about each centre.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .moments import gather
from .passes import Reader
from .projections import project_classes
from .verdict import ClassTest, Scores, conclude

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..results import ScanResult
    from .moments import Moments
    from .passes import Progress
    from .source import Source

_WIDTH = 10
_RESTARTS = 8
_NULL_RESTARTS = 2
_NULL_ROWS = 2000
_LEAST_ROWS = 20
_WINDOW = 0.25
"""Of the distance between the centres: width of the three windows on the line."""
_VALLEY = 0.5
"""A middle at least so dense, compared with the centres, is no valley."""
_SIZE = 0.35
_SILHOUETTE = 0.1
_ICA_TOLERANCE = 0.005
_ICA_ITERATIONS = 1000

NULL = (
    "on the line through the two centres of a class, the density in the middle is at least half "
    "of the lower one at the centres: so it is for any density with one mode, and for shallow "
    "valleys. The centres come from one half of the samples; in the other half counts about the "
    "middle and about a centre are compared (binomial), and so with the halves exchanged; both are "
    "corrected for, and the number of classes (Bonferroni). A clean class that consists of two "
    "distinct kinds raises a false alarm. `gaussian_z` says how much more two-means explains than "
    "of a Gaussian with the same variances, in standard deviations of simulated ones; it takes no "
    "part in the verdict, as classes of real features exceed it without poison"
)


def activation_clustering(
    source: Source,
    rate: float | None,
    memory_limit: int | None,
    progress: Progress,
    *,
    components: str = "pca",
) -> ScanResult:
    """Score samples by the odds that they belong to the smaller cluster of their class.

    One pass finds the ten leading directions of each class, a second one projects its samples;
    clustering and the simplified silhouette are linear in them.

    Args:
        source: features and labels, read twice.
        rate: an upper bound on the poisoned fraction of a class, see `scan`.
        memory_limit: bytes for a batch, the statistics and the projections.
        progress: told of the rows read.
        components: "pca", or "ica": independent components of the ten dimensions (FastICA).

    Raises:
        InputError: the features do not fit, or are not finite.
    """
    reader = Reader(source, memory_limit, progress, 2)
    try:
        moments = gather(reader)
        return _scan(reader, moments, rate, components)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None


independent_clustering = partial(activation_clustering, components="ica")


def _scan(reader: Reader, moments: Moments, rate: float | None, components: str) -> ScanResult:
    c = len(moments.labels)
    width = min(_WIDTH, moments.dim)
    variances = np.zeros((c, width))

    def basis(index: int) -> NDArray[np.float64]:
        variances[index], vectors = moments.leading(index, width)
        return np.ascontiguousarray(vectors)

    chosen = [i for i in range(c) if moments.counts[i] >= _LEAST_ROWS]
    draws = int(np.clip(20_000 // max(1, c), 8, 32))
    scores = Scores.empty(len(reader.label))
    tests: list[ClassTest] = []
    kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    slow: list[int] = []
    for index, rows, projected in project_classes(reader, moments, chosen, width, basis):
        spread = variances[index]
        # Directions in which nothing varies carry no components.
        rank = int((spread > 1e-12 * spread[0]).sum()) if spread[0] > 0 else 0
        if rank == 0:
            tests.append(ClassTest(index, np.nan, {"note": "all samples are equal"}))
            kept.append((rows, np.full(len(rows), -4.0, dtype=np.float32)))
            continue
        z, spread = np.ascontiguousarray(projected[:, :rank]), spread[:rank]
        if components == "ica":
            z, converged = _independent(z, spread, int(moments.labels[index]))
            spread = np.ones(rank)
            if not converged:
                slow.append(int(moments.labels[index]))
        test, odds = _cluster(z, spread, index, int(moments.labels[index]), draws)
        tests.append(test)
        kept.append((rows, odds))
    p = np.array([test.statistic for test in tests])
    judged = int(np.isfinite(p).sum())
    notes: list[str] = []
    for (rows, odds), value in zip(kept, p.tolist(), strict=True):
        scores.fill(rows, odds.astype(np.float64), value, judged)
    notes += moments.notes
    small = moments.labels[moments.counts < _LEAST_ROWS].tolist()
    if small:
        names = ", ".join(map(str, small[:10])) + (" ..." if len(small) > 10 else "")
        notes.append(f"classes of fewer than {_LEAST_ROWS} samples, left out: {names}")
    if slow:
        names = ", ".join(map(str, slow[:10])) + (" ..." if len(slow) > 10 else "")
        notes.append(f"components of classes that did not converge: {names}")
    method = "activation-clustering" + ("-ica" if components == "ica" else "")
    info: dict[str, Any] = {
        "source": reader.source.name,
        "features": moments.dim,
        "counts": moments.counts.tolist(),
        "components": components,
        "silhouette": "simplified: distances to the two centres, linear in the samples",
        "null": NULL,
        **moments.info(),
        "notes": notes,
    }
    return conclude(scores, reader.label, moments.labels, tests, p, rate, method, info)


def _independent(
    z: NDArray[np.float64], spread: NDArray[np.float64], label: int
) -> tuple[NDArray[np.float64], bool]:
    from .._core import fast_ica

    white = z / np.sqrt(spread)
    sources, _, converged = fast_ica(white, _ICA_TOLERANCE, _ICA_ITERATIONS, label)
    return sources, converged


def _cluster(
    z: NDArray[np.float64], spread: NDArray[np.float64], index: int, label: int, draws: int
) -> tuple[ClassTest, NDArray[np.float32]]:
    """Cut a class in two; compare with a Gaussian; log-odds of the smaller part."""
    from .._core import gaussian_shares, two_means

    n, width = z.shape
    part, centres, inertia, total, silhouette = two_means(z, 0, label, _RESTARTS)
    size = float(part.mean())
    share = 1 - inertia / total if total > 0 else 0.0
    if not 0 < share < 1 or size == 0:
        few = {"share": share, "size": size, "silhouette": silhouette}
        return ClassTest(index, np.nan, few), np.full(n, -4.0, dtype=np.float32)
    p_value, valley = _valley(z, label)
    null = gaussian_shares(spread, min(n, _NULL_ROWS), draws, 0, label, _NULL_RESTARTS)
    null = np.log(null) - np.log1p(-np.minimum(null, 1 - 1e-12))
    excess = float(np.log(share) - np.log1p(-share) - null.mean())
    facts: dict[str, Any] = {
        "share": share,
        "size": size,
        "silhouette": silhouette,
        "valley": valley,
        "gaussian_z": excess / max(float(null.std(ddof=1)), 1e-12),
        # The rules of the paper, which have no null.
        "small": size < _SIZE,
        "cohesive": size < _SIZE and silhouette > _SILHOUETTE,
    }
    far = [((z - centre) ** 2).sum(1) for centre in centres]
    odds = np.log(size / (1 - size)) + (far[0] - far[1]) / (2 * inertia / (n * width))
    return ClassTest(index, p_value, facts), odds.astype(np.float32)


def _valley(z: NDArray[np.float64], label: int) -> tuple[float, float]:
    """P-value of no valley between two parts, and density in the middle over that at the centres.

    The centres of every second sample are tested on the samples between them, and conversely.
    """
    from scipy.special import bdtr

    from .._core import two_means

    p_values, middles, sides = [], 0, 0
    for fitted, tested in ((z[::2], z[1::2]), (z[1::2], z[::2])):
        _, centres, *_ = two_means(np.ascontiguousarray(fitted), 0, label, _RESTARTS)
        apart = centres[1] - centres[0]
        length = float(apart @ apart)
        if length == 0:
            return 1.0, 1.0
        line = ((tested - centres[0]) * apart).sum(1) / length
        left, middle, right = (
            int((np.abs(line - at) < _WINDOW / 2).sum()) for at in (0.0, 0.5, 1.0)
        )
        side = min(left, right)
        # Both centres must stand out: the lower one decides.
        chance = _VALLEY / (1 + _VALLEY)
        p_values.append(float(bdtr(middle, middle + side, chance)) if middle + side else 1.0)
        middles, sides = middles + middle, sides + side
    return min(1.0, 2 * min(p_values)), middles / max(sides, 1)
