"""`results.parquet`: one row per (entry, sample), and the Merkle tree over the rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RunError
from ..results import BROKEN, EVIDENCE, VERDICTS
from ..suite.identity import canonical
from . import merkle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from ..results import Evaluation


def table(evaluations: Mapping[str, Evaluation]) -> pl.DataFrame:
    """Return all verdicts, by entry and row.

    Columns: entry, those of `Evaluation.frame`, and witness: the row of the entry's evidence that
    holds the sample's adversarial example, -1 where it has none.
    """
    import polars as pl

    frames = []
    for entry, evaluation in evaluations.items():
        broken = evaluation.verdict == VERDICTS.index(BROKEN)
        witness = np.where(broken, np.cumsum(broken) - 1, -1).astype(np.int64)
        frames.append(
            evaluation.frame.select(
                pl.lit(entry).alias("entry"), pl.all(), pl.Series("witness", witness)
            )
        )
    return pl.concat(frames) if frames else _nothing()


def schema() -> dict[str, pl.DataType]:
    """Return the columns of `results.parquet` and their types."""
    import polars as pl

    integers = ("forwards", "gradients", "queries", "witness")
    return {
        "entry": pl.String(),
        "sample": pl.Int64(),
        "label": pl.Int64(),
        "verdict": pl.Enum(VERDICTS),
        **{name: pl.Float64() for name in ("margin", "margin_lower", "distance")},
        "found_by": pl.String(),
        "evidence": pl.Enum(EVIDENCE),
        **{name: pl.Int64() for name in integers},
    }


def _nothing() -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(schema=schema())


def split(frame: pl.DataFrame, sizes: Mapping[str, int]) -> dict[str, pl.DataFrame]:
    """Cut the table into the frames of its entries.

    Raises:
        RunError: the rows are not those of the entries, `sizes` rows each in the order given, or
            the witness column is not what the verdicts say.
    """
    import polars as pl

    if frame.height != sum(sizes.values()):
        raise RunError(
            f"results.parquet: {frame.height} rows, the suite has {sum(sizes.values())} samples"
        )
    found, first = {}, 0
    for entry, size in sizes.items():
        part = frame.slice(first, size)
        first += size
        if not (part["entry"] == entry).all():
            raise RunError(f"results.parquet: the rows of {entry} are not where they belong")
        broken = part["verdict"] == BROKEN
        expected = pl.select(
            pl.when(broken).then(broken.cast(pl.Int64).cum_sum() - 1).otherwise(-1)
        ).to_series()
        if not (part["witness"] == expected).all():
            raise RunError(f"results.parquet: witnesses of {entry} are not its broken rows")
        found[entry] = part.drop("entry", "witness")
    return found


def root(evaluations: Mapping[str, Evaluation]) -> tuple[str, int]:
    """Return the Merkle root over all rows with their witnesses, and how many rows there are."""
    leaves = [leaf for entry, e in evaluations.items() for leaf in _leaves(entry, e)]
    return merkle.root(leaves), len(leaves)


def _leaves(entry: str, evaluation: Evaluation) -> Sequence[bytes]:
    """Return each row as canonical JSON, floats in hexadecimal, with the witness's SHA-256."""
    rows = evaluation.frame.to_dicts()
    leaves, witness = [], 0
    for row in rows:
        plain: dict[str, Any] = {
            key: value.hex() if isinstance(value, float) else value for key, value in row.items()
        }
        plain["entry"], plain["witness"] = entry, None
        if row["verdict"] == BROKEN:
            digest = hashlib.sha256(evaluation.x_clean[witness].tobytes())
            digest.update(evaluation.x_adv[witness].tobytes())
            plain["witness"] = digest.hexdigest()
            witness += 1
        leaves.append(canonical(plain))
    return leaves
