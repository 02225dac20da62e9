"""Frequencies: triggers leave power where natural images of any class have little.

After Zeng et al., "Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective", ICCV 2021,
arXiv:2104.03413, but nothing is trained on synthetic triggers: the logarithmic power of the
discrete cosine transform in radial bands is fitted on clean samples, or within each class by the
spread of the others, and samples are scored by the power they have beyond it. Power that is missing
does not count: triggers add it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_count, check_seed
from ..errors import InputError
from ..results import ScanResult
from .nulls import check_bounds, check_clean, check_share, halves, judge
from .passes import Reader
from .source import open_source
from .sources.arrays import ArraySource, NpySource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .passes import Progress
    from .source import Source

FLOOR = 1e-6
"""Power of a coefficient, relative to the squared input range, that counts as none: about what
rounding to 256 levels adds."""
_RIDGE = 1e-3
_MEDIAN_OF = 4096
_STREAM = 0x4443542D4949


def frequency(
    x: Any,
    y: Any = None,
    *,
    clean: Any = None,
    clean_labels: Any = None,
    bands: int = 8,
    shape: tuple[int, ...] | None = None,
    channels: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    fpr: float = 0.01,
    seed: int = 0,
    memory_limit: int | None = None,
    progress: Progress = None,
) -> ScanResult:
    """Score images by how unusual their spectrum is; needs no model.

    An orthonormal two-dimensional DCT-II of each channel, without its constant; the logarithm of
    the mean power in rings of equal width. Two squares are added up over the rings, where positive:
    of the excess over the mean, in standard deviations, and of the excess over what lower
    frequencies let expect (the innovations of the Cholesky factor, from low to high).

    Args:
        x: images [n, *shape] in `bounds`, or what else `scan` takes, with rows of flattened images;
            read once, twice without clean samples.
        y: labels, as `scan` takes them; one class when None.
        clean: images without poison [m, *shape], m >= 20: on one half mean and covariance are
            fitted, the other gives the null. None: each class is centred by its own median (of up
            to 4,096 samples), compared by the covariance within the other classes and judged by
            them. Then a class of which poison is a third or more is rarely called, though its
            samples are ranked.
        clean_labels: their labels [m], so that each class is tested by its own.
        bands: at most how many rings; as many as the shorter side has pixels if that is less.
        shape: of one image, where `x` does not say.
        channels: axis of the channels in it; the first or last of three axes, whichever is shorter,
            when None.
        bounds: lowest and highest value of a pixel.
        fpr: with clean samples, the share of them that may be flagged: `p <= fpr` is.
        seed: divides the clean samples, chooses those of the medians.
        memory_limit: bytes for one batch.
        progress: called as `progress(rows done, rows in all or 0 if unknown, note)`.

    Returns:
        `score` is the sum of squares. With clean samples `flagged` is `p_value <= fpr`; without,
        after an alarm, the samples of suspected classes with `p_value <= fpr`. `info` has the null,
        the verdict on the dataset and one test a class.

    Raises:
        InputError: images, labels or options do not fit; the row is named.
        DatasetError: a file cannot be read.
    """
    source = open_source(x, y, memory_limit=memory_limit)
    low, high = check_bounds(bounds)
    fpr, seed = check_share("fpr", fpr), check_seed(seed)
    spectrum = Spectrum(_shape(source, shape), channels, check_count("bands", bands), high - low)
    reader = Reader(source, memory_limit, progress, 2 if clean is None else 1)
    known = None
    if clean is not None:
        held, held_label = check_clean(np.asarray(clean, np.float32), clean_labels, spectrum.shape)
        rings = spectrum(held.reshape(len(held), -1), "clean", 0)
        fitted, rest = halves(len(held), seed, _STREAM, len(held))
        covariance = np.atleast_2d(np.cov(rings[fitted].T, bias=True))
        models: dict[int | None, _Fit] = {None: _Fit.of(rings[fitted].mean(0), covariance)}
        baseline = np.sqrt(models[None].excess(rings[rest]))
        known = baseline, None if held_label is None else held_label[rest]
    else:
        models = _by_class(reader, spectrum, seed)
    parts, labels = [], []
    for first, (rows, label) in reader.batches("scores"):
        rings = spectrum(rows, source.name, first)
        score = np.empty(len(rows))
        for c in np.unique(label).tolist():
            inside = label == c
            fit = models[c] if c in models else models[None]
            score[inside] = fit.excess(rings[inside])
        parts.append(score)
        labels.append(label.copy())
    score, label = np.concatenate(parts), np.concatenate(labels)
    what = "the half of the clean samples that nothing was fitted on, their excess of power"
    p, flagged, info = judge(np.sqrt(score), label, known, what, fpr)
    return ScanResult(
        score=score,
        flagged=flagged,
        p_value=p,
        label=label,
        method="frequency",
        classes=np.unique(label),
        eigenvalues=np.empty(0),
        info={
            **info,
            "source": source.name,
            "bands": spectrum.bands,
            "channels": spectrum.planes,
            "seed": seed,
        },
    )


class Spectrum:
    """Logarithmic power of images in radial bands of their DCT.

    Attributes:
        shape: of one image.
        bands: rings that hold a coefficient.
        planes: channels of an image.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: int | None, bands: int, width: float
    ) -> None:
        if channels is None and len(shape) == 3:
            channels = 0 if shape[0] <= shape[2] else 2
        if len(shape) - (channels is not None) != 2 or channels not in (None, 0, 1, 2):
            raise InputError(
                f"images of shape {list(shape)} with channels={channels}; expected "
                "[height, width], or three axes of which one are the channels"
            )
        self.shape = shape
        self._channels = channels
        self.planes = 1 if channels is None else shape[channels]
        height, width_ = (n for i, n in enumerate(shape) if i != channels)
        if height * width_ < 2:
            raise InputError(f"images of shape {list(shape)} have no frequencies")
        rows, columns = np.indices((height, width_)) / np.array([height, width_]).reshape(2, 1, 1)
        radius = np.hypot(rows, columns).ravel()
        wanted = min(bands, max(1, min(height, width_)))
        ring = np.minimum((radius / radius.max() * wanted).astype(np.int64), wanted - 1)
        # The constant is brightness; rings without a coefficient are left out.
        ring[1:] = np.unique(ring[1:], return_inverse=True)[1]
        self.bands = int(ring[1:].max()) + 1
        self._mean = np.zeros((height * width_, self.bands))
        self._mean[np.arange(1, len(ring)), ring[1:]] = 1
        self._mean /= self._mean.sum(axis=0)
        self._floor = FLOOR * width**2

    def __call__(self, rows: NDArray[Any], name: str, first: int) -> NDArray[np.float64]:
        """Return the bands [b, bands * planes] of flattened images, from low to high.

        Raises:
            InputError: an image is of another size, or not finite; `first` rows came before.
        """
        from scipy.fft import dctn

        if rows.shape[1] != math.prod(self.shape):
            raise InputError(
                f"{name}: rows of {rows.shape[1]} values, images are {list(self.shape)}"
            )
        finite = np.isfinite(rows)
        if not finite.all():
            row, place = (int(i[0]) for i in np.nonzero(~finite))
            raise InputError(f"{name}: row {first + row}: value {place} is not finite")
        images = rows.reshape(-1, *self.shape)
        if self._channels is None:
            images = images[:, None]
        elif self._channels:
            images = np.moveaxis(images, self._channels + 1, 1)
        power = dctn(images, axes=(2, 3), norm="ortho").astype(np.float64) ** 2
        rings = power.reshape(len(rows) * self.planes, -1) @ self._mean
        logs = np.log(rings + self._floor).reshape(len(rows), self.planes, -1)
        # From low to high, the channels of a ring side by side.
        bands: NDArray[np.float64] = logs.transpose(0, 2, 1).reshape(len(rows), -1)
        return bands


def _shape(source: Source, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    if shape is not None:
        return tuple(check_count("shape", n) for n in shape)
    if isinstance(source, ArraySource):
        found = source.x.shape[1:]
    elif isinstance(source, NpySource):
        found = source.shape[1:]
    else:
        found = ()
    if len(found) < 2:
        raise InputError(
            f"{source.name}: rows do not say how images are laid out; pass shape=(1, 28, 28)"
        )
    return found


def _by_class(reader: Reader, spectrum: Spectrum, seed: int) -> dict[int | None, _Fit]:
    """First pass: the median of each class, and the covariance within the others."""
    from .._core import Statistics

    d = spectrum.planes * spectrum.bands
    statistics = Statistics(d, reader.limit - reader.batch - reader.source.window_bytes)
    drawn: dict[int, tuple[NDArray[np.uint64], NDArray[np.float64]]] = {}
    nothing = np.empty(0, np.uint64), np.empty((0, d))
    words = np.random.Philox(key=seed + (_STREAM << 64))
    for first, (rows, label) in reader.batches("statistics"):
        rings = spectrum(rows, reader.source.name, first)
        statistics.update(rings, label)
        draw = words.random_raw(len(label))
        for c in np.unique(label).tolist():
            inside = label == c
            order, kept = drawn.get(c, nothing)
            order = np.concatenate([order, draw[inside]])
            chosen = np.sort(np.argsort(order, kind="stable")[:_MEDIAN_OF])
            drawn[c] = order[chosen], np.concatenate([kept, rings[inside]])[chosen]
    labels, counts, _ = statistics.classes()
    scatter = {
        label: count * statistics.covariance(label)
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
    }
    total, n = np.sum(list(scatter.values()), axis=0), int(counts.sum())
    models: dict[int | None, _Fit] = {}
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        # One class alone has nothing to be compared with but itself.
        rest = (total - scatter[label]) / (n - count) if count < n else total / n
        models[label] = _Fit.of(np.median(drawn[label][1], axis=0), rest)
    return models


@dataclass(frozen=True, eq=False)
class _Fit:
    """Where spectra are expected, and how far they spread."""

    centre: NDArray[np.float64]
    deviation: NDArray[np.float64]
    factor: NDArray[np.float64]
    """Lower triangular: times the innovations, it gives the rings."""

    @staticmethod
    def of(centre: NDArray[np.float64], covariance: NDArray[np.float64]) -> _Fit:
        """Fit by centre and covariance; a small multiple of the identity is added."""
        d = len(covariance)
        ridge = max(_RIDGE * float(np.trace(covariance)) / d, 1e-12)
        full = covariance + ridge * np.eye(d)
        factor = np.asarray(np.linalg.cholesky(full), np.float64)
        return _Fit(centre, np.sqrt(np.diag(full)), factor)

    def excess(self, rings: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the squares of what is above expectation [n]."""
        from scipy.linalg import solve_triangular

        off = rings - self.centre
        innovations = solve_triangular(self.factor, off.T, lower=True).T
        parts = (off / self.deviation, innovations)
        total: NDArray[np.float64] = sum((np.maximum(part, 0) ** 2).sum(axis=1) for part in parts)
        return total
