"""Scans on disk: `scores.parquet`, `scan.json`, and what a report shows beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _files
from ._entries import column, mapping, object_of, text
from .errors import RunError
from .results import Scan, ScanEvidence, ScanResult

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

_LOOKS = ("row", "embedding", "top", "inputs")


def write_scan(scan: Scan, folder: Path) -> Path:
    """Write `scores.parquet` and `scan.json` into `folder`; return it."""
    import polars as pl

    frame = scan.result.frame
    if scan.poison is not None:
        frame = frame.with_columns(pl.Series("poison", scan.poison.astype(np.bool_)))
    _files.write_parquet(folder / "scores.parquet", frame)
    _files.write_json(
        folder / "scan.json",
        {
            "data": scan.data,
            "method": scan.result.method,
            "classes": scan.result.classes.tolist(),
            "eigenvalues": scan.result.eigenvalues.tolist(),
            "info": dict(scan.result.info),
            "samples": len(scan.result.score),
            "truth": scan.poison is not None,
        },
    )
    if scan.evidence is not None:
        arrays = {name: getattr(scan.evidence, name) for name in _LOOKS}
        about = {"label": scan.evidence.label, "bounds": list(scan.evidence.bounds)}
        _files.write_npz(folder / "evidence.npz", arrays)
        _files.write_json(folder / "evidence.json", about)
    return folder


def read_scan(folder: Path) -> Scan:
    """Read what `write_scan` wrote.

    Raises:
        RunError: a file is missing, damaged or inconsistent with the other.
    """
    import polars as pl

    path = folder / "scan.json"
    about = object_of(path)
    schema: dict[str, pl.DataType] = {
        "sample": pl.Int64(),
        "label": pl.Int64(),
        "score": pl.Float64(),
        "p_value": pl.Float64(),
        "flagged": pl.Boolean(),
    }
    if about.get("truth") is True:
        schema["poison"] = pl.Boolean()
    frame = _files.read_parquet(folder / "scores.parquet", schema)
    if frame.height == 0 or frame.height != about.get("samples"):
        raise RunError(
            f"{folder / 'scores.parquet'}: {frame.height} rows, expected {about.get('samples')!r}"
        )
    try:
        classes = np.asarray(about.get("classes"), dtype=np.int64)
        eigenvalues = np.asarray(about.get("eigenvalues"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise RunError(f"{path}: classes and eigenvalues must be lists of numbers") from None
    if classes.ndim != 1 or eigenvalues.shape not in (classes.shape, (0,)):
        raise RunError(f"{path}: classes and eigenvalues must be lists of one length")
    return Scan(
        data=text(path, about, "data"),
        result=ScanResult(
            score=column(frame, "score"),
            flagged=column(frame, "flagged"),
            p_value=column(frame, "p_value"),
            label=column(frame, "label"),
            method=text(path, about, "method"),
            classes=classes,
            eigenvalues=eigenvalues,
            info=mapping(path, about, "info"),
        ),
        poison=column(frame, "poison") if "poison" in schema else None,
        evidence=_looks(folder, frame.height),
    )


def _looks(folder: Path, rows: int) -> ScanEvidence | None:
    """Read what a scan shows beside its scores; it may be left out."""
    path = folder / "evidence.npz"
    if not path.exists():
        return None
    about, arrays = object_of(folder / "evidence.json"), _files.read_npz(path, _LOOKS)
    row, embedding, top, inputs = (arrays[name] for name in _LOOKS)
    label, bounds = about.get("label"), about.get("bounds")
    for name, index in (("row", row), ("top", top)):
        inside = index.dtype == np.int64 and index.ndim == 1
        if not inside or (len(index) and not 0 <= index.min() <= index.max() < rows):
            raise RunError(f"{path}: {name} must be rows of scores.parquet")
    if embedding.dtype != np.float32 or embedding.shape != (len(row), 2):
        raise RunError(f"{path}: embedding must be float32 [{len(row)}, 2]")
    if inputs.dtype != np.float32 or len(inputs) not in (0, len(top)):
        raise RunError(f"{path}: inputs must be float32, one a row of top or none")
    if not (np.isfinite(embedding).all() and np.isfinite(inputs).all()):
        raise RunError(f"{path}: holds values that are not finite")
    if (
        type(label) is not int
        or not isinstance(bounds, list)
        or len(bounds) != 2
        or not all(isinstance(v, (int, float)) and abs(v) < 1e30 for v in bounds)
        or not bounds[0] < bounds[1]
    ):
        raise RunError(f"{folder / 'evidence.json'}: needs a label and bounds [low, high]")
    return ScanEvidence(label, row, embedding, top, inputs, (float(bounds[0]), float(bounds[1])))
