"""Members of a bundle ↔ a run: `members` takes a run apart, `restore` puts one together again.

A restored run is written out as a run folder and read with `load_run`, so a bundle passes every
check a run folder does: shapes, dtypes, finite evidence, one witness for each broken row.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _files, runs
from ..errors import RunError
from ..suite.identity import canonical
from . import rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..results import Evaluation, Run, Scan
    from .lock import Lock

_WHOLE = frozenset(
    {"statement.json", "suite.lock.json", "results.parquet"}
    | {"aggregate.json", "flags.json", "env.json"}
)


def members(run: Run, lock: Lock) -> dict[str, bytes]:
    """Return evidence, scans, rows and flags of a run, as they stand in a bundle."""
    found: dict[str, bytes] = {}
    by_entry = evaluations(run)
    for entry in by_entry:
        found[f"evidence/{entry}.npz"] = _bytes(run.path / "evaluations" / entry / "evidence.npz")
    for entry in run.manifest["scans"]:
        for name in ("scores.parquet", "scan.json"):
            found[f"scans/{entry}/{name}"] = _bytes(run.path / "scans" / entry / name)
    ordered = {cell.entry: by_entry[cell.entry] for cell in lock.of("evaluate")}
    found["results.parquet"] = _files.parquet_bytes(rows.table(ordered))
    found["flags.json"] = canonical({entry: list(e.flags) for entry, e in ordered.items()})
    return found


def expected(lock: Lock) -> set[str]:
    """Return the names a bundle with this lock has."""
    names = {model.file for model in lock.models} | _WHOLE
    names |= {f"evidence/{cell.entry}.npz" for cell in lock.of("evaluate")}
    for cell in lock.of("scan"):
        names |= {f"scans/{cell.entry}/{name}" for name in ("scores.parquet", "scan.json")}
    return names


def restore(found: Mapping[str, bytes], lock: Lock, folder: Path) -> Run:
    """Write members out as the run folder `folder` and read it back.

    Raises:
        RunError: rows, evidence, flags or lock contradict each other; the message names files
            inside `folder`.
    """
    frame = _rows(found, lock, folder)
    flags = canonical_json(found, "flags.json")
    if sorted(flags) != sorted(frame):
        raise RunError("flags.json: not of the entries of the lock")
    digests = {model.id: (model.digest, model.input_shape) for model in lock.models}
    for cell in lock.of("evaluate"):
        if cell.threat is None or cell.model is None:
            raise RunError(f"suite.lock.json: {cell.entry} names no model or threat model")
        home = folder / "evaluations" / cell.entry
        part = frame[cell.entry]
        if not np.array_equal(part["sample"].to_numpy(), cell.sample_ids()):
            raise RunError(f"results.parquet: {cell.entry} is not of the samples of the lock")
        _put(home / "verdicts.parquet", _files.parquet_bytes(part))
        _put(home / "evidence.npz", found[f"evidence/{cell.entry}.npz"])
        ball = cell.threat.ball()
        about = ball.describe()
        digest, shape = digests[cell.model]
        _put(
            home / "evaluation.json",
            canonical(
                {
                    "model": cell.model,
                    "model_digest": digest,
                    "threat": str(ball),
                    "flags": flags.get(cell.entry),
                    "info": {"threat": about, **cell.settings},
                    "samples": cell.rows,
                    "input_shape": shape,
                }
            ),
        )
    for cell in lock.of("scan"):
        for name in ("scores.parquet", "scan.json"):
            member = f"scans/{cell.entry}/{name}"
            _put(folder / member, found[member])
    gates = canonical_json(found, "aggregate.json").get("gates")
    _put(folder / "errors.json", canonical([]))
    _put(folder / "manifest.json", canonical(manifest(lock, gates)))
    return runs.load_run(folder)


def _rows(found: Mapping[str, bytes], lock: Lock, folder: Path) -> dict[str, Any]:
    path = folder / "results.parquet"
    _put(path, found["results.parquet"])
    sizes = {cell.entry: cell.rows for cell in lock.of("evaluate")}
    frame = _files.read_parquet(path, rows.schema(), max_rows=sum(sizes.values()))
    return rows.split(frame, sizes)


def manifest(lock: Lock, gates: Any) -> dict[str, Any]:
    """Return the manifest of the run a bundle was made of, as far as its lock tells."""
    cells = [
        {
            "kind": cell.kind,
            "task": cell.task,
            "data": cell.data,
            "entry": cell.entry,
            **({} if cell.model is None else {"model": cell.model}),
        }
        for cell in lock.cells
    ]
    return {
        "schema": runs.SCHEMA,
        "kind": "suite",
        "suite": lock.suite.model_dump(mode="json"),
        "engine": lock.engine,
        "models": [{"id": m.id, "path": m.file, "digest": m.digest} for m in lock.models],
        "data": [{"id": d.id, "source": d.source, "digest": d.digest} for d in lock.data],
        "cells": cells,
        "gates": gates,
        "evaluations": [cell.entry for cell in lock.of("evaluate")],
        "scans": [cell.entry for cell in lock.of("scan")],
    }


def evaluations(run: Run) -> dict[str, Evaluation]:
    """Return a run's evaluations by entry."""
    return dict(zip(run.manifest["evaluations"], run.evaluations, strict=True))


def scans(run: Run) -> dict[str, Scan]:
    """Return a run's scans by entry."""
    return dict(zip(run.manifest["scans"], run.scans, strict=True))


def canonical_json(found: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """Read a member that must be a JSON object in canonical form.

    That form has no double keys, no NaN and no spaces: two readers cannot read it differently.

    Raises:
        RunError: it is not.
    """
    if len(found[name]) > _files.MAX_JSON:
        raise RunError(f"{name}: larger than {_files.MAX_JSON >> 20} MiB")
    try:
        value = json.loads(found[name])
        whole = isinstance(value, dict) and canonical(value) == found[name]
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise RunError(f"{name}: not a JSON object in canonical form")
    found_object: dict[str, Any] = value
    return found_object


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None


def _put(path: Path, data: bytes) -> None:
    """Write a file that is not meant to last."""
    with _files._write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
