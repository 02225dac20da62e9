"""Parquet files: one column of arrays, or one numeric column a feature, and a label column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import DatasetError
from .base import Raw, check_memory

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


def read(path: Path, labels: Any) -> Raw:
    """Return the samples of a Parquet file; `labels` names the label column (default `label`)."""
    import polars as pl

    column = "label" if labels is None else labels
    if not path.exists():
        raise DatasetError(f"{path}: no such file")
    try:
        lazy = pl.scan_parquet(path, glob=False)
        schema = lazy.collect_schema()
        if column not in schema:
            raise DatasetError(
                f"{path}: no label column {column!r}; it has {', '.join(schema)}; pass labels=..."
            )
        rows = lazy.select(pl.len()).collect().item()
        check_memory(str(path), rows * (len(schema) - 1) * 4)
        frame = lazy.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{path}: not a readable Parquet file ({reason})") from None
    return Raw(str(path), features(str(path), frame.drop(column)), frame[column].to_numpy())


def features(name: str, frame: pl.DataFrame, *, first: int = 0) -> NDArray[np.generic]:
    """Lay the feature columns of `frame` out as rows [n, d], or [n, *shape] of one array column.

    `first` is the number of rows before these, for messages.

    Raises:
        DatasetError: no columns, nulls, columns that are not numbers, lists of unequal length.
    """
    import polars as pl

    if frame.width == 0:
        raise DatasetError(f"{name}: no feature columns beside the labels")
    for series in frame:
        if series.null_count():
            row = first + int(series.is_null().arg_max() or 0)
            raise DatasetError(
                f"{name}: column {series.name!r} is null in row {row}; fill or drop the row"
            )
    if frame.width == 1 and frame.dtypes[0].is_nested():
        series = frame.to_series()
        if isinstance(series.dtype, pl.List):
            widths = series.list.len()
            if widths.n_unique() > 1:
                row = int((widths != widths[0]).arg_max() or 0)
                raise DatasetError(
                    f"{name}: column {series.name!r} has {widths[0]} values in row {first} and "
                    f"{widths[row]} in row {first + row}; every sample needs as many"
                )
            series = series.list.to_array(int(widths[0]) if len(widths) else 0)
        inner: object = series.dtype
        while isinstance(inner, pl.Array):
            inner = inner.inner
        # Nulls inside become NaN, which no engine takes.
        array = series.to_numpy() if _is_number(inner) else None
        if array is None or array.dtype.kind not in "fiub":
            raise DatasetError(f"{name}: column {series.name!r} must hold arrays of plain numbers")
        return array
    for column, dtype in frame.schema.items():
        if not _is_number(dtype):
            raise DatasetError(
                f"{name}: column {column!r} has type {dtype}; drop it or turn it into numbers"
            )
    return frame.to_numpy(order="c")


def _is_number(dtype: object) -> bool:
    import polars as pl

    return isinstance(dtype, pl.DataType) and (
        dtype.is_integer() or dtype.is_float() or dtype == pl.Boolean
    )
