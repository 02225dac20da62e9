"""Near-duplicates of documents in shards: keys on disk, merged to the clusters of the whole.

A shard file is a header of 1,024 bytes (JSON, padded with spaces), then 4 + 8 * bands bytes a
document: the number of its units and the keys of its bands, little-endian. It is written under
another name and renamed once it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError, InputError
from .documents import documents
from .near import Parameters, clusters, parameters, result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .near import NearDuplicates

_HEADER = 1024
_FORMAT = "aisec-eval text shard 1"
_ROWS = 1 << 15


@dataclass(frozen=True)
class _Shard:
    path: Path
    first: int
    count: int
    digest: str
    chosen: Parameters

    @property
    def row(self) -> np.dtype[Any]:
        return np.dtype([("units", "<u4"), ("keys", "<u8", (self.chosen.bands,))])


def write_shard(
    texts: Any,
    path: str | Path,
    *,
    first: int,
    column: str | None = None,
    threshold: float = 0.8,
    unit: str = "word",
    width: int | None = None,
    permutations: int = 128,
    false_positive_weight: float = 0.5,
    seed: int = 0,
) -> Path:
    """Write what `merge_shards` needs of some documents: 4 + 8 * bands bytes each.

    A whole file at `path`, written with the same options, is kept as it is, so a job that was
    stopped goes on where it stopped; remove the file where its documents have changed. A file that
    was not finished never has this name.

    Args:
        texts: documents, as in `near_duplicates`.
        path: the file to write.
        first: number of the first of them in the whole set.
        column: as in `near_duplicates`.
        threshold: as in `near_duplicates`; all options must agree among the shards of a set.
        unit: as in `near_duplicates`.
        width: as in `near_duplicates`.
        permutations: as in `near_duplicates`.
        false_positive_weight: as in `near_duplicates`.
        seed: as in `near_duplicates`.

    Returns:
        The path.

    Raises:
        InputError: an option or document does not fit; or `path` is a file with other options.
        DatasetError: documents cannot be read, or the file not be written.
    """
    target = Path(path)
    chosen = parameters(threshold, unit, width, permutations, false_positive_weight, seed)
    if not 0 <= first < 1 << 32:
        raise InputError(f"first={first!r} must be at least 0 and below 2^32")
    if target.exists():
        there = _open(target)
        if (there.first, there.chosen) != (first, chosen):
            raise InputError(
                f"{target}: is a shard from document {there.first} on with other options; remove "
                "it or write to another file"
            )
        return target
    source = documents(texts, column=column)
    minhash = chosen.minhash()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(b" " * _HEADER)
                count, hashed = 0, hashlib.sha256()
                shard = _Shard(target, first, 0, "", chosen)
                for part, _ in source.batches():
                    keys, units = minhash.band_keys(part, chosen.bands, chosen.rows, first + count)
                    rows = np.empty(len(part), shard.row)
                    rows["units"], rows["keys"] = units, keys
                    data = rows.tobytes()
                    hashed.update(data)
                    file.write(data)
                    count += len(part)
                header = {
                    "format": _FORMAT,
                    "first": first,
                    "documents": count,
                    "sha256": hashed.hexdigest(),
                    "parameters": asdict(chosen),
                }
                file.seek(0)
                file.write(json.dumps(header, sort_keys=True).encode().ljust(_HEADER))
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise DatasetError(f"{target}: cannot be written ({error.strerror})") from None
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None
    return target


def merge_shards(
    paths: Iterable[str | Path],
    *,
    memory_limit: int | None = None,
    folder: str | Path | None = None,
) -> NearDuplicates:
    """Cluster the documents of all shards, exactly as `near_duplicates` clusters them in one go.

    Args:
        paths: files of `write_shard`, in any order, that hold every document of the set once.
        memory_limit: as in `near_duplicates`.
        folder: as in `near_duplicates`.

    Raises:
        InputError: shards with other options than the first, or that overlap or leave gaps.
        DatasetError: a file is missing, damaged or not a shard.
    """
    shards = sorted(
        (_open(Path(path)) for path in paths), key=lambda shard: (shard.first, shard.count)
    )
    if not shards:
        raise InputError("no shards to merge")
    chosen = shards[0].chosen
    after = 0
    for shard in shards:
        if shard.chosen != chosen:
            raise InputError(f"{shard.path}: other options than {shards[0].path}")
        if shard.first != after:
            what = "are in no shard" if shard.first > after else "are in an earlier shard, too"
            low, high = sorted((after, shard.first))
            raise InputError(f"{shard.path}: documents {low} to {high - 1} {what}")
        after += shard.count
    with clusters(memory_limit, folder, str(shards[0].path)) as found:
        units = []
        for shard in shards:
            with shard.path.open("rb") as file:
                file.seek(_HEADER)
                units += _feed(shard, file, found)
        return result(found, units, chosen)


def _feed(shard: _Shard, file: IO[bytes], found: Any) -> list[Any]:
    units, hashed, done = [], hashlib.sha256(), 0
    while done < shard.count:
        data = file.read(min(_ROWS, shard.count - done) * shard.row.itemsize)
        rows = np.frombuffer(data, shard.row, count=len(data) // shard.row.itemsize)
        if not len(rows):
            break
        hashed.update(data)
        counts = np.ascontiguousarray(rows["units"].astype(np.uint32))
        found.add(shard.first + done, np.ascontiguousarray(rows["keys"].astype(np.uint64)), counts)
        units.append(counts)
        done += len(rows)
    if hashed.hexdigest() != shard.digest or done < shard.count:
        raise DatasetError(f"{shard.path}: damaged, its digest differs; write it again")
    return units


def _open(path: Path) -> _Shard:
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER)
            size = file.seek(0, 2)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    try:
        header = json.loads(data)
        if header["format"] != _FORMAT:
            raise ValueError
        chosen = Parameters(**header["parameters"])
        first, count = int(header["first"]), int(header["documents"])
        shard = _Shard(path, first, count, str(header["sha256"]), chosen)
        fits = (
            0 < chosen.bands <= 4096 and size == _HEADER + count * shard.row.itemsize
            and 0 <= first <= first + count < 1 << 32
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, UnicodeDecodeError):
        raise DatasetError(f"{path}: not a shard that write_shard wrote") from None
    if not fits:
        raise DatasetError(f"{path}: damaged, its size or header does not fit; write it again")
    return shard
