"""A run as tables for people and as plain values for `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .console import line, table
from .show_common import cases_json, cases_table, count, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..results import Run, Scan


def run_table(run: Run) -> None:
    """Print the brackets of a run, its scans and its gates."""
    suite = run.manifest.get("suite", {})
    rows = [
        (
            row["model"],
            row["threat"],
            percent(row["clean"]),
            f"{100 * row['certified']:.1f} <= robust <= {percent(row['attacked'])}",
            f"[{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}] %",
            percent(row["open"]),
            count(row["gradients"]),
            count(row["queries"]),
        )
        for row in run.summary.iter_rows(named=True)
    ]
    if rows:
        sizes = " to ".join(str(n) for n in sorted({len(e.sample) for e in run.evaluations}))
        table(
            f"{suite.get('name', run.path.name)} {suite.get('version', '')}: {sizes} samples each",
            (
                "model",
                "threat",
                "clean",
                "bracket",
                "95 % interval",
                "open",
                "gradients",
                "queries",
            ),
            rows,
        )
    for scan in run.scans:
        line(scan_line(scan))
    for evaluation in run.evaluations:
        if evaluation.cases is not None:
            cases_table(f"{evaluation.model}, {evaluation.threat}", evaluation.cases)
        for flag in evaluation.flags:
            line(f"note: {evaluation.model}, {evaluation.threat}: {flag}")
    gate_lines(run.manifest.get("gates", ()))
    for error in run.errors:
        line(f"failed: {error}", style="red")


def gate_lines(gates: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each gate that passed, one for each place where one failed."""
    for key in dict.fromkeys((gate["gate"], gate["claim"]) for gate in gates):
        everywhere = [gate for gate in gates if (gate["gate"], gate["claim"]) == key]
        failed = [gate for gate in everywhere if not gate["passed"]]
        name = " ".join(key)
        for gate in failed:
            text = f"gate FAILED: {name} on {gate['where']}: {_interval(gate)}"
            line(text, style="bold red")
        if not failed and len(everywhere) == 1:
            line(f"gate passed: {name} on {everywhere[0]['where']}: {_interval(everywhere[0])}")
        elif not failed:
            line(f"gate passed: {name} on all {len(everywhere)} in its scope")


def _interval(gate: Mapping[str, Any]) -> str:
    if gate["low"] == gate["high"]:
        return f"{gate['value']:.4g}"
    return f"95 % interval [{gate['low']:.4g}, {gate['high']:.4g}]"


def scan_line(scan: Scan) -> str:
    """Say what a scan found, and how right it was where the truth is known."""
    flagged = scan.result.flagged
    text = (
        f"scan of {scan.data} ({scan.result.method}): "
        f"{int(flagged.sum())} of {len(flagged)} samples flagged"
    )
    verdict = scan.result.info.get("dataset")
    if isinstance(verdict, dict) and verdict.get("p") is not None:
        text += "; the dataset looks poisoned" if verdict["poisoned"] else "; no sign of poison"
    if scan.poison is None:
        return text
    found, wrong = (percent(rate) for rate in scan_rates(scan).values())
    planted = int(scan.poison.sum())
    return f"{text}; of {planted} planted {found} found, of the others {wrong} flagged"


def scan_rates(scan: Scan) -> dict[str, float]:
    """Return true and false positive rates of a scan whose truth is known."""
    if scan.poison is None:
        return {}
    return {
        "true_positive_rate": float(scan.result.flagged[scan.poison].mean()),
        "false_positive_rate": float(scan.result.flagged[~scan.poison].mean()),
    }


def run_json(run: Run) -> dict[str, Any]:
    """Return a run's results as plain values."""
    return {
        "run": str(run.path),
        "suite": run.manifest.get("suite", {}),
        "evaluations": run.summary.to_dicts() if run.evaluations else [],
        "flags": [
            {"model": e.model, "threat": e.threat, "flags": list(e.flags)} for e in run.evaluations
        ],
        "corruptions": [
            {"model": e.model, "threat": e.threat, **cases_json(e.cases)}
            for e in run.evaluations
            if e.cases is not None
        ],
        "scans": [
            {
                "data": scan.data,
                "method": scan.result.method,
                "samples": len(scan.result.flagged),
                "flagged": int(scan.result.flagged.sum()),
                "dataset": scan.result.info.get("dataset"),
                **scan_rates(scan),
            }
            for scan in run.scans
        ],
        "gates": run.manifest.get("gates", []),
        "warnings": run.manifest.get("warnings", []),
        "errors": list(run.errors),
    }
