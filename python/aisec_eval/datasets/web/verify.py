"""What has changed at the URLs of a dataset since it was recorded."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .bodies import Look, cosine
from .columns import ALGORITHMS, WEAK, algorithm_in, digest, explanations, guess, normal
from .fetch import Fetch
from .journal import Output, work_through
from .manifest import EMBEDDING, Manifest, read_table
from .perceptual import perceptual_distance

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from .bodies import Embed

VERDICTS = ("identical", "similar", "changed", "unreachable", "unrecorded")
_WRONG = 0.9
"""Share of hashes that differ from which it is the column that is wrong, not the data."""
_FEWEST = 10
"""Bodies that must have come for that judgement."""


@dataclass(frozen=True, eq=False)
class Verification:
    """What was found at each URL."""

    frame: pl.DataFrame
    """A row a URL, in the order of the manifest: `url`, `verdict`, `distance` (of perceptual
    hashes, where there are two), `cosine` (of embeddings, likewise), `sha256`, `size` and `mime` of
    what came, and `error`, which says why nothing did."""
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many URLs have each verdict."""
        found = Counter(self.frame["verdict"])
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def kept(self) -> pl.DataFrame:
        """Rows whose data is identical to what was recorded."""
        return self.frame.filter(verdict="identical")


def verify(
    manifest: Manifest | pl.DataFrame | str | Path,
    path: str | Path | None = None,
    *,
    root: str | None = None,
    hash_column: str | None = None,
    most_bits: int = 8,
    embed: Embed | None = None,
    least_cosine: float = 0.9,
    fetch: Fetch | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Verification:
    """Download every URL again and compare with what was recorded.

    `identical`: the hash is the recorded one. `similar`: it is not, but the perceptual hash is at
    most `most_bits` of 63 bits away: recompressed, scaled, or changed in a way it does not see;
    and, where embeddings are compared, their cosine is at least `least_cosine`.
    `changed`: neither. `unreachable`: nothing came. `unrecorded`: something came, but nothing
    usable was recorded. Only identical data is what was reviewed: a perceptual hash is no defence
    against someone who knows it, `similar` tells drift from replacement.

    Where more than 90 % of at least 10 hashes differ, it is the column that is wrong rather than
    the data. It may hold another hash of the same bodies, by which they are then judged, or hashes
    of the URLs; `info["hash_column"]` says what was found. Where nothing explains it, hashes count
    for nothing and perceptual hashes alone decide.

    Args:
        manifest: a manifest, or a table with a column `url` and one of hashes, or the path to
            such (Parquet or JSON lines).
        path: where to write the verdicts, as Parquet or JSON lines, once complete; `<path>.part`
            beside it keeps what is done, from which a call that was stopped goes on.
        root: the Merkle root that the manifest must have; needs a manifest.
        hash_column: the column of hashes; default `sha256`, else the only one named after a hash.
            The algorithm is taken from its name, else from the length of the values.
        most_bits: see above.
        embed: the function that the manifest was built with, see `build_manifest`. Where a body has
            a perceptual hash and an embedding both must be close, else what it has.
        least_cosine: see above.
        fetch: how to download.
        progress: called as `progress(URLs done, all, note)`.

    Returns:
        Verdicts, and findings on the columns in `info`.

    Raises:
        InputError: an option or column does not fit, the root is another one, or Pillow is needed.
        DatasetError: a file cannot be read or written.
    """
    import polars as pl

    options = Fetch() if fetch is None else fetch
    if not 0 <= most_bits <= 63:
        raise InputError(f"most_bits={most_bits!r} must be 0 to 63")
    if not -1 <= least_cosine <= 1:
        raise InputError(f"least_cosine={least_cosine!r} must be -1 to 1")
    output = Output(None if path is None else Path(path))
    frame = _table(manifest, root)
    column = _hash_column(frame, hash_column)
    recorded = [None if value is None else normal(value) for value in frame[column].to_list()]
    algorithm = guess(column, (value for value in recorded if value))
    if algorithm is None:
        raise InputError(f"column {column!r}: neither its name nor its values are of a known hash")
    perceptual, embedded = (_texts(frame, name) for name in ("phash", EMBEDDING))
    if embed is not None and not any(embedded):
        raise InputError("embed: the manifest has no embeddings to compare with")
    look = Look(options, any(perceptual), embed)
    look.check()
    items = list(zip(frame["url"].to_list(), recorded, perceptual, embedded, strict=True))
    rows = work_through(
        items,
        lambda item: _look(item, algorithm, look),
        workers=options.workers,
        journal=output.journal,
        identity=["verification", algorithm, embed is not None, options.max_bytes],
        progress=progress,
        note="URLs",
    )
    finding = _judge_column(column, algorithm, rows)
    verdicts = [
        _verdict(item, row, finding, most_bits, least_cosine)
        for item, row in zip(items, rows, strict=True)
    ]
    found = pl.DataFrame(
        {
            "url": pl.Series([url for url, *_ in items], dtype=pl.String),
            "verdict": pl.Series(verdicts, dtype=pl.Enum(VERDICTS)),
            "distance": pl.Series([row["distance"] for row in rows], dtype=pl.Int64),
            "cosine": pl.Series([row["cosine"] for row in rows], dtype=pl.Float64),
            "sha256": pl.Series([row["sha256"] for row in rows], dtype=pl.String),
            "size": pl.Series([row["size"] for row in rows], dtype=pl.Int64),
            "mime": pl.Series([row["mime"] for row in rows], dtype=pl.String),
            "error": pl.Series([row["error"] for row in rows], dtype=pl.String),
        }
    )
    output.finish(found)
    info = {"hash_column": finding, "most_bits": most_bits}
    if embed is not None:
        info["least_cosine"] = least_cosine
    return Verification(found, info)


def _table(manifest: Manifest | pl.DataFrame | str | Path, root: str | None) -> pl.DataFrame:
    import polars as pl

    if isinstance(manifest, str | Path):
        manifest = read_table(Path(manifest))
    frame = manifest.frame if isinstance(manifest, Manifest) else manifest
    if not isinstance(frame, pl.DataFrame) or "url" not in frame.columns:
        raise InputError("manifest: expected a table with a column url")
    if frame["url"].dtype != pl.String or frame["url"].null_count():
        raise InputError("manifest: column url must hold a text in every row")
    if root is not None:
        try:
            found = Manifest(frame).root
        except (KeyError, TypeError, pl.exceptions.PolarsError):
            raise InputError("root: only a manifest of build_manifest has one") from None
        if found != root.strip().lower():
            raise InputError(f"the manifest's root is {found}, not {root}; it was changed")
    return frame


def _hash_column(frame: pl.DataFrame, name: str | None) -> str:
    import polars as pl

    texts = [column for column, dtype in frame.schema.items() if dtype == pl.String]
    if name is not None:
        if name not in texts:
            raise InputError(
                f"hash_column={name!r} is none of the text columns: {', '.join(texts)}"
            )
        return name
    if "sha256" in texts:
        return "sha256"
    named = [
        column for column in texts
        if column.lower() == "hash" or algorithm_in(column)
    ]  # fmt: skip
    if len(named) != 1:
        raise InputError(
            "manifest: name its column of hashes by hash_column; its columns of text: "
            f"{', '.join(texts)}"
        )
    return named[0]


def _texts(frame: pl.DataFrame, name: str) -> list[str | None]:
    import polars as pl

    if frame.schema.get(name) == pl.String:
        return frame[name].to_list()
    return [None] * frame.height


def _look(item: Any, algorithm: str, look: Look) -> dict[str, Any]:
    """Download a URL and compare; what is found goes into the journal."""
    url, recorded, perceptual, embedded = item
    row, data = look.at(url, perceptual=perceptual is not None, embed=embedded is not None)
    hashed, vector = row.pop("phash"), row.pop("embedding")
    row |= {"distance": None, "cosine": None, "same": None, "also": []}
    if row["error"] is not None:
        return row
    if recorded is not None:
        row["same"] = digest(data, algorithm) == recorded
        if not row["same"]:
            row["also"] = explanations(url, data, recorded)
    if hashed is not None:
        with suppress(ValueError):
            row["distance"] = perceptual_distance(perceptual, hashed)
    if vector is not None:
        row["cosine"] = cosine(embedded, vector)
    return row


def _judge_column(column: str, algorithm: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Tell a wrong column of hashes from changed data."""
    algorithm = _fitting(column, algorithm, rows)
    compared = [row for row in rows if row["same"] is not None]
    differ = [row for row in compared if not row["same"]]
    finding: dict[str, Any] = {
        "column": column,
        "algorithm": algorithm,
        "compared": len(compared),
        "differ": len(differ),
        "wrong": len(compared) >= _FEWEST and len(differ) > _WRONG * len(compared),
        "instead": None,
    }
    if finding["wrong"]:
        also = Counter(name for row in differ for name in row["also"])
        if also and also.most_common(1)[0][1] > len(compared) / 2:
            finding["instead"] = also.most_common(1)[0][0]
        what = f"holds {finding['instead']}" if finding["instead"] else "holds other values"
        finding["note"] = (
            f"column {column!r} does not hold {algorithm} of these bodies ({len(differ)} of "
            f"{len(compared)} differ): it {what}"
        )
    elif algorithm in WEAK:
        finding["note"] = f"{algorithm} can be forged: record sha256"
    return finding


def _fitting(column: str, algorithm: str, rows: list[dict[str, Any]]) -> str:
    """Return which of the hashes of one length a column holds whose name does not say it."""
    if algorithm_in(column):
        return algorithm
    also = Counter(name for row in rows for name in row["also"] if name in ALGORITHMS)
    same = sum(row["same"] is True for row in rows)
    if also and also.most_common(1)[0][1] > same:
        algorithm = also.most_common(1)[0][0]
        for row in rows:
            if row["same"] is not None:
                row["same"] = algorithm in row["also"]
    return algorithm


def _verdict(
    item: Any, row: dict[str, Any], finding: dict[str, Any], most_bits: int, least_cosine: float
) -> str:
    recorded = item[1]
    if row["error"] is not None:
        return "unreachable"
    usable = recorded is not None
    same = bool(row["same"])
    if finding["wrong"]:
        usable = usable and finding["instead"] in ALGORITHMS
        same = finding["instead"] in row["also"] or same
    if usable and same:
        return "identical"
    if row["distance"] is not None or row["cosine"] is not None:
        seen = row["distance"] is None or row["distance"] <= most_bits
        near = row["cosine"] is None or row["cosine"] >= least_cosine
        return "similar" if seen and near else "changed"
    return "changed" if usable else "unrecorded"
