"""Run folders: results with their evidence on disk, and reading them back.

```
manifest.json                     what was run: schema, kind, versions, entries; never a time
evaluations/000-net-linf-0.3/     verdicts.parquet  evidence.npz  evaluation.json
                                  cases.parquet: under corruptions, which the model got right
scans/000-digits/                 scores.parquet  scan.json  evidence.npz  evidence.json
kept.npy                          of a single scan: the samples that are not flagged
errors.json                       one line for each shard that failed
```

The same results give the same bytes. The manifest is written last: a folder with one is whole.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _files
from ._entries import column, mapping, object_of, text, texts
from ._scans import read_scan as read_scan
from ._scans import write_scan as write_scan
from .cases import CORRECT, UNKNOWN, WRONG, Cases
from .errors import RunError
from .findings import Findings
from .results import BROKEN, EVIDENCE, VERDICTS, Evaluation, Run, Scan, Spent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

SCHEMA = 1
_ENTRY = re.compile(r"[0-9]{3,}-[a-z0-9][a-z0-9.-]*")
_EVIDENCE = ("row", "x_clean", "x_adv")


def save_evaluation(evaluation: Evaluation, folder: str | Path) -> Path:
    """Write one evaluation into a new run folder, all of it or nothing.

    Args:
        evaluation: what `evaluate()` returned.
        folder: must not exist yet, or be empty.

    Returns:
        The folder.

    Raises:
        RunError: the folder exists and is not empty, or cannot be written.
    """
    return _save(Path(folder), lambda part: write_run(part, {"kind": "evaluation"}, [evaluation]))


def save_scan(scan: Scan, folder: str | Path, ids: NDArray[np.int64] | None = None) -> Path:
    """Write one scan into a new run folder, all of it or nothing.

    Beside the run there is `kept.npy`: the samples that are not flagged, int64, ascending by row.

    Args:
        scan: what was found.
        folder: must not exist yet, or be empty.
        ids: what the samples are called [n]; by their rows when None.

    Returns:
        The folder.

    Raises:
        RunError: the folder exists and is not empty, or cannot be written.
    """
    kept = scan.result.clean if ids is None else ids[scan.result.clean]

    def write(part: Path) -> None:
        buffer = io.BytesIO()
        np.save(buffer, kept.astype(np.int64), allow_pickle=False)
        _files.write_bytes(part / "kept.npy", buffer.getvalue())
        write_run(part, {"kind": "scan"}, scans=[scan])

    return _save(Path(folder), write)


def check_new(folder: Path) -> None:
    """Check that a run can be written into `folder`, before there is one.

    Raises:
        RunError: it exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not empty; choose a new folder or remove it")


def _save(target: Path, write: Callable[[Path], object]) -> Path:
    check_new(target)
    with _files._write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            part.chmod(0o755)
            write(part)
            os.rename(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        _files.sync_folder(target.parent)
    return target


def write_run(
    folder: Path,
    manifest: Mapping[str, Any],
    evaluations: Sequence[Evaluation] = (),
    scans: Sequence[Scan] = (),
    errors: Sequence[str] = (),
) -> Path:
    """Write results into `folder` (which may already hold shards), the manifest last.

    Args:
        folder: the run folder; made if missing.
        manifest: what identifies the run, at least `kind`; schema, versions and the lists of
            entries are added.
        evaluations: in the order they are to be listed.
        scans: in the order they are to be listed.
        errors: one line for each shard that failed.

    Returns:
        The folder.

    Raises:
        RunError: something cannot be written.
    """
    from ._core import __version__

    entries: dict[str, list[str]] = {"evaluations": [], "scans": []}
    for index, evaluation in enumerate(evaluations):
        name = entry_name(index, evaluation.model, evaluation.threat)
        write_evaluation(evaluation, folder / "evaluations" / name)
        entries["evaluations"].append(name)
    for index, scan in enumerate(scans):
        name = entry_name(index, scan.data, scan.result.method)
        write_scan(scan, folder / "scans" / name)
        entries["scans"].append(name)
    _files.write_json(folder / "errors.json", list(errors))
    versions = {"aisec_eval": __version__}
    _files.write_json(
        folder / "manifest.json", {"versions": versions, **manifest, **entries, "schema": SCHEMA}
    )
    return folder


def load_run(folder: str | Path) -> Run:
    """Read a run folder back, checking every file.

    Args:
        folder: what `Evaluation.save`, `run()` or the command line wrote.

    Returns:
        The run, equal to what was saved.

    Raises:
        RunError: not a run folder, of a newer version, or a file is missing, damaged or
            inconsistent with the others.
    """
    path = Path(folder)
    if not path.is_dir():
        raise RunError(f"{path}: no such run folder")
    if not (path / "manifest.json").exists():
        raise RunError(
            f"{path}: no manifest.json; not a run folder, or a run that has not finished "
            "(run the suite again with the same output folder to resume it)"
        )
    manifest = object_of(path / "manifest.json")
    if manifest.get("schema") != SCHEMA:
        raise RunError(
            f"{path / 'manifest.json'}: schema {manifest.get('schema')!r}, this version reads "
            f"{SCHEMA}; use the version of aisec_eval that wrote it"
        )
    errors = _files.read_json(path / "errors.json")
    if not isinstance(errors, list) or not all(isinstance(line, str) for line in errors):
        raise RunError(f"{path / 'errors.json'}: expected a list of lines")
    return Run(
        path=path,
        manifest=manifest,
        evaluations=tuple(read_evaluation(p) for p in _entries(path, manifest, "evaluations")),
        scans=tuple(read_scan(p) for p in _entries(path, manifest, "scans")),
        errors=tuple(errors),
    )


def entry_name(index: int, *parts: str) -> str:
    """Return a folder name such as `003-net-linf-8-255`, safe on every file system."""
    slug = "-".join(re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-.") for part in parts)
    return f"{index:03d}-{re.sub(r'-+', '-', slug).strip('-.')[:80].rstrip('-.') or 'entry'}"


def write_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """Write `verdicts.parquet`, `evidence.npz` and `evaluation.json` into `folder`; return it."""
    rows = np.flatnonzero(evaluation.verdict == VERDICTS.index(BROKEN)).astype(np.int64)
    if evaluation.x_adv.shape != evaluation.x_clean.shape or len(evaluation.x_adv) != len(rows):
        raise RunError(
            f"cannot write {folder}: {len(rows)} broken samples need as many adversarial examples "
            f"and clean inputs, got {evaluation.x_adv.shape} and {evaluation.x_clean.shape}"
        )
    if evaluation.transform and len(evaluation.transform) != len(evaluation.verdict):
        raise RunError(f"cannot write {folder}: every sample needs a transformation, or none")
    _files.write_parquet(folder / "verdicts.parquet", evaluation.frame)
    if evaluation.cases is not None:
        _files.write_parquet(folder / "cases.parquet", _case_frame(evaluation.cases))
    _files.write_npz(
        folder / "evidence.npz",
        {
            "row": rows,
            "x_clean": evaluation.x_clean.astype(np.float32, copy=False),
            "x_adv": evaluation.x_adv.astype(np.float32, copy=False),
        },
    )
    _files.write_json(
        folder / "evaluation.json",
        {
            "model": evaluation.model,
            "model_digest": evaluation.model_digest,
            "threat": evaluation.threat,
            "flags": list(evaluation.flags),
            "info": dict(evaluation.info),
            "samples": len(evaluation.verdict),
            "input_shape": list(evaluation.x_adv.shape[1:]),
        }
        | ({"transforms": True} if evaluation.transform else {})
        | ({} if evaluation.draws is None else {"draws": True})
        | ({} if evaluation.cases is None else {"cases": list(evaluation.cases.names)})
        | ({} if evaluation.findings is None else {"findings": evaluation.findings.to_json()}),
    )
    return folder


def read_evaluation(folder: Path) -> Evaluation:
    """Read what `write_evaluation` wrote.

    Raises:
        RunError: a file is missing, damaged or inconsistent with the others.
    """
    import polars as pl

    about = object_of(folder / "evaluation.json")
    verdicts = folder / "verdicts.parquet"
    integer, real = pl.Int64(), pl.Float64()
    moved = about.get("transforms") is True
    drawn = about.get("draws") is True
    frame = _files.read_parquet(
        verdicts,
        {
            "sample": integer,
            "label": integer,
            "verdict": pl.Enum(VERDICTS),
            "margin": real,
            "margin_lower": real,
            "distance": real,
            "found_by": pl.String(),
            "evidence": pl.Enum(EVIDENCE),
            **({"transform": pl.String()} if moved else {}),
            **({"draws": integer} if drawn else {}),
            "forwards": integer,
            "gradients": integer,
            "queries": integer,
        },
    )
    if frame.height == 0 or frame.height != about.get("samples"):
        raise RunError(f"{verdicts}: {frame.height} rows, expected {about.get('samples')!r}")
    spent = Spent(*(column(frame, name) for name in ("forwards", "gradients", "queries")))
    if min(spent.forwards.min(), spent.gradients.min(), spent.queries.min()) < 0:
        raise RunError(f"{verdicts}: negative counts of forwards, gradients or queries")
    verdict = frame["verdict"].to_physical().to_numpy().astype(np.int8)
    evidence = _files.read_npz(folder / "evidence.npz", _EVIDENCE)
    _check_evidence(folder, evidence, verdict, about.get("input_shape"))
    return Evaluation(
        sample=column(frame, "sample"),
        label=column(frame, "label"),
        verdict=verdict,
        x_adv=evidence["x_adv"],
        x_clean=evidence["x_clean"],
        margin=column(frame, "margin"),
        margin_lower=column(frame, "margin_lower"),
        distance=column(frame, "distance"),
        found_by=tuple(frame["found_by"]),
        evidence=tuple(frame["evidence"]),
        spent=spent,
        model=text(folder / "evaluation.json", about, "model"),
        model_digest=text(folder / "evaluation.json", about, "model_digest"),
        threat=text(folder / "evaluation.json", about, "threat"),
        flags=texts(folder / "evaluation.json", about, "flags"),
        info=mapping(folder / "evaluation.json", about, "info"),
        findings=_findings(folder / "evaluation.json", about.get("findings")),
        transform=tuple(frame["transform"]) if moved else (),
        draws=column(frame, "draws") if drawn else None,
        cases=_cases(folder, about.get("cases"), len(verdict)),
    )


def _case_frame(cases: Cases) -> pl.DataFrame:
    """Lay cases out, a column each: 1 where the model is correct, 0 wrong, -1 unknown."""
    import polars as pl

    return pl.DataFrame(dict(zip(cases.names, cases.correct.T, strict=True)))


def _cases(folder: Path, names: Any, samples: int) -> Cases | None:
    import polars as pl

    if names is None:
        return None
    path = folder / "cases.parquet"
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise RunError(f"{folder / 'evaluation.json'}: cases must be a list of distinct names")
    frame = _files.read_parquet(path, dict.fromkeys(names, pl.Int8()))
    correct = frame.to_numpy()
    if frame.height != samples or not np.isin(correct, (CORRECT, WRONG, UNKNOWN)).all():
        raise RunError(
            f"{path}: expected {samples} rows of 1 (correct), 0 (wrong) and -1 (unknown)"
        )
    return Cases(tuple(names), np.ascontiguousarray(correct))


def _findings(path: Path, value: Any) -> Findings | None:
    """Bundles keep the flags and not what they were judged on."""
    try:
        return None if value is None else Findings.from_json(value)
    except ValueError as error:
        raise RunError(f"{path}: {error}") from None


def _check_evidence(
    folder: Path,
    evidence: Mapping[str, np.ndarray[Any, Any]],
    verdict: np.ndarray[Any, Any],
    shape: Any,
) -> None:
    path = folder / "evidence.npz"
    broken = np.flatnonzero(verdict == VERDICTS.index(BROKEN))
    row, x_clean, x_adv = (evidence[name] for name in _EVIDENCE)
    if row.dtype != np.int64 or not np.array_equal(row, broken):
        raise RunError(f"{path}: its rows are not the broken rows of verdicts.parquet")
    for name, x in (("x_clean", x_clean), ("x_adv", x_adv)):
        if x.dtype != np.float32 or list(x.shape) != [len(broken), *(shape or ())]:
            raise RunError(
                f"{path}: {name} is {x.dtype} {x.shape}, expected float32 "
                f"({len(broken)}, {', '.join(map(str, shape or ()))})"
            )
        if not np.isfinite(x).all():
            raise RunError(f"{path}: {name} holds values that are not finite")


def _entries(path: Path, manifest: Mapping[str, Any], kind: str) -> Iterable[Path]:
    names = manifest.get(kind, [])
    if not isinstance(names, list):
        raise RunError(f"{path / 'manifest.json'}: {kind} must be a list of folder names")
    for name in names:
        if not isinstance(name, str) or not _ENTRY.fullmatch(name):
            raise RunError(f"{path / 'manifest.json'}: {name!r} is not the name of an entry")
        yield _files.confined(path, f"{kind}/{name}")
