"""Writes the seeds of the target `parquet`: small tables in the forms that writers give them."""

from pathlib import Path

import polars as pl

FOLDER = Path(__file__).parent / "seeds" / "parquet"


def main() -> None:
    """Write them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = range(40)
    columns = pl.DataFrame(
        {
            "a": pl.Series([i / 3 for i in rows], dtype=pl.Float32),
            "b": pl.Series([i % 4 for i in rows], dtype=pl.Int8),
            "c": pl.Series([i % 3 == 0 for i in rows]),
            "d": pl.Series([float(i) for i in rows], dtype=pl.Float64),
            "y": pl.Series([i % 2 for i in rows], dtype=pl.Int64),
        }
    )
    lists = pl.DataFrame(
        {
            "x": pl.Series([[float(i), i + 0.5, 2.0] for i in rows], dtype=pl.List(pl.Float32)),
            "label": pl.Series([i % 5 for i in rows], dtype=pl.Int32),
        }
    )
    arrays = lists.with_columns(pl.col("x").cast(pl.Array(pl.Float32, 3)))
    nulls = columns.with_columns(pl.when(pl.col("b") > 2).then(None).otherwise("a").alias("a"))
    texts = pl.DataFrame({"t": ["one", "two"], "y": [0, 1]})
    for compression in ("uncompressed", "snappy", "gzip", "lz4", "zstd", "brotli"):
        columns.write_parquet(FOLDER / f"columns-{compression}", compression=compression)
    for name, table in (("lists", lists), ("arrays", arrays), ("nulls", nulls), ("texts", texts)):
        table.write_parquet(FOLDER / name, compression="uncompressed")
    lists.write_parquet(FOLDER / "groups", row_group_size=8, data_page_size=64)
    columns.head(0).write_parquet(FOLDER / "empty")


if __name__ == "__main__":
    main()
