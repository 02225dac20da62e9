"""What one pass says of every class: count, mean, and the directions in which it varies.

Exact covariance matrices where they fit; else a sketch of every class (frequent directions), whose
error is known, and the covariance within classes pooled over all of them, which is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .directions import WIDE
from .source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .._core import Projection, Sketch, Statistics
    from .passes import Reader
    from .source import Batch

_MOST_DIRECTIONS = 128
_LEAST_DIRECTIONS = 2
_MATRICES = 8
"""Matrices of dim * dim numbers that are held at once while small algebra is done."""
_MEANS, _POOLED_MEANS = 3, 5
"""Arrays of a number a class and feature that are held at once; more where classes are compared."""
_SHARE = 2 / 3
"""Of the memory left: for the statistics. The rest is for projections."""


@dataclass
class Moments:
    """Counts and means of the classes, ascending by label, and their covariances.

    Attributes:
        labels: int64 [c].
        counts: int64 [c].
        means: float64 [c, d].
        variance: trace of each covariance, float64 [c].
        error: by how much the variance of a class in any direction may be larger than what
            `leading` says, float64 [c]; 0 where covariances are exact.
        found: covariance matrices, or sketches.
        directions: that a sketch keeps of a class; 0 where covariances are exact.
        pooled: the covariance within classes, once it is known.
        held: bytes of all this, with what is computed from it.
        notes: what the user should be told.
    """

    labels: NDArray[np.int64]
    counts: NDArray[np.int64]
    means: NDArray[np.float64]
    variance: NDArray[np.float64]
    error: NDArray[np.float64]
    found: Statistics | Sketch
    directions: int = 0
    pooled: NDArray[np.float64] | None = None
    held: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def dim(self) -> int:
        """Number of features."""
        return int(self.means.shape[1])

    def leading(
        self, index: int, count: int, whiten: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Leading eigenvalues [count], descending, and eigenvectors [d, count] of a covariance.

        With `whiten` [d, r], of whiten^T covariance whiten. Each vector has its entry of largest
        magnitude positive; values and vectors are 0 where a sketch has fewer.
        """
        from .._core import Statistics

        label = int(self.labels[index])
        if isinstance(self.found, Statistics):
            own = self.found.covariance(label)
            if whiten is not None:
                own = whiten.T @ own @ whiten
            values, vectors = np.linalg.eigh(own)
            values, vectors = values[::-1][:count].copy(), vectors[:, ::-1][:, :count]
        else:
            have = min(self.directions * 2, self.dim)
            _, values, rows, _ = self.found.leading(label, have)
            if whiten is not None:
                factor = np.sqrt(values)[:, None] * (rows @ whiten)
                _, singular, rows = np.linalg.svd(factor, full_matrices=False)
                values = singular**2
            values, vectors = values[:count], rows[:count].T
            missing = count - len(values)
            if missing > 0:
                values = np.pad(values, (0, missing))
                vectors = np.pad(vectors, ((0, 0), (0, missing)))
        top = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)[0]
        return np.maximum(values, 0.0), vectors * np.where(top < 0, -1.0, 1.0)

    def within(self) -> NDArray[np.float64]:
        """Covariance about the class means, of all samples [d, d], divided by their number."""
        from .._core import Statistics

        if self.pooled is None:
            if not isinstance(self.found, Statistics):
                raise TypeError("the covariance within classes was not asked for")
            pooled = np.zeros((self.dim, self.dim))
            for label, count in zip(self.labels.tolist(), self.counts.tolist(), strict=True):
                pooled += count * self.found.covariance(label)
            self.pooled = pooled / self.counts.sum()
        return self.pooled

    def info(self) -> dict[str, Any]:
        """How the directions were found, for the result."""
        if not self.directions:
            return {"directions": "covariance matrices", "sketch_error": 0.0}
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.nan_to_num(self.error / self.variance)
        return {
            "directions": f"frequent directions, {self.directions} a class",
            # Of the variance of the class; per direction.
            "sketch_error": float(share.max()),
        }


def gather(reader: Reader, *, pooled: bool = False, most: int = _MOST_DIRECTIONS) -> Moments:
    """Read once, or, where covariance matrices do not fit, three times.

    Args:
        reader: what to read, and what memory there is.
        pooled: whether `within` will be asked for; then features must not be so wide that one
            matrix does not fit (`reduced` makes them narrower).
        most: directions that a sketch has at most.

    Raises:
        InputError: no rows, or not even `most` or 2 directions of every class fit.
    """
    room = reader.limit - reader.batch - reader.source.window_bytes
    dim = reader.width()
    if dim <= WIDE and _MATRICES * 8 * dim * dim <= room:
        try:
            return _exact(reader, dim, room - _MATRICES * 8 * dim * dim, pooled)
        except MemoryError:
            pass
    return _sketched(reader, dim, room, pooled, most)


def _exact(reader: Reader, dim: int, room: int, pooled: bool) -> Moments:
    statistics = reader.statistics(dim, int(_SHARE * room))
    labels, counts, means = statistics.classes()
    variance = np.array([np.trace(statistics.covariance(c)) for c in labels.tolist()])
    moments = Moments(labels, counts, means, variance, np.zeros(len(labels)), statistics)
    copies = _POOLED_MEANS if pooled else _MEANS
    # The lower triangle of each scatter matrix, in blocks of 16.
    wide = -(-dim // 16) * 16
    moments.held = 8 * (len(labels) * (wide * (wide + 16) // 2 + copies * dim))
    moments.held += _MATRICES * 8 * dim * dim
    return moments


def _sketched(reader: Reader, dim: int, room: int, pooled: bool, most: int) -> Moments:
    from .._core import Sketch, Statistics

    total = None
    if pooled:
        if 2 * _MATRICES * 8 * dim * dim > room:
            raise InputError(
                f"{reader.source.name}: matrices of {dim} x {dim} features need "
                f"{-(-2 * _MATRICES * 8 * dim * dim >> 20)} MiB, memory_limit leaves "
                f"{max(room, 0) >> 20} MiB; raise it, or project the features to fewer dimensions"
            )
        room -= _MATRICES * 8 * dim * dim
        total = Statistics(dim, 2 * 8 * dim * dim + (1 << 20))
    seen: set[int] = set()
    for _, (x, y) in reader.batches("classes"):
        seen.update(np.unique(y).tolist())
        if total is not None:
            total.update(x, np.zeros_like(y))
    copies = 8 * (_POOLED_MEANS if pooled else _MEANS) * len(seen) * dim
    room -= copies

    def needed(directions: int) -> int:
        return (len(seen) + 16) * Sketch.class_bytes(dim, directions)

    directions = most
    while directions > _LEAST_DIRECTIONS and needed(directions) > _SHARE * room:
        directions -= 1
    if needed(directions) > _SHARE * room:
        least = int(needed(directions) / _SHARE) + reader.limit - room
        raise InputError(
            f"{reader.source.name}: {len(seen)} classes of {dim} features need {-(-least >> 20)} "
            f"MiB even where {directions} directions of each are kept, memory_limit is "
            f"{reader.limit >> 20} MiB; raise it, or project the features to fewer dimensions"
        )
    sketch = Sketch(dim, directions, max(room, 0))
    try:
        for _, (x, y) in reader.batches("sketch"):
            sketch.update(x, y)
    except MemoryError as refused:
        raise InputError(f"{reader.source.name}: {refused}") from None
    labels, counts, means = sketch.classes()
    variance, error = np.array([sketch.leading(c, 1)[::3] for c in labels.tolist()]).T
    moments = Moments(labels, counts, means, variance, error, sketch, directions)
    moments.held = needed(directions) + copies
    if pooled:
        moments.held += _MATRICES * 8 * dim * dim
    if total is not None:
        n = int(counts.sum())
        mean = total.classes()[2][0]
        apart = (means - mean) * np.sqrt(counts / n)[:, None]
        within = total.covariance(0) - apart.T @ apart
        moments.pooled = 0.5 * (within + within.T)
    share = float(np.nan_to_num(error / np.maximum(variance, 1e-300)).max())
    moments.notes.append(
        f"{len(labels)} covariances of {dim} x {dim} do not fit: {directions} directions of each "
        f"class were kept; in no direction a class varies more than they say by over "
        f"{share:.1e} of its variance"
    )
    return moments


@dataclass(frozen=True)
class _Reduced(Source):
    """Rows of another source in the leading directions of all its rows."""

    source: Source
    projection: Projection

    @property
    def window_bytes(self) -> int:
        return self.source.window_bytes + self.source.row_bytes

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        for x, y in self.source.batches(rows, first):
            yield self.projection.apply(x, np.zeros_like(y), first), y
            first += len(y)


def reduced(reader: Reader) -> tuple[Source, list[str]]:
    """Return the source, narrower where matrices of its width do not fit.

    Then one pass sketches all rows as one class, and later passes see them in the directions of
    the sketch. What is lost is said in a note.
    """
    from .._core import Projection, Sketch

    source = reader.source
    room = reader.limit - reader.batch - source.window_bytes
    dim = reader.width()
    if 2 * _MATRICES * 8 * dim * dim <= room and dim <= WIDE:
        return source, []
    directions = max(
        _LEAST_DIRECTIONS, min(_MOST_DIRECTIONS, dim, room // (32 * Sketch.class_bytes(dim, 1)))
    )
    try:
        sketch = Sketch(dim, directions, max(room, 0))
        for _, (x, y) in reader.batches("sketch"):
            sketch.update(x, np.zeros_like(y))
    except MemoryError as error:
        raise InputError(f"{source.name}: {error}") from None
    variance, values, vectors, error_ = sketch.leading(0, directions)
    rank = max(1, int((values > 0).sum()))
    basis = np.ascontiguousarray(vectors[:rank].T[None])
    projection = Projection(np.zeros(1, dtype=np.int64), sketch.classes()[2], basis)
    lost = 1 - values.sum() / variance if variance > 0 else 0.0
    note = (
        f"{dim} features are too wide for matrices: seen in {rank} directions of frequent "
        f"directions; {100 * lost:.2g} % of the variance is not seen, in no direction left out "
        f"more than {error_ / max(variance, 1e-300):.1e} of it beyond the least one kept"
    )
    narrow = _Reduced(source.name, source.rows, source.row_bytes + 8 * rank, source, projection)
    return narrow, [note]
