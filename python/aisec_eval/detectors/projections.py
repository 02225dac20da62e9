"""Second passes: the samples of every class in a basis of their class, as memory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from .moments import Moments
    from .passes import Reader

    Basis = Callable[[int], NDArray[np.float64]]


def rows_of_classes(label: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows class after class, ascending by label, and where each class starts [c + 1]."""
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=label[order[0]] - 1))
    return order, np.append(starts, len(label))


def project_classes(
    reader: Reader,
    moments: Moments,
    chosen: list[int],
    width: int,
    basis: Basis,
    note: str = "projections",
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Yield (class index, its rows, those rows minus the mean in its basis [n_c, width]).

    One pass over the data if the memory left holds all projections, else several, each for as many
    classes as fit; so what comes out does not depend on memory.

    Args:
        reader: what to read again.
        moments: of the first pass.
        chosen: indices of classes.
        width: columns of a basis.
        basis: gives the basis [d, width] of a class.
        note: for progress.

    Raises:
        InputError: the projection of one class alone does not fit.
    """
    from .._core import Projection

    order, starts = rows_of_classes(reader.label)
    budget = reader.limit - reader.batch - reader.source.window_bytes - moments.held
    for group in _groups(reader, moments, chosen, width, budget):
        labels = moments.labels[group]
        bases = np.stack([basis(i) for i in group])
        projection = Projection(labels, np.ascontiguousarray(moments.means[group]), bases)
        del bases
        counts = moments.counts[group]
        ends = np.cumsum(counts)
        place = np.full(len(reader.label), -1, dtype=np.int64)
        for i, end, count in zip(group, ends.tolist(), counts.tolist(), strict=True):
            place[order[starts[i] : starts[i + 1]]] = np.arange(end - count, end)
        z = np.empty((int(ends[-1]), width))
        for first, (x, y) in reader.batches(note):
            at = place[first : first + len(y)]
            if (at < 0).any():
                rows = np.flatnonzero(at >= 0)
                if not len(rows):
                    continue
                x, y, at = x[rows], y[rows], at[rows]
            z[at] = projection.apply(x, y, first)
        del projection, place
        for i, end, count in zip(group, ends.tolist(), counts.tolist(), strict=True):
            yield i, order[starts[i] : starts[i + 1]], z[end - count : end]


def _groups(
    reader: Reader, moments: Moments, chosen: list[int], width: int, budget: int
) -> list[list[int]]:
    """Classes whose projections and bases fit together; refuses before any of them is read."""
    # The basis is held twice, padded to registers in the second copy.
    bases = 8 * moments.dim * (2 * width + 8)
    groups: list[list[int]] = []
    used = 0
    for i in chosen:
        needed = 8 * int(moments.counts[i]) * width + bases
        if needed > budget:
            raise InputError(
                f"{reader.source.name}: {moments.counts[i]} samples of class {moments.labels[i]} "
                f"in {width} dimensions need {-(-needed >> 20)} MiB beside the statistics, "
                f"memory_limit leaves {max(budget, 0) >> 20} of {reader.limit >> 20} MiB; raise it"
            )
        if not groups or used + needed > budget:
            groups.append([])
            used = 0
        groups[-1].append(i)
        used += needed
    return groups
