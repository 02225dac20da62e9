"""The verbs `check` and `leaderboard`: what was checked, as text or JSON, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UnsafeArtifactError
from . import show_checks, show_runs
from .console import complain, emit, line, progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def check_run(folder: Path, suite: Path | None, files: Mapping[str, Path], *, as_json: bool) -> int:
    """Check a run folder again with its suite, or with models by their id."""
    from ..models import load_model
    from ..runs import load_run
    from ..suite.recheck import gate_problems, recheck, suite_inputs

    found = load_run(folder)
    models: dict[str, Any] = {}
    data = None
    problems: list[str] = []
    if suite is not None:
        models, data = suite_inputs(suite)
        problems = gate_problems(found, suite)
    for name, path in files.items():
        models[name] = load_model(path, name=name)
    results = recheck(found, models, data, prove=True)
    holds = not problems and all(not result.problems for result in results)
    if as_json:
        emit(
            {
                "run": str(folder),
                "holds": holds,
                "problems": problems,
                "evaluations": show_checks.recheck_json(results),
                "summary": found.summary.to_dicts() if results else [],
            }
        )
    else:
        show_runs.run_table(found)
        show_checks.recheck_table(results)
        for problem in problems:
            line(f"does not hold: {problem}", style="bold red")
        show_checks.verdict_line(holds)
    return 0 if holds else 1


def check_certificate(
    net: Path, path: Path, prop: Path | None, *, exact: bool, as_json: bool
) -> int:
    """Check a certificate of a network, and that it proves a property if one is given."""
    from ..certifiers.certificate import check_certificate, proves, read_text
    from ..certifiers.vnnlib import read_vnnlib
    from ..errors import CapabilityError
    from ..models import load_network

    read_text(path)  # a file that cannot be read is found out before the network is
    model = load_network(net, None)
    if model.graph is None:
        why = model.report.not_certifiable or "it was not lowered to the engine's graph"
        raise CapabilityError(f"model {model.name!r} cannot be checked: {why}")
    found = check_certificate(model.graph, path, exact=exact)
    reason = found.reason
    if found.holds and prop is not None:
        reason = proves(found, read_vnnlib(prop))
    if as_json:
        emit(show_checks.certificate_json(path, found, reason))
    else:
        show_checks.certificate_lines(path, found, reason)
    return 1 if reason else 0


def check_radii(votes: Path, path: Path, *, as_json: bool) -> int:
    """Check radii against poisoned training data with the votes they were derived from."""
    from ..certifiers import check_votes

    problems = check_votes(votes, path)
    if as_json:
        emit({"votes": str(votes), "radii": str(path), "holds": not problems, "problems": problems})
    else:
        for problem in problems:
            line(f"does not hold: {problem}", style="bold red")
        show_checks.verdict_line(not problems)
    return 1 if problems else 0


def check_bundle(path: Path, files: Mapping[str, Path], *, as_json: bool) -> int:
    """Check a bundle, with the datasets that are files."""
    from ..leaderboard import check_bundle

    with progress(quiet=as_json) as update:
        found = check_bundle(path, data=files, progress=update)
    if as_json:
        emit(show_checks.bundle_json(found))
    else:
        show_checks.bundle_lines(found)
    return 0 if found.holds else 1


def leaderboard(
    bundles: Sequence[Path], out: Path, files: Mapping[str, Path], *, as_json: bool
) -> int:
    """Check bundles and write the site of those that hold; the others are named."""
    from ..leaderboard import build_site, check_bundle

    refused: list[dict[str, str]] = []
    kept = []
    code = 0
    with progress(quiet=as_json) as update:
        for number, path in enumerate(bundles):
            if update is not None:
                update(number, len(bundles), path.name)
            try:
                found = check_bundle(path, data=files)
            except UnsafeArtifactError as error:
                refused.append({"bundle": str(path), "reason": str(error)})
                code = error.exit_code
                continue
            if found.holds:
                kept.append(found)
            else:
                refused.append({"bundle": str(path), "reason": f"{path}: {found.failures[0]}"})
                code = max(code, 1)
    for entry in refused:
        complain(f"left out: {entry['reason']}")
    index = build_site(kept, out) if kept else None
    if as_json:
        checked = [{"bundle": str(found.path), "level": found.level} for found in kept]
        site = index and str(index)
        emit({"index": site, "bundles": checked, "refused": refused, "exit_code": code})
    elif index is not None:
        for found in kept:
            line(f"{found.path}: {found.level}")
        line(f"leaderboard: {index}")
    return code
