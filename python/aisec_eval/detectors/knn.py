"""The nearest neighbours of every sample: exact as long as that is fast enough, else from a graph.

One search serves all that is asked of neighbours: whose labels disagree, what is far from
everything, what is there twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .passes import Reader
from .source import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .passes import Progress
    from .source import Source

K = 20
"""Neighbours of each sample."""
EXACT = 300_000
"""The most samples all pairs of which are compared; more are searched by a graph."""
RECALL = 0.95
"""Share of true neighbours below which a graph's result comes with a note."""
DUPLICATE = 1e-6
"""Cosine distance of what counts as a copy."""
_SHOWN = 100


@dataclass(frozen=True)
class Neighbourhoods:
    """What was found.

    Attributes:
        label: int64 [n].
        ids: neighbours, nearest first, equal distances by index, uint32 [n, k].
        distance: float32 [n, k].
        dim: number of features.
        index: how they were found, for `info["index"]`.
        notes: what to know about it.
    """

    label: NDArray[np.int64]
    ids: NDArray[np.uint32]
    distance: NDArray[np.float32]
    dim: int
    index: dict[str, Any]
    notes: list[str]


@dataclass(frozen=True)
class Votes:
    """How neighbourhoods vote.

    Attributes:
        code: class of each sample, as an index into the sorted labels, int64 [n].
        k: neighbours that vote, for samples of each class, int64 [classes].
        own: votes for a sample's class, uint32 [n].
        rival: votes for the most frequent other class, uint32 [n].
        rival_code: that class, uint32 [n].
    """

    code: NDArray[np.int64]
    k: NDArray[np.int64]
    own: NDArray[np.uint32]
    rival: NDArray[np.uint32]
    rival_code: NDArray[np.uint32]


def find_neighbours(source: Source, memory_limit: int | None, progress: Progress) -> Neighbourhoods:
    """Find the `K` nearest others of every sample by cosine distance.

    Up to `EXACT` samples they are those of float64 arithmetic. Above, a graph finds most of them;
    the share is measured on samples whose neighbours are searched for exactly, too. Neither depends
    on the number of threads.

    Memory: the features as float32 three times over, and about 1 KiB a sample.

    Raises:
        InputError: too little memory, one sample only, or a feature that is not finite.
    """
    reader = Reader(source, memory_limit, progress, 1)
    x = _features(reader, _neighbours_memory)
    k = min(K, len(x) - 1)
    try:
        search = _exact if len(x) <= EXACT else _graph
        ids, distance, index = search(x, k, progress)
    except ValueError as error:
        raise InputError(f"{source.name}: {error}") from None
    notes = []
    if index.get("recall", 1.0) < RECALL:
        notes.append(
            f"the graph found {index['recall']:.1%} of the neighbours of {index['queries']} samples"
            f" (less than {RECALL:.0%}): features of so many dimensions need an exact search of a "
            "random sample of rows"
        )
    return Neighbourhoods(reader.label, ids, distance, x.shape[1], index, notes)


def find_votes(
    source: Source,
    memory_limit: int | None,
    progress: Progress,
    voters: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> tuple[Neighbourhoods, Votes]:
    """Find the `K` nearest others of every sample, and how its nearest `k` vote, in one search.

    Both are exact: all pairs are compared, each twice, as neighbourhoods are too large to be kept.

    Args:
        source: features and labels.
        memory_limit: bytes for features and neighbours.
        progress: told of rows read and of neighbourhoods counted.
        voters: gives, from the numbers of samples of the classes, how many neighbours vote.

    Raises:
        InputError: too many samples or too little memory, or a feature that is not finite.
    """
    from .._core import NeighbourVotes

    reader = Reader(source, memory_limit, progress, 1)
    x = _features(reader, _votes_memory)
    _, code, counts = np.unique(reader.label, return_inverse=True, return_counts=True)
    k, near = voters(counts), min(K, len(x) - 1)
    try:
        search = NeighbourVotes(x, code.astype(np.uint32), k.tolist(), near, "cosine")
        while search.progress[0] < search.progress[1]:
            search.advance(64)
            if progress is not None:
                progress(*search.progress, "neighbourhoods counted")
        own, rival, rival_code, ids, distance = search.finish()
    except ValueError as error:
        raise InputError(f"{source.name}: {error}") from None
    found = Neighbourhoods(reader.label, ids, distance, x.shape[1], {"kind": "exact"}, [])
    return found, Votes(code, k, own, rival, rival_code)


def _neighbours_memory(samples: int, dim: int) -> int:
    from .._core import NeighbourGraph, Neighbours

    return (Neighbours if samples <= EXACT else NeighbourGraph).memory(samples, dim, K)


def _votes_memory(samples: int, dim: int) -> int:
    from .._core import NeighbourVotes, get_threads

    if samples > EXACT:
        raise InputError(
            f"{samples} samples are too many to count the votes of neighbourhoods as large as "
            f"classes (at most {EXACT}): scan a random sample of rows"
        )
    return NeighbourVotes.memory(samples, dim, K, get_threads())


def _features(reader: Reader, memory: Callable[[int, int], int]) -> NDArray[np.float32]:
    """All features, if they and what a search of them holds fit into the reader's limit."""
    rows = reader.source.rows
    parts: list[NDArray[np.float32]] = []
    whole, count = np.empty((0, 0), np.float32), 0
    for first, (x, _y) in reader.batches("features"):
        count = first + len(x)
        samples, dim = max(count, rows or 0), x.shape[1]
        needed = 4 * samples * dim + memory(samples, dim)
        if needed > reader.limit:
            raise InputError(
                f"{reader.source.name}: the neighbours of {samples} samples of {dim} features need "
                f"{needed // MIB} MiB, memory_limit is {reader.limit // MIB} MiB: raise it, or "
                "scan a random sample of rows"
            )
        if not rows:
            parts.append(x.astype(np.float32))
            continue
        if not first:
            whole = np.empty((rows, dim), np.float32)
        whole[first:count] = x
    if count < 2:
        raise InputError(f"{reader.source.name}: one sample has no neighbours")
    return whole if rows else np.concatenate(parts)


_Found = tuple["NDArray[np.uint32]", "NDArray[np.float32]", dict[str, Any]]


def _exact(x: NDArray[np.float32], k: int, progress: Progress) -> _Found:
    from .._core import Neighbours

    search = Neighbours(x, k, "cosine")
    while search.progress[0] < search.progress[1]:
        search.advance(1024)
        if progress is not None:
            progress(*search.progress, "pairs of blocks compared")
    return *search.finish(), {"kind": "exact"}


def _graph(x: NDArray[np.float32], k: int, progress: Progress) -> _Found:
    from .._core import NeighbourGraph

    search = NeighbourGraph(x, k, "cosine")
    while search.progress[0] < search.progress[1]:
        search.advance()
        if progress is not None:
            progress(*search.progress, "trees and rounds of the graph")
    ids, distance, (recall, low, queries) = search.finish()
    index = {
        "kind": "graph",
        "recall": recall,
        "recall_at_least": low,
        "confidence": 0.95,
        "queries": queries,
    }
    return ids, distance, index


def side_findings(found: Neighbourhoods) -> dict[str, Any]:
    """Near-duplicates, those of other labels first, and samples far from all others."""
    label, ids, distance = found.label, found.ids, found.distance
    pairs = np.flatnonzero(distance[:, 0] <= DUPLICATE)
    pairs = pairs[np.argsort(label[pairs] == label[ids[pairs, 0]], kind="stable")]
    far = np.log(distance[:, -1].astype(np.float64) + 1e-12)
    middle = np.median(far)
    spread = 1.4826 * np.median(np.abs(far - middle))
    out = np.flatnonzero(far > middle + 5 * spread) if spread > 0 else np.empty(0, dtype=np.int64)
    out = out[np.argsort(-far[out], kind="stable")]
    return {
        "near_duplicates": len(pairs),
        "near_duplicate_pairs": [[int(i), int(ids[i, 0])] for i in pairs[:_SHOWN]],
        "outliers": len(out),
        "outlier_samples": out[:_SHOWN].tolist(),
    }
