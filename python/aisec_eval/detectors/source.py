"""Where features come from: anything that can be read twice, batch by batch, in the same order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Batch = tuple[NDArray[np.float32] | NDArray[np.float64], NDArray[np.int64]]

MIB = 1 << 20
WINDOW = 144 * MIB
"""Bytes of decoded columns: a row group of 262,144 rows of 128 float32 fits."""
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Source(ABC):
    """Rows of features with labels that can be read any number of times."""

    name: str
    rows: int | None
    """Number of rows, where it is known without reading them."""
    row_bytes: int
    """Bytes of one row in a batch."""

    @property
    def window_bytes(self) -> int:
        """Bytes held between batches, beside the batch itself."""
        return 0

    @abstractmethod
    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Yield features [<= rows, d], float32 or float64 and C-contiguous, with int64 labels.

        Features may be a view of a buffer that the next batch overwrites; labels stay. `first` rows
        are passed over.

        Raises:
            DatasetError: what is read changed since the source was opened, or cannot be read.
        """


def open_source(features: Any, labels: Any, *, memory_limit: int | None = None) -> Source:
    """Choose the source for what the user passed; see `scan`.

    Args:
        features: arrays, a frame, a path, URL, folder or list of files, an open file, a stream.
        labels: labels beside arrays, or the name of a column.
        memory_limit: bytes for everything; a fourth may go into decoded columns.

    Raises:
        InputError: an array of the wrong shape or dtype.
        DatasetError: a file that is missing or cannot be read.
    """
    window = WINDOW if memory_limit is None else min(WINDOW, memory_limit // 4)
    if isinstance(features, str | Path):
        return _path(features, labels, window)
    if isinstance(features, list | tuple) and _all_paths(features):
        from .sources.parquet import open_parquet

        return open_parquet(features, labels, window)
    if type(features).__module__.partition(".")[0] == "polars":
        from .sources.frames import open_frame

        return open_frame(features, labels)
    if hasattr(features, "read") and hasattr(features, "seek"):
        from .sources.parquet import open_parquet

        return open_parquet([features], labels, window)
    from .sources.streams import is_stream, open_stream

    if is_stream(features):
        return open_stream(features, labels)
    from .sources.arrays import open_arrays

    return open_arrays(features, labels)


def _all_paths(features: list[Any] | tuple[Any, ...]) -> bool:
    return bool(features) and all(isinstance(item, str | Path) for item in features)


def _path(features: str | Path, labels: Any, window: int) -> Source:
    from .sources.parquet import open_parquet

    text, path = str(features), Path(features)
    if "://" in text:
        return open_parquet([text], labels, window)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _PARQUET)
        if not files:
            raise DatasetError(f"{path}: no .parquet files in this folder")
        return open_parquet(files, labels, window)
    if not path.exists() and any(mark in text for mark in "*?["):
        files = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not files:
            raise DatasetError(f"{path}: matches no file")
        return open_parquet(files, labels, window)
    if not path.exists():
        raise DatasetError(f"{path}: no such file")
    if path.suffix.lower() == ".npy":
        from .sources.arrays import open_npy

        return open_npy(path, labels)
    if path.suffix.lower() in _PARQUET:
        return open_parquet([path], labels, window)
    raise DatasetError(f"{path}: features are read from .parquet and .npy files")


def as_features(x: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return rows [n, d] as the engine takes them: float16 and small integers become float32."""
    rows = x.reshape(len(x), -1)
    exact = rows.dtype in (np.float16, np.float32, np.bool_) or (
        rows.dtype.kind in "iu" and rows.dtype.itemsize < 4
    )
    if exact:
        return np.ascontiguousarray(rows, dtype=np.float32)
    return np.ascontiguousarray(rows, dtype=np.float64)


def as_labels(labels: Any, n: int, *, name: str = "labels") -> NDArray[np.int64]:
    """Return labels as int64 [n]; all 0 for None.

    Raises:
        InputError: not integers, or not one a sample.
    """
    if labels is None:
        return np.zeros(n, dtype=np.int64)
    if isinstance(labels, str | Path):
        raise InputError(
            f"labels={str(labels)!r} names a column or file; beside an array pass an array"
        )
    y = np.asarray(labels)
    if y.dtype.kind not in "iu":
        raise InputError(
            f"{name}: dtype {y.dtype}, expected integers "
            "(np.unique(labels, return_inverse=True)[1] numbers them)"
        )
    if y.shape != (n,):
        raise InputError(f"{name}: shape {list(y.shape)}, expected one a sample: [{n}]")
    return np.ascontiguousarray(y, dtype=np.int64)
