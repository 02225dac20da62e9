"""Manifests: what stood at each URL, one row a URL, under one Merkle root."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import _files
from ...errors import DatasetError, InputError, RunError
from .bodies import unit_vector
from .merkle import inclusion_proof, merkle_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

COLUMNS = ("url", "sha256", "size", "phash", "mime", "error")
EMBEDDING = "embedding"
"""A column more, where bodies were embedded."""
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PHASH = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, eq=False)
class Manifest:
    """What stood at each URL.

    Attributes:
        frame: a row a URL, in the order given: `url`, `sha256` and `size` of the body, `phash`
            (see `perceptual_hash`; null where it is no image), `mime`, and `error`, which says why
            where nothing came and the others are null. Where bodies were embedded, also
            `embedding`: base64 of a vector of length 1, little-endian float32.
    """

    frame: pl.DataFrame

    @property
    def root(self) -> str:
        """Merkle root over all rows in their order, in hexadecimal: what one signs or publishes.

        A leaf is the row as a JSON list `[url, sha256, size, phash, mime]`, with the embedding as a
        sixth where there is one, without spaces, in UTF-8; leaves and nodes are hashed as in RFC
        6962. Errors do not count.
        """
        return merkle_root(self._leaves())

    def leaf(self, row: int) -> bytes:
        """Return what the Merkle tree holds of a row."""
        return _leaf(self.frame.row(row, named=True))

    def proof(self, row: int) -> list[str]:
        """Hashes that show that a row is under the root; `check_inclusion` checks them.

        Raises:
            InputError: there is no such row.
        """
        if not 0 <= row < self.frame.height:
            raise InputError(f"row {row} of a manifest of {self.frame.height} rows")
        return inclusion_proof(list(self._leaves()), row)

    def _leaves(self) -> Iterator[bytes]:
        return (_leaf(row) for row in self.frame.iter_rows(named=True))

    def save(self, path: str | Path) -> Path:
        """Write Parquet (`.parquet`, `.pq`) or JSON lines (`.jsonl`, `.ndjson`), whole or not.

        Raises:
            InputError: the path ends in nothing of these.
            DatasetError: it cannot be written.
        """
        return save(self.frame, Path(path))


def load_manifest(path: str | Path) -> Manifest:
    """Read a manifest that `Manifest.save` or `build_manifest` wrote, and check every value.

    Raises:
        DatasetError: missing, damaged, or not a manifest.
    """
    path = Path(path)
    frame = read_table(path)
    if tuple(frame.columns) not in (COLUMNS, (*COLUMNS, EMBEDDING)):
        raise DatasetError(f"{path}: columns are {frame.columns}, a manifest has {list(COLUMNS)}")
    import polars as pl

    try:
        frame = frame.cast(pl.Schema(schema(tuple(frame.columns))))
    except pl.exceptions.PolarsError:
        raise DatasetError(f"{path}: a column has values of another type") from None
    for number, row in enumerate(frame.iter_rows(named=True)):
        reached, embedded = row["error"] is None, row.get(EMBEDDING)
        fits = (
            row["url"] is not None
            and reached == (row["sha256"] is not None) == (row["size"] is not None)
            and (row["sha256"] is None or _SHA256.fullmatch(row["sha256"]))
            and (row["phash"] is None or (reached and _PHASH.fullmatch(row["phash"])))
            and (row["size"] is None or row["size"] >= 0)
            and (embedded is None or (reached and unit_vector(embedded) is not None))
        )
        if not fits:
            raise DatasetError(f"{path}: row {number} is not one of a manifest")
    return Manifest(frame)


def schema(names: tuple[str, ...] = COLUMNS) -> dict[str, Any]:
    """Types of a manifest's columns."""
    import polars as pl

    return {name: pl.Int64 if name == "size" else pl.String for name in names}


def _leaf(row: dict[str, Any]) -> bytes:
    values = [row[name] for name in COLUMNS[:-1]]
    if row.get(EMBEDDING) is not None:
        values.append(row[EMBEDDING])
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def read_table(path: Path) -> pl.DataFrame:
    """Read Parquet or JSON lines.

    Raises:
        DatasetError: missing, damaged or of another kind.
    """
    import polars as pl

    suffix = path.suffix.lower()
    if suffix not in JSON_LINES + PARQUET:
        raise DatasetError(
            f"{path}: expected a path that ends in {', '.join(JSON_LINES + PARQUET)}"
        )
    try:
        if suffix in PARQUET:
            return pl.read_parquet(path)
        # Columns that are null in the first rows would otherwise be taken to be null in all.
        return pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{path}: cannot be read ({reason})") from None


def save(frame: pl.DataFrame, path: Path) -> Path:
    """Write a table, whole or not at all.

    Raises:
        InputError: the path ends in nothing known.
        DatasetError: it cannot be written.
    """
    import io

    check_suffix(path)
    file = io.BytesIO()
    if path.suffix.lower() in PARQUET:
        frame.write_parquet(file)
    else:
        frame.write_ndjson(file)
    try:
        return _files.write_bytes(path, file.getvalue())
    except RunError as error:
        raise DatasetError(str(error)) from None


def check_suffix(path: Path) -> None:
    """Refuse a path that says neither Parquet nor JSON lines.

    Raises:
        InputError: it does not.
    """
    if path.suffix.lower() not in JSON_LINES + PARQUET:
        raise InputError(f"{path}: expected a path that ends in {', '.join(JSON_LINES + PARQUET)}")
