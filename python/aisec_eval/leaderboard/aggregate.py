"""`aggregate.json`: every number a bundle states, computed from its rows and from nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..results import VERDICTS
from ..suite.gate import judge, parse_gate
from ..suite.plan import matches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..results import Evaluation, Scan
    from ..suite.gate import Gate
    from .lock import Lock, LockedCell


def aggregate(
    lock: Lock, evaluations: Mapping[str, Evaluation], scans: Mapping[str, Scan]
) -> dict[str, Any]:
    """Return accuracies with their intervals, what was spent, and how the gates fared.

    Args:
        lock: the resolved suite.
        evaluations: by entry, in the order of the lock.
        scans: likewise.
    """
    return {
        "evaluations": [_evaluation(cell, evaluations[cell.entry]) for cell in lock.of("evaluate")],
        "scans": [_scan(cell, scans[cell.entry]) for cell in lock.of("scan")],
        "gates": gates(lock, evaluations, scans),
    }


def gates(
    lock: Lock, evaluations: Mapping[str, Evaluation], scans: Mapping[str, Scan]
) -> list[dict[str, Any]]:
    """Judge the gates of the lock on the results."""
    found = []
    for line in lock.gates:
        gate = parse_gate(line.metric, line.claim)
        measured = [
            (cell.where, (scans if gate.of_scan else evaluations)[cell.entry])
            for cell in lock.of("scan" if gate.of_scan else "evaluate")
            if _in_scope(cell, gate)
        ]
        found += [asdict(result) for result in judge(gate, line.claim, measured)]
    return found


def _in_scope(cell: LockedCell, gate: Gate) -> bool:
    names = {cell.data, cell.task}
    if cell.threat is None:
        return matches(names, None, gate.scopes)
    names |= {cell.model or "", cell.threat.id, cell.threat.norm}
    return matches(names, cell.threat.ball().eps, gate.scopes)


def _evaluation(cell: LockedCell, e: Evaluation) -> dict[str, Any]:
    low, high = e.bracket.interval
    counts = np.bincount(e.verdict, minlength=len(VERDICTS)).tolist()
    return {
        "entry": cell.entry,
        "model": e.model,
        "threat": e.threat,
        "data": cell.data,
        "samples": e.bracket.total,
        "verdicts": dict(zip(VERDICTS, counts, strict=True)),
        "clean": e.clean_accuracy,
        "certified": e.bracket.certified,
        "attacked": e.bracket.attacked,
        "open": e.bracket.open,
        "interval": [low, high],
        "forwards": int(e.spent.forwards.sum()),
        "gradients": int(e.spent.gradients.sum()),
        "queries": int(e.spent.queries.sum()),
    }


def _scan(cell: LockedCell, scan: Scan) -> dict[str, Any]:
    flagged = scan.result.flagged
    about = {"entry": cell.entry, "data": cell.data, "samples": len(flagged)}
    if scan.poison is None:
        return {**about, "flagged": int(flagged.sum())}
    return {
        **about,
        "flagged": int(flagged.sum()),
        "planted": int(scan.poison.sum()),
        "found": int((flagged & scan.poison).sum()),
    }
