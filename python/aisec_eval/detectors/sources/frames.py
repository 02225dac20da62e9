"""Polars frames and queries."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...datasets.parquet import features as feature_columns
from ...errors import DatasetError, InputError
from ..source import Source, as_features

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from ..source import Batch


@dataclass(frozen=True)
class FrameSource(Source):
    """A polars query, run once a pass."""

    lazy: pl.LazyFrame
    label: str | None

    def batches(self, rows: int, first: int = 0) -> Iterator[Batch]:
        """Collect record batches in order."""
        lazy = self.lazy.slice(first) if first else self.lazy
        with polars_errors(self.name):
            for frame in lazy.collect_batches(chunk_size=rows, maintain_order=True):
                if frame.height:
                    yield split(self.name, frame, self.label, first)
                    first += frame.height


def open_frame(features: pl.DataFrame | pl.LazyFrame, labels: Any) -> Source:
    """Take a frame; `labels` names one of its columns."""
    with polars_errors("features"):
        lazy = features.lazy()
        label, values = columns("features", lazy, labels)
        rows = getattr(features, "height", None)
        return FrameSource("features", rows, 8 * values, lazy, label)


def columns(name: str, lazy: pl.LazyFrame, labels: Any) -> tuple[str | None, int]:
    """Return the name of the label column and the number of values in a row."""
    import polars as pl

    schema = lazy.collect_schema()
    label = labels if labels is not None else ("label" if "label" in schema else None)
    if label is not None and (not isinstance(label, str) or label not in schema):
        raise InputError(
            f"{name}: labels={label!r} must name one of its columns: {', '.join(schema)}"
        )
    if label is not None and not schema[label].is_integer():
        raise InputError(
            f"{name}: label column {label!r} has type {schema[label]}; expected integers "
            f'(pl.col("{label}").rank("dense") numbers texts)'
        )
    values = 0
    for column, dtype in schema.items():
        if isinstance(dtype, pl.Array):
            values += math.prod(dtype.shape)
        elif isinstance(dtype, pl.List):
            values += lazy.select(pl.col(column).list.len().first()).collect().item() or 1
        elif column != label:
            values += 1
    return label, max(1, values)


def split(name: str, frame: pl.DataFrame, label: str | None, first: int) -> Batch:
    """Return the features and labels of a frame; `first` rows were before it."""
    if label is None:
        y = np.zeros(frame.height, dtype=np.int64)
    else:
        column = frame[label]
        if column.null_count():
            row = first + int(column.is_null().arg_max() or 0)
            raise InputError(f"{name}: label is null in row {row}; drop the row")
        y = column.to_numpy().astype(np.int64)
        frame = frame.drop(label)
    return as_features(feature_columns(name, frame, first=first)), y


@contextmanager
def polars_errors(name: str) -> Iterator[None]:
    """Turn what polars raises into one line."""
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{name}: cannot be read ({reason})") from None
