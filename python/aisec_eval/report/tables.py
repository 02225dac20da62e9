"""The tables: brackets, which attack broke what, gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..results import BROKEN, CERTIFIED, ERROR, MISCLASSIFIED, OPEN, VERDICTS
from .html import Element, el, name
from .words import NONE, between, count, number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..results import Evaluation
    from .select import Entry

DRAWN = (CERTIFIED, OPEN, BROKEN, MISCLASSIFIED, ERROR)
"""Order of the parts of a bracket bar: proven safe on the left, lost on the right."""
MEANING = {
    CERTIFIED: "proven safe",
    OPEN: "decided from neither side",
    BROKEN: "an adversarial example was found and re-checked",
    MISCLASSIFIED: "wrong without any attack",
    ERROR: "could not be evaluated, never counted as robust",
}


def cell(content: Any, value: float | str | None = None, **attributes: Any) -> Element:
    """Make a table cell; `value` is what it is sorted by."""
    if isinstance(value, float):
        value = f"{value:.9g}"
    return el("td", content, data_value=value, **attributes)


def table(
    caption: str,
    heads: Sequence[Any],
    rows: Sequence[Element],
    *,
    numeric: Sequence[Any] = (),
    foot: Element | None = None,
) -> Element:
    """Make a table that scrolls sideways on narrow screens and that scripts make sortable.

    Args:
        caption: what it shows; also its name for screen readers.
        heads: column heads, those of texts and pictures.
        rows: body rows.
        numeric: heads of the numeric columns, which come last.
        foot: a row of totals.
    """
    return el(
        "div",
        el(
            "table",
            el("caption", caption),
            el(
                "thead",
                el(
                    "tr",
                    [el("th", head, scope="col") for head in heads],
                    [el("th", head, scope="col", class_="num") for head in numeric],
                ),
            ),
            el("tbody", rows),
            el("tfoot", foot) if foot is not None else None,
            class_="sortable",
        ),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def shares(evaluation: Evaluation) -> dict[str, float]:
    """Fraction of samples with each verdict, in drawing order."""
    n = len(evaluation.verdict)
    counts = np.bincount(evaluation.verdict, minlength=len(VERDICTS))
    return {verdict: float(counts[VERDICTS.index(verdict)]) / n for verdict in DRAWN}


def bar(evaluation: Evaluation) -> Element:
    """Draw a bracket as one bar, [certified | open | broken | misclassified], with its interval."""
    found = shares(evaluation)
    low, high = evaluation.bracket.interval
    spoken = ", ".join(f"{percent(share)} {verdict}" for verdict, share in found.items() if share)
    return el(
        "div",
        el(
            "div",
            [
                el("span", class_=f"part {verdict}", style=f"--w:{share:.6f};")
                for verdict, share in found.items()
                if share
            ],
            class_="parts",
        ),
        el("span", class_="ci", style=f"--a:{low:.6f};--b:{high - low:.6f};"),
        class_="bar",
        role="img",
        aria_label=f"{spoken}; 95 % interval {between(low, high)}",
        title=spoken,
    )


def legend() -> Element:
    """Explain the colours of the bars."""
    return el(
        "ul",
        [
            el(
                "li",
                el("span", class_=f"key {verdict}"),
                el("strong", verdict),
                f" {MEANING[verdict]}",
            )
            for verdict in DRAWN
        ],
        el(
            "li", el("span", class_="key line"), "95 % interval of the population's robust accuracy"
        ),
        class_="legend",
    )


def brackets(found: Sequence[Entry]) -> Element:
    """One row an evaluation: bar, clean accuracy, bracket, interval, open, and what was spent."""
    several = len({(entry.data, entry.task) for entry in found}) > 1
    heads = ["Model", *(["Data"] if several else []), "Threat", "Bracket"]
    numeric = ["Robust accuracy", "95 % interval", "Clean", "Open", "Samples"]
    numeric += ["Gradients", "Queries"]
    rows = []
    for entry in found:
        e, bracket = entry.evaluation, entry.bracket
        low, high = bracket.interval
        gradients, queries = int(e.spent.gradients.sum()), int(e.spent.queries.sum())
        rows.append(
            el(
                "tr",
                el("th", name(e.model), scope="row", data_value=e.model),
                cell([name(entry.data), " ", name(entry.task)], entry.data) if several else None,
                cell(name(e.threat), threat_order(entry), class_="nowrap"),
                cell(bar(e), bracket.attacked, class_="wide"),
                cell(
                    between(bracket.certified, bracket.attacked),
                    bracket.attacked,
                    class_="num main",
                ),
                cell(between(low, high), low, class_="num"),
                cell(percent(e.clean_accuracy), e.clean_accuracy, class_="num"),
                cell(percent(bracket.open), bracket.open, class_="num"),
                cell(count(bracket.total), float(bracket.total), class_="num"),
                cell(count(gradients), float(gradients), class_="num"),
                cell(count(queries), float(queries), class_="num"),
            )
        )
    caption = "Brackets: certified ≤ robust ≤ attacked accuracy"
    return table(caption, heads, rows, numeric=numeric)


def threat_order(entry: Entry) -> str:
    """Sort key of a threat model: norm, then radius."""
    return f"{entry.norm} {entry.radius or 0:020.9f} {entry.evaluation.threat}"


def attacks(found: Sequence[Entry]) -> Element | None:
    """Which attack broke how many samples under which threat; None where nothing was broken.

    Attacks run one after another, each on what the ones before it left, so every broken sample
    counts once, for the attack that broke it.
    """
    tallies = [_tally(entry.evaluation) for entry in found]
    methods = list(dict.fromkeys(method for tally in tallies for method in tally))
    if not methods:
        return None
    rows = []
    for entry, tally in zip(found, tallies, strict=True):
        lost = [VERDICTS.index(verdict) for verdict in (MISCLASSIFIED, ERROR)]
        clean = int(np.sum(~np.isin(entry.evaluation.verdict, lost)))
        rows.append(
            el(
                "tr",
                el("th", name(entry.evaluation.model), scope="row"),
                cell(name(entry.evaluation.threat), threat_order(entry), class_="nowrap"),
                [_heat(tally.get(method, 0), clean) for method in methods],
                cell(count(sum(tally.values())), float(sum(tally.values())), class_="num main"),
            )
        )
    total = [sum(tally.get(method, 0) for tally in tallies) for method in methods]
    foot = el(
        "tr",
        el("th", "All", scope="row", colspan=2),
        [el("td", count(value), class_="num") for value in total],
        el("td", count(sum(total)), class_="num main"),
    )
    return table(
        "Samples each attack broke that no attack before it had broken",
        ["Model", "Threat"],
        rows,
        numeric=[*(name(method) for method in methods), "All"],
        foot=foot,
    )


def _tally(evaluation: Evaluation) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in np.flatnonzero(evaluation.verdict == VERDICTS.index(BROKEN)):
        method = evaluation.found_by[row] or "unnamed"
        found[method] = found.get(method, 0) + 1
    return found


def _heat(value: int, total: int) -> Element:
    share = value / total if total else 0.0
    return cell(
        [count(value), el("small", f" {percent(share)}") if value else None],
        float(value),
        class_="num heat",
        style=f"--v:{share:.4f};",
    )


def gates(found: Sequence[Any]) -> Element | None:
    """One row a gate, with its worst finding: what was claimed, where, what was measured."""
    rows = []
    for (metric, claim), members in by_gate(found).items():
        failed = [gate for gate in members if not passed([gate])]
        rows += [_gate(metric, claim, name(str(gate.get("where", ""))), [gate]) for gate in failed]
        if not failed:
            place = [
                name(str(members[0].get("where", "")))
                if len(members) == 1
                else f"all {len(members)} in its scope"
            ]
            rows.append(_gate(metric, claim, place, members))
    if not rows:
        return None
    return table(
        "Gates, judged by the worse end of the interval",
        ["Gate", "Metric", "Claim", "Where"],
        rows,
        numeric=["Measured", "95 % interval"],
    )


def by_gate(found: Sequence[Any]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Group the findings of gates by metric and claim."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for gate in found:
        if isinstance(gate, dict):
            key = (str(gate.get("gate", "")), str(gate.get("claim", "")))
            groups.setdefault(key, []).append(gate)
    return groups


def passed(members: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every finding of a gate passed; one that does not say so did not."""
    return all(gate.get("passed") is True for gate in members)


def badge(good: bool, text: str) -> Element:
    """Make a label that is green or red, and says which in words."""
    return el("span", text, class_=f"badge {'good' if good else 'bad'}")


def _gate(metric: str, claim: str, place: Any, members: Sequence[Mapping[str, Any]]) -> Element:
    good = passed(members)
    values = [_float(gate.get("value")) for gate in members]
    low = min(_float(gate.get("low")) for gate in members)
    high = max(_float(gate.get("high")) for gate in members)
    return el(
        "tr",
        cell(badge(good, "passed" if good else "failed"), float(good)),
        el("th", name(metric), scope="row"),
        cell(name(claim), class_="nowrap"),
        cell(place),
        cell(_span(min(values), max(values)), min(values), class_="num"),
        cell(_span(low, high), low, class_="num"),
    )


def _span(low: float, high: float) -> str:
    a, b = number(low), number(high)
    return a if a == b else f"{a} {NONE} {b}"


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")
