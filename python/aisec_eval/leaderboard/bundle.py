"""`bundle`: a finished run in one file that others can check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import _files, runs
from ..errors import IncompleteRunError, RunError
from ..suite.identity import canonical
from ..suite.load import load_suite
from ..suite.plan import data_source, make_plan, model_source
from ..suite.recheck import gate_problems, recheck, suite_inputs
from ..suite.tables import is_table
from . import contents, rows
from .aggregate import aggregate
from .archive import pack
from .check import check_bundle
from .lock import make_lock
from .private import environment, refuse_private
from .statement import NAME, statement

if TYPE_CHECKING:
    from ..results import Run
    from ..suite.spec import Suite


def bundle(folder: str | Path, suite: str | Path, out: str | Path) -> Path:
    """Pack a finished run with the models it speaks of into one file.

    The same run gives the same bytes on the same installation. Before anything is written every
    piece of evidence is replayed, and the bundle itself is checked as a stranger would.

    Args:
        folder: the run folder.
        suite: the suite file it is a run of, with its models and data.
        out: the file to write.

    Returns:
        `out`.

    Raises:
        IncompleteRunError: shards failed or never ran.
        RunError: not a run of the suite, its evidence does not hold, it holds a path or a key that
            is nobody's business, or the file cannot be written.
    """
    target = Path(out)
    if target.is_dir():
        raise RunError(f"cannot write {target}: is a folder; give a file")
    run, loaded = runs.load_run(folder), load_suite(suite)
    _refuse_incomplete(run)
    _refuse_others(loaded)
    _refuse_unproven(run, loaded)
    plan = make_plan(loaded)
    used = [model for model in loaded.model if any(c.model == model.id for c in plan.cells)]
    files = {m.id: f"model/{runs.entry_name(i, m.id)}.onnx" for i, m in enumerate(used)}
    lock = make_lock(plan, run, files)
    members = contents.members(run, lock)
    for model in used:
        members[files[model.id]] = Path(model_source(loaded, model).path).read_bytes()
    evaluations, scans = contents.evaluations(run), contents.scans(run)
    summary = aggregate(lock, evaluations, scans)
    members["suite.lock.json"] = lock.dump()
    members["aggregate.json"] = canonical(summary)
    members["env.json"] = canonical(environment())
    refuse_private(members)
    members[NAME] = canonical(statement(members, lock, summary, *rows.root(evaluations)))
    part = target.with_name(f".{target.name}.part")
    try:
        _files.write_bytes(part, pack(members))
        data = {d.id: Path(data_source(loaded, d).source) for d in loaded.data}
        found = check_bundle(part, data=data, certify=False)
        if not found.holds:
            raise RunError(f"not bundled: the bundle would not check: {found.failures[0]}")
        with _files._write_errors(target):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _refuse_others(suite: Suite) -> None:
    """Refuse what a stranger could not replay from the bundle alone."""
    for model in suite.model:
        if model.url is not None:
            raise RunError(
                f"{suite.path}: model {model.id} is a black box behind a URL; a bundle holds its "
                "models, so that anybody can replay them: leave it out of the suite"
            )
    for data in suite.data:
        if is_table(data.source, data.labels):
            raise RunError(
                f"{suite.path}: data {data.id}: tables are scanned where they are and not bundled; "
                "leave it out of the suite"
            )
    for threat in suite.threat:
        if threat.kind not in ("ball", "patch", "frame", "tabular"):
            raise RunError(
                f"{suite.path}: threat {threat.name}: bundles are of norm balls, patches, "
                "frames and tables; leave it out of the suite"
            )


def _refuse_incomplete(run: Run) -> None:
    if run.manifest.get("kind") != "suite":
        raise RunError(f"{run.path}: not a run of a suite; only those are bundled")
    missing = run.manifest.get("plan", {}).get("missing", 0)
    if run.errors or missing:
        raise IncompleteRunError(
            f"{run.path}: incomplete ({len(run.errors)} shards failed, {missing} never ran); "
            "run the suite again with the same folder, then bundle it"
        )


def _refuse_unproven(run: Run, suite: Suite) -> None:
    models, data = suite_inputs(suite.path)
    problems = gate_problems(run, suite.path)
    for result in recheck(run, models, data):
        problems += [f"{result.model}, {result.threat}: {line}" for line in result.problems]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RunError(f"not bundled: {problems[0]}{more}")
