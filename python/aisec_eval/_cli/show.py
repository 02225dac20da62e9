"""Results as tables for people and as plain values for `--json`."""

from __future__ import annotations

from dataclasses import asdict
from math import isinf, isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from .console import line, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..cases import Cases
    from ..certifiers.certificate import Checked
    from ..leaderboard import BundleCheck
    from ..results import AttackResult, CertifyResult, Run, Scan, ScanResult, VerifyResult
    from ..suite.recheck import Rechecked


MOST_CLASSES = 20
"""Classes listed of a scan."""


def percent(value: float) -> str:
    """Write a fraction as a percentage."""
    return f"{100 * value:.1f} %"


def count(number: int) -> str:
    """Write a count in few characters: 950, 12.3k, 4.56M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


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


def attack_json(result: AttackResult) -> dict[str, Any]:
    """Return an attack's results as plain values."""
    return {
        "clean_accuracy": result.clean_accuracy,
        "robust_accuracy": result.robust_accuracy,
        "flags": list(result.flags),
        **({} if result.cases is None else {"corruptions": cases_json(result.cases)}),
        "samples": result.frame.to_dicts(),
    }


def cases_json(cases: Cases) -> dict[str, Any]:
    """Return accuracies under corruptions as plain values."""
    accuracy = dict(zip(cases.names, cases.accuracy.tolist(), strict=True))
    return {"mean_accuracy": cases.mean_accuracy, "accuracy": accuracy}


def cases_table(title: str, cases: Cases) -> None:
    """Print accuracy by kind of corruption and severity."""
    frame = cases.table
    rows = [
        (row[0], *("" if value is None else percent(value) for value in row[1:]))
        for row in frame.iter_rows()
    ]
    table(title, tuple(frame.columns), rows)
    line(f"mean accuracy under corruptions: {percent(cases.mean_accuracy)}")


def attack_table(name: str, threat: object, result: AttackResult) -> None:
    """Print what an attack left standing, and which attack broke how many."""
    spent = result.spent
    table(
        "",
        ("model", "threat", "clean", "attacked", "samples", "gradients", "queries"),
        [
            (
                name,
                threat,
                percent(result.clean_accuracy),
                percent(result.robust_accuracy),
                len(result.sample),
                count(int(spent.gradients.sum())),
                count(int(spent.queries.sum())),
            )
        ],
    )
    if result.cases is not None:
        cases_table("", result.cases)
    for attack in sorted({found for found in result.found_by if found}):
        line(f"{attack}: broke {result.found_by.count(attack)}")
    if held := result.evidence.count("lattice"):
        broken = held + result.evidence.count("float32")
        line(f"{held} of {broken} adversarial examples are on the lattice of the data")
    for flag in result.flags:
        line(f"note: {flag}")


def certify_json(result: CertifyResult) -> dict[str, Any]:
    """Return what was proven as plain values."""
    return {
        "method": result.method,
        "certified_accuracy": result.certified_accuracy,
        "samples": [
            {
                "sample": int(sample),
                "label": int(label),
                "certified": bool(certified),
                "margin_lower": None if isnan(margin) else float(margin),
                "radius": radius,
                "radius_upper": None if upper is None or isinf(upper) else upper,
                "reason": reason,
            }
            for sample, label, certified, margin, radius, upper, reason in zip(
                result.sample,
                result.label,
                result.certified,
                result.margin_lower,
                *(
                    [None] * len(result.sample) if column is None else column.tolist()
                    for column in (result.radius, result.radius_upper)
                ),
                result.reason,
                strict=True,
            )
        ],
    }


def certify_table(name: str, threat: object, result: CertifyResult) -> None:
    """Print how many samples were proven safe, and why the others were not."""
    table(
        "",
        ("model", "threat", "method", "certified", "samples"),
        [(name, threat, result.method, percent(result.certified_accuracy), len(result.sample))],
    )
    if result.radius is not None:
        middle, mean = np.median(result.radius), result.radius.mean()
        line(f"certified radius: median {middle:.4g}, mean {mean:.4g}")
    if result.radius_upper is not None:
        middle = np.median(result.radius_upper)
        line(f"nearest adversarial example: median {middle:.4g}")
    for reason in sorted({text for text in result.reason if text}):
        line(f"not certified, {reason}: {result.reason.count(reason)}")


def verify_json(result: VerifyResult) -> dict[str, Any]:
    """Return an answer and its counterexample as plain values; no times."""
    found = result.counterexample
    return {
        "status": result.status,
        "reason": result.reason,
        "bound": result.bound,
        "domains": result.domains,
        "counterexample": found
        and {"input": found.input.ravel().tolist(), "output": found.output.ravel().tolist()},
        "certificate": result.certificate and dict(result.certificate),
        **result.info,
    }


def verify_lines(result: VerifyResult) -> None:
    """Print an answer as VNN-COMP does: the word, then the counterexample in brackets."""
    print("timeout" if result.reason.startswith("timeout") else result.status)
    if result.counterexample is not None:
        sides = (("X", result.counterexample.input), ("Y", result.counterexample.output))
        values = [
            f"({name}_{index} {float(value)!r})"
            for name, side in sides
            for index, value in enumerate(side.ravel())
        ]
        print("(" + "\n".join(values) + ")")


def scan_json(result: ScanResult) -> dict[str, Any]:
    """Return poison scores as plain values."""
    return {
        "method": result.method,
        "samples": len(result.score),
        "flagged": np.flatnonzero(result.flagged).tolist(),
        "score": result.score.tolist(),
        "p_value": result.p_value.tolist(),
        "classes": result.classes.tolist(),
        "eigenvalues": result.eigenvalues.tolist(),
        "dataset": result.info.get("dataset"),
        "target_classes": result.info.get("target_classes", []),
    }


def scan_table(result: ScanResult, ids: Sequence[int], top: int) -> None:
    """Print the most suspicious samples."""
    order = np.argsort(-result.score, kind="stable")[:top]
    table(
        "most suspicious samples",
        ("sample", "label", "score", "p", "flagged"),
        [
            (
                ids[row],
                result.label[row],
                f"{result.score[row]:.4g}",
                f"{result.p_value[row]:.2g}",
                "yes" if result.flagged[row] else "",
            )
            for row in order
        ],
    )
    line(f"{int(result.flagged.sum())} of {len(result.score)} samples flagged ({result.method})")
    rows = [
        (
            c,
            int(inside.sum()),
            int((inside & result.flagged).sum()),
            f"{result.score[inside].max():.4g}",
        )
        for c in result.classes.tolist()
        if (inside := result.label == c).any()
    ]
    if len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda row: (-row[2], row[0]))[:MOST_CLASSES]
        line(f"{len(result.classes)} classes; those with the most flagged samples:")
    table("by class", ("class", "samples", "flagged", "largest score"), rows)
    verdict = result.info.get("dataset")
    if verdict is not None and verdict["p"] is not None:
        said = "poisoned" if verdict["poisoned"] else "no sign of poison"
        targets = result.info.get("target_classes") if verdict["poisoned"] else None
        named = f", target class {', '.join(map(str, targets))}" if targets else ""
        line(f"dataset: {said}{named} (p = {verdict['p']:.2g}, alarm below {verdict['level']:g})")
    else:
        line("dataset: no verdict; this detector ranks samples")


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
