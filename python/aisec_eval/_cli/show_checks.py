"""What checks of runs, bundles and certificates found: tables, and plain values for `--json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .console import line, table
from .show_runs import run_json, run_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..certifiers.certificate import Checked
    from ..leaderboard import BundleCheck
    from ..suite.recheck import Rechecked


def recheck_table(results: Sequence[Rechecked]) -> None:
    """Print which evidence held."""
    table(
        "evidence replayed",
        (
            "model",
            "threat",
            "samples",
            "broken",
            "confirmed",
            "certified",
            "proven",
            "clean verdicts",
        ),
        [
            (
                r.model,
                r.threat,
                r.samples,
                r.broken,
                r.confirmed,
                r.certified,
                r.proven if r.clean else "-",
                "not checked (needs --suite)" if not r.clean else "checked",
            )
            for r in results
        ],
    )
    for r in results:
        for problem in r.problems:
            line(f"does not hold: {r.model}, {r.threat}: {problem}", style="bold red")


def recheck_json(results: Sequence[Rechecked]) -> list[dict[str, Any]]:
    """Return what a check found as plain values."""
    return [asdict(result) for result in results]


def bundle_lines(found: BundleCheck) -> None:
    """Print how far a bundle could be checked, and what does not hold."""
    from ..leaderboard.check import MEANING

    if found.run is not None and found.level:
        run_table(found.run)
    line(f"{found.path}: level {found.level or 'none'} ({MEANING[found.level]})")
    for note in found.notes:
        line(f"not checked: {note}")
    for failure in found.failures:
        line(f"does not hold: {failure}", style="bold red")
    verdict_line(found.holds)


def verdict_line(holds: bool) -> None:
    """Print the last line of a check."""
    line("everything checked holds" if holds else "NOT everything holds")


def certificate_json(path: Path, found: Checked, reason: str) -> dict[str, Any]:
    """Return what a certificate's check found as plain values."""
    return {
        "certificate": str(path),
        "holds": not reason,
        "reason": reason,
        "cases": [
            {
                "clauses": len(case.clauses),
                "leaves": case.leaves,
                "bounds": [float(b) if np.isfinite(b) else None for b in case.bounds],
            }
            for case in found.cases
        ],
    }


def certificate_lines(path: Path, found: Checked, reason: str) -> None:
    """Print what a certificate proves, or why it is not accepted."""
    for case in found.cases:
        least = case.bounds.min(initial=np.inf)
        shown = f", least bound {least:.6g}" if np.isfinite(least) else ""
        ball = f", cut with a ball in {case.ball[0]}" if case.ball is not None else ""
        line(
            f"{path}: none of {len(case.clauses)} clauses can be met in a box of "
            f"{len(case.lower)} inputs{ball}; {case.leaves} parts{shown}"
        )
    if reason:
        line(f"not accepted: {reason}", style="bold red")
    else:
        line("the certificate holds")


def bundle_json(found: BundleCheck) -> dict[str, Any]:
    """Return what a bundle's check found as plain values."""
    about = {
        "bundle": str(found.path),
        "digest": found.digest,
        "level": found.level or None,
        "holds": found.holds,
        "failures": list(found.failures),
        "not_checked": list(found.notes),
    }
    return about if found.run is None or not found.level else about | run_json(found.run)
