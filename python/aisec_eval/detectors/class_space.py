"""Each class in the spread of the other ones: directions from one pass, samples from a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._core import Projection
    from .passes import Reader

_SUBSET = 20_000
_BETWEEN = 16
_LEADING = 16
_LEAST_LEADING = 4
_WIDE = 64
_RIDGE = 1e-3
_MATRICES = 8


@dataclass(frozen=True, eq=False)
class ClassSpace:
    """One class, in coordinates in which the other classes have unit spread."""

    index: int
    label: int
    mean: NDArray[np.float64]
    projection: NDArray[np.float64]
    """To leading and between-class directions [d, r]."""
    leading: NDArray[np.float64]
    """Directions in which the class varies most, the first one most, within them [r, k]."""
    between: NDArray[np.float64]
    """Directions in which the other classes differ, within them [r, b]."""
    wide: NDArray[np.float64]
    """The projection, with directions that stand for the rest of the space after it [d, w]."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """Samples of a class, chosen by a hash of their row."""

    row: NDArray[np.int64]
    z: NDArray[np.float64]
    """On the directions of `wide` [m, w]; the first r are the projection."""

    def without(self, aside: NDArray[np.bool_]) -> Sampled:
        """Return the samples that are not set aside [n], unless these are most of them."""
        kept = ~aside[self.row]
        if 2 * kept.sum() < len(kept):
            return self
        return Sampled(self.row[kept], self.z[kept])


def read_spaces(
    reader: Reader,
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[ClassSpace]]:
    """First pass: class labels, counts, and the spaces of every class large enough."""
    width = reader.width()
    room = reader.limit - reader.batch - reader.source.window_bytes
    statistics = reader.statistics(width, room)
    labels, counts, means = statistics.classes()
    # Matrices of a class while its space is found, and two bases of each class.
    needed = 8 * (_MATRICES * width**2 + len(labels) * width * (2 * _WIDE + 1))
    if needed > room:
        raise InputError(
            f"{reader.source.name}: the spaces of {len(labels)} classes of {width} features need "
            f"{-(-needed >> 20)} MiB, memory_limit leaves {max(room, 0) >> 20} MiB; raise it, or "
            "project the features to fewer dimensions"
        )
    if len(labels) < 3:
        return labels, counts, []
    d = means.shape[1]
    total = np.zeros((d, d))
    for label in labels.tolist():
        total += statistics.covariance(label)
    typical = int(np.median(counts))
    b = max(1, min(len(labels) - 2, _BETWEEN, d, typical // 20))
    lead = min(d, _LEADING, max(_LEAST_LEADING, typical // 10 - b))
    spaces = []
    for i, label in enumerate(labels.tolist()):
        if counts[i] >= 10 * min(d, lead + b):
            own = statistics.covariance(label)
            rest = (total - own) / (len(labels) - 1)
            others = np.delete(means, i, axis=0)
            spaces.append(_space(i, label, means[i], own, rest, others, lead, b))
    return labels, counts, spaces


def _space(
    index: int,
    label: int,
    mean: NDArray[np.float64],
    own: NDArray[np.float64],
    rest: NDArray[np.float64],
    others: NDArray[np.float64],
    lead: int,
    b: int,
) -> ClassSpace:
    """Whiten by the covariance of the other classes; find leading and between-class directions."""
    d = len(mean)
    rest = rest + max(_RIDGE * np.trace(rest) / d, 1e-300) * np.eye(d)
    values, vectors = np.linalg.eigh(rest)
    whiten = vectors / np.sqrt(np.maximum(values, values[-1] * 1e-12))
    centred = (others - others.mean(0)) @ whiten
    between = np.linalg.svd(centred, full_matrices=False)[2][:b].T
    vectors = np.linalg.eigh(whiten.T @ own @ whiten)[1][:, ::-1]
    leading, rest = vectors[:, :lead], vectors[:, lead:]
    basis = np.linalg.qr(np.concatenate([leading, between], axis=1))[0]
    # Of the rest, evenly, from what varies most to what varies least.
    more = min(_WIDE, d) - basis.shape[1]
    if more > 0:
        chosen = rest[:, np.linspace(0, rest.shape[1] - 1, more).astype(np.int64)]
        wide = np.concatenate([basis, _beside(basis, chosen)], axis=1)
    else:
        wide = basis
    return ClassSpace(
        index, label, mean, whiten @ basis, basis.T @ leading, basis.T @ between, whiten @ wide
    )


def _beside(basis: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """As many orthonormal directions as vectors, without what the basis spans of them."""
    left = vectors - basis @ (basis.T @ vectors)
    u, _, _ = np.linalg.svd(left, full_matrices=False)
    left = u - basis @ (basis.T @ u)
    directions: NDArray[np.float64] = np.linalg.qr(left)[0]
    return directions


def read_samples(
    reader: Reader,
    labels: NDArray[np.int64],
    counts: NDArray[np.int64],
    spaces: list[ClassSpace],
) -> dict[int, Sampled]:
    """Second pass: up to about 20,000 samples of each class, projected."""
    if not spaces:
        return {}
    width = spaces[0].wide.shape[1]
    most = min(_SUBSET, max(1000, reader.limit // 4 // (8 * width * len(spaces))))
    share = np.zeros(len(labels))
    kept = [s.index for s in spaces]
    share[kept] = most / counts[kept]
    project = class_projection(spaces, [s.wide for s in spaces])
    rows: list[NDArray[np.int64]] = []
    parts: list[NDArray[np.float64]] = []
    for first, (x, y) in reader.batches("samples of classes"):
        chosen = np.flatnonzero(uniform(first, len(y)) < share[np.searchsorted(labels, y)])
        rows.append(first + chosen)
        parts.append(project.apply(select(x, chosen), y[chosen], first))
    row, z = np.concatenate(rows), np.concatenate(parts)
    given = reader.label[row]
    found = {}
    for space in spaces:
        inside = given == space.label
        found[space.index] = Sampled(row[inside], z[inside])
    return found


def class_projection(spaces: list[ClassSpace], bases: list[NDArray[np.float64]]) -> Projection:
    """Projections of rows, minus the mean of their class; each row the same in any batch."""
    from .._core import Projection

    return Projection(
        np.array([s.label for s in spaces], dtype=np.int64),
        np.stack([s.mean for s in spaces]),
        np.ascontiguousarray(np.stack(bases)),
    )


def select(
    x: NDArray[np.float32] | NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float32] | NDArray[np.float64]:
    """Rows of a batch, C-contiguous."""
    return x.take(rows, axis=0)


def uniform(first: int, count: int) -> NDArray[np.float64]:
    """A number in [0, 1) of each row, by its position (SplitMix64)."""
    with np.errstate(over="ignore"):
        x = np.arange(first + 1, first + count + 1, dtype=np.uint64)
        x *= np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) / 2.0**64
