"""Near-duplicates by MinHash and locality-sensitive hashing, in bounded memory."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError, InputError
from ..source import MIB
from .documents import documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl
    from numpy.typing import NDArray

    from ..._core import MinHash

MEMORY = 128 * MIB
"""Bytes for keys, unless told."""
_LEAST = 4 * MIB


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What shards must share to be merged."""

    threshold: float
    unit: str
    width: int
    permutations: int
    bands: int
    rows: int
    seed: int

    def minhash(self) -> MinHash:
        """Draw the hash functions."""
        from ..._core import MinHash

        return MinHash(self.unit, self.width, self.permutations, self.seed)

    def probability(self, similarity: float) -> float:
        """Probability that documents of this Jaccard similarity are candidates."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)


def parameters(
    threshold: float,
    unit: str,
    width: int | None,
    permutations: int,
    false_positive_weight: float,
    seed: int,
) -> Parameters:
    """Check options and choose bands.

    Raises:
        InputError: an option is out of range.
    """
    from ..._core import MinHash, optimal_bands

    widths = {"word": 3, "char": 9, "byte": 12}
    if unit not in widths:
        raise InputError(f"unit={unit!r} is unknown; choose one of {', '.join(widths)}")
    width = widths[unit] if width is None else width
    if not 0 < threshold <= 1:
        raise InputError(f"threshold={threshold!r} must be above 0 and at most 1")
    if not 0 < false_positive_weight < 1:
        raise InputError(f"false_positive_weight={false_positive_weight!r} must be in (0, 1)")
    if not 0 <= seed < 1 << 64:
        raise InputError(f"seed={seed!r} must be at least 0 and below 2^64")
    if not (isinstance(width, int) and 1 <= width <= 1 << 16):
        raise InputError(f"width={width!r} must be 1 to {1 << 16} units")
    if not (isinstance(permutations, int) and 1 <= permutations <= 4096):
        raise InputError(f"permutations={permutations!r} must be 1 to 4096")
    bands, rows = optimal_bands(
        threshold, permutations, false_positive_weight, 1 - false_positive_weight
    )
    MinHash(unit, width, permutations, seed)
    return Parameters(
        threshold=float(threshold),
        unit=unit,
        width=width,
        permutations=permutations,
        bands=bands,
        rows=rows,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Clusters of documents that are nearly the same."""

    cluster: NDArray[np.int64]
    """The first document of each document's cluster [n]; its own number where it is alone."""
    units: NDArray[np.int64]
    """Units (words, characters or bytes) of each document [n]."""
    short: NDArray[np.bool_]
    """Documents with fewer units than a shingle, which match only documents with the same units;
    those without any unit match none [n]."""
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def duplicate(self) -> NDArray[np.bool_]:
        """Documents that are not the first of their cluster [n]."""
        mask: NDArray[np.bool_] = self.cluster != np.arange(len(self.cluster))
        return mask

    @property
    def kept(self) -> NDArray[np.int64]:
        """Numbers of the first documents of all clusters, ascending."""
        return np.flatnonzero(~self.duplicate)

    @property
    def frame(self) -> pl.DataFrame:
        """A row a document: `document`, `cluster`, `duplicate`, `size` of the cluster, `units`."""
        import polars as pl

        size = np.bincount(self.cluster, minlength=len(self.cluster))[self.cluster]
        return pl.DataFrame(
            {
                "document": np.arange(len(self.cluster)),
                "cluster": self.cluster,
                "duplicate": self.duplicate,
                "size": size,
                "units": self.units,
            }
        )


def near_duplicates(
    texts: Any,
    *,
    column: str | None = None,
    threshold: float = 0.8,
    unit: str = "word",
    width: int | None = None,
    permutations: int = 128,
    false_positive_weight: float = 0.5,
    seed: int = 0,
    memory_limit: int | None = None,
    folder: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> NearDuplicates:
    """Cluster documents whose sets of shingles are similar.

    A document is the set of its shingles, runs of `width` units. Documents whose MinHash signatures
    agree in all rows of a band are linked; clusters are what links connect. Documents of Jaccard
    similarity s are linked directly with probability `1 - (1 - s^rows)^bands`; bands and rows make
    the area of errors on both sides of `threshold` least. Links are not compared again: `jaccard`
    does that for pairs. (Broder, 1997; Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets",
    ch. 3.)

    Clusters depend on the documents, their order and the options alone: not on batches, threads,
    memory, or on whether shards were written apart and merged (`write_shard`, `merge_shards`).

    Args:
        texts: documents, a polars frame or files: see `documents`.
        column: the text column of tables.
        threshold: Jaccard similarity from which documents are to be found, in (0, 1].
        unit: `"word"` (runs of characters between white space and punctuation, in lower case; one
            character each in scripts without spaces), `"char"` (in lower case, white space as one
            space) or `"byte"`. Only bytes are taken from documents that are no UTF-8.
        width: units of a shingle; default 3 words, 9 characters or 12 bytes. A document with
            fewer, but at least one, is one shingle: it matches documents of the same units. A
            document without units matches none.
        permutations: length of signatures, 1 to 4,096.
        false_positive_weight: weight of links below the threshold against missing ones above it,
            in (0, 1).
        seed: of the hash functions. Whoever knows it can write texts that collide: keep it to
            yourself where texts come from an adversary.
        memory_limit: bytes for keys; the rest goes to a temporary file of 12 bytes a band and
            document, which nobody else sees and which vanishes with the process. The result takes
            17 bytes a document, and another 4 while it is made.
        folder: of the temporary file; default the system's.
        progress: called as `progress(documents done, 0, note)`.

    Returns:
        Clusters, named by their first document, in the order of the documents (at most 2^32 - 1).

    Raises:
        InputError: an option or document does not fit; the document is named.
        DatasetError: a file cannot be read, or the temporary file not be written.
    """
    chosen = parameters(threshold, unit, width, permutations, false_positive_weight, seed)
    source = documents(texts, column=column)
    minhash = chosen.minhash()
    with clusters(memory_limit, folder, source.name) as found:
        units = []
        first = 0
        for part, _ in source.batches():
            keys, counts = minhash.band_keys(part, chosen.bands, chosen.rows, first)
            found.add(first, keys, counts)
            units.append(counts)
            first += len(part)
            if progress is not None:
                progress(first, 0, "signatures")
        return result(found, units, chosen)


@contextmanager
def clusters(memory_limit: int | None, folder: str | Path | None, name: str) -> Iterator[Any]:
    """Open the native clusters; what they raise becomes one line.

    Raises:
        InputError: an option or document does not fit.
        DatasetError: the temporary file cannot be written.
    """
    from ..._core import Clusters

    with temporary(memory_limit, folder, name) as (scratch, memory):
        yield Clusters(scratch, memory)


@contextmanager
def temporary(
    memory_limit: int | None, folder: str | Path | None, name: str
) -> Iterator[tuple[Path, int]]:
    """Lend a folder for files that do not outlive the call, and the bytes of memory to use.

    Raises:
        InputError: a limit too low, or anything wrong with a document.
        DatasetError: a temporary file cannot be written.
    """
    memory = MEMORY if memory_limit is None else memory_limit
    if not isinstance(memory, int) or memory < _LEAST:
        raise InputError(f"memory_limit={memory!r} bytes is less than {_LEAST}, the least")
    try:
        with tempfile.TemporaryDirectory(prefix="aisec-", dir=folder) as scratch:
            yield Path(scratch), memory
    except OSError as error:
        reason = " ".join(str(error.strerror or error).split())
        raise DatasetError(f"{name}: temporary file in {folder or 'the system folder'}: {reason}"
                           ) from None  # fmt: skip
    except MemoryError as error:
        raise InputError(f"{name}: {error}") from None
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: {error}") from None


def result(found: Any, units: list[NDArray[np.uint32]], chosen: Parameters) -> NearDuplicates:
    """Finish clusters."""
    spilled = found.spilled
    cluster = found.finish().astype(np.int64)
    count = np.concatenate([np.empty(0, np.uint32), *units])
    info = {
        "threshold": chosen.threshold,
        "unit": chosen.unit,
        "width": chosen.width,
        "permutations": chosen.permutations,
        "bands": chosen.bands,
        "rows": chosen.rows,
        "seed": chosen.seed,
        "probability_at_threshold": chosen.probability(chosen.threshold),
        "bytes_on_disk": spilled,
    }
    return NearDuplicates(cluster, count.astype(np.int64), count < chosen.width, info)


def jaccard(
    one: str | bytes, two: str | bytes, *, unit: str = "word", width: int | None = None
) -> float:
    """Jaccard similarity of two documents' sets of shingles, exactly.

    Args:
        one: a document.
        two: another.
        unit: as in `near_duplicates`.
        width: as in `near_duplicates`.

    Returns:
        |A and B| / |A or B|; 0 where one has no units.

    Raises:
        InputError: an option or document does not fit.
    """
    minhash = parameters(0.5, unit, width, 1, 0.5, 0).minhash()
    try:
        first, second = minhash.shingles(one), minhash.shingles(two)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None
    if not len(first) or not len(second):
        return 0.0
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)
