"""Results of single calls as tables for people and as plain values for `--json`."""

from __future__ import annotations

from math import isinf, isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from .console import line, table
from .show_common import cases_json, cases_table, count, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..results import AttackResult, CertifyResult, ScanResult, VerifyResult


MOST_CLASSES = 20
"""Classes listed of a scan."""


def attack_json(result: AttackResult) -> dict[str, Any]:
    """Return an attack's results as plain values."""
    return {
        "clean_accuracy": result.clean_accuracy,
        "robust_accuracy": result.robust_accuracy,
        "flags": list(result.flags),
        **({} if result.cases is None else {"corruptions": cases_json(result.cases)}),
        "samples": result.frame.to_dicts(),
    }


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
