"""The report: one HTML file that needs nothing else, from a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import figures, headline, html, provenance, scans, tables
from .corruptions import corruptions
from .document import asset, document, promise
from .gallery import gallery
from .html import Element, el, name
from .select import Entry, curves, entries
from .words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..results import Run


def page(run: Run) -> str:
    """Return the report of a run as the text of one HTML file.

    The same run gives the same text. Everything the page needs is in it; its content security
    policy lets it run its own two scripts and load nothing.
    """
    found = entries(run)
    plots: dict[str, dict[str, Any]] = {}
    main = [
        headline.section(found) if found else None,
        _errors(run),
        _brackets(found),
        _curves(found, plots),
        _attacks(found),
        _corruptions(found),
        _gallery(found),
        _scans(run, plots),
        _gates(run),
        _flags(run, found),
        _section("provenance", "Provenance", provenance.section(run, found)),
    ]
    sections = [section for section in main if section is not None]
    scripts = [html.script(figures.library())] if plots else []
    scripts.append(html.script(asset("tables.js") + asset("page.js")))
    return document(
        f"{_title(run)[:80]}: robustness report",
        [
            _header(run, sections),
            el("main", sections),
            el("footer", el("p", "Written by aisec_eval. ", promise())),
            html.data("plots", plots),
        ],
        scripts,
    )


def _header(run: Run, sections: Sequence[Element]) -> Element:
    suite = run.manifest.get("suite")
    description = suite.get("description") if isinstance(suite, dict) else None
    return el(
        "header",
        el("p", "Robustness report", class_="eyebrow"),
        el("h1", name(_title(run))),
        el("p", name(description, limit=1000), class_="lead")
        if isinstance(description, str)
        else None,
        _verdict(run),
        el(
            "nav",
            [
                el("a", label, href=f"#{identifier}")
                for identifier, label in _CONTENTS.items()
                if any(f'id="{identifier}"' in section.opening for section in sections)
            ],
            aria_label="Contents",
        ),
    )


_CONTENTS = {
    "answer": "Answer",
    "brackets": "Brackets",
    "curves": "Curves",
    "attacks": "Attacks",
    "examples": "Examples",
    "scans": "Poison scans",
    "gates": "Gates",
    "flags": "Diagnostics",
    "provenance": "Provenance",
}


def _title(run: Run) -> str:
    suite = run.manifest.get("suite")
    named = suite.get("name") if isinstance(suite, dict) else run.manifest.get("name")
    return named if isinstance(named, str) and named.strip() else run.path.name or "Run"


def _section(identifier: str, title: str, *children: Any) -> Element:
    return el("section", el("h2", title), children, id=identifier)


def _brackets(found: Sequence[Entry]) -> Element | None:
    if not found:
        return None
    note = (
        "The truth lies inside each bracket: certified accuracy is proven from below, attacked "
        "accuracy from above. The thin line is the 95 % interval of the population's robust "
        "accuracy, from both Wilson limits."
    )
    return _section("brackets", "Brackets", el("p", note), tables.brackets(found))


def _curves(found: Sequence[Entry], plots: dict[str, dict[str, Any]]) -> Element | None:
    by_norm = curves(found)
    if not by_norm:
        return None
    drawn = []
    for index, (norm, groups) in enumerate(by_norm.items()):
        identifier = f"curve-{index}"
        plots[identifier] = {
            "traces": figures.curve(groups),
            "layout": figures.curve_layout(norm),
        }
        title = figures.NORMS.get(norm, norm)
        drawn.append(
            el(
                "figure",
                el("h3", name(title)),
                el(
                    "div",
                    id=identifier,
                    class_="plot",
                    role="img",
                    aria_label=f"Accuracy against {title} radius; the numbers are in the table "
                    "of brackets",
                ),
                figures.curve_legend(groups),
            )
        )
    note = (
        "Measured at the points; the lines between them only lead the eye. Every curve starts at "
        "the clean accuracy."
    )
    return _section(
        "curves", "Robustness curves", el("p", note), el("div", drawn, class_="plots"), _no_script()
    )


def _attacks(found: Sequence[Entry]) -> Element | None:
    table = tables.attacks(found)
    if table is None:
        return None
    note = (
        "Attacks run one after another, each only on what the ones before it left standing; "
        "certified samples are not attacked at all. Shares are of the samples classified correctly."
    )
    return _section("attacks", "Which attack broke what", el("p", note), table)


def _corruptions(found: Sequence[Entry]) -> Element | None:
    drawn = corruptions(found)
    if drawn is None:
        return None
    note = (
        "Accuracy over all samples, misclassified ones included, as benchmarks of corruptions "
        "count it; the mean over all corruptions and severities is the figure they rank by. A "
        "bracket counts a sample as broken where any of them breaks it."
    )
    return _section("corruptions", "Common corruptions", el("p", note), drawn)


def _gallery(found: Sequence[Entry]) -> Element | None:
    drawn = gallery(found)
    if drawn is None:
        return None
    note = (
        "The most clearly broken samples of each evaluation, different labels first. The third "
        "picture is the change, magnified as its caption says: red for more, blue for less, or "
        "colour around grey. The margin is the label's score minus the best other one: "
        "below zero, the label lost."
    )
    return _section("examples", "Adversarial examples", el("p", note), drawn)


def _scans(run: Run, plots: dict[str, dict[str, Any]]) -> Element | None:
    if not run.scans:
        return None
    drawn = [scans.section(scan, f"scan-{index}", plots) for index, scan in enumerate(run.scans)]
    return _section("scans", "Poison scans", drawn, _no_script())


def _gates(run: Run) -> Element | None:
    listed = run.manifest.get("gates")
    table = tables.gates(listed) if isinstance(listed, list) else None
    return _section("gates", "Gates", table) if table is not None else None


def _verdict(run: Run) -> Element | None:
    listed = run.manifest.get("gates")
    grouped = tables.by_gate(listed) if isinstance(listed, list) else {}
    if not grouped:
        return None
    failed = sum(not tables.passed(members) for members in grouped.values())
    return el(
        "p",
        tables.badge(not failed, "gates passed" if not failed else "gates failed"),
        f" {failed or len(grouped)} of {plural(len(grouped), 'gate')}",
        class_="verdict",
    )


def _errors(run: Run) -> Element | None:
    plan = run.manifest.get("plan")
    missing = plan.get("missing") if isinstance(plan, dict) else None
    never = (
        f"{plural(missing, 'shard')} never ran; the brackets are of what did."
        if isinstance(missing, int) and missing > 0
        else None
    )
    if not run.errors and never is None:
        return None
    return el(
        "section",
        el("h2", "This run is incomplete"),
        el("p", never) if never is not None else None,
        el("p", "These parts failed; their samples count as errors, never as robust.")
        if run.errors
        else None,
        el("ul", [el("li", name(line, limit=1000)) for line in run.errors]),
        class_="alarm",
        role="note",
        id="errors",
    )


def _flags(run: Run, found: Sequence[Entry]) -> Element | None:
    said: dict[str, list[str]] = {}
    for entry in found:
        for flag in entry.evaluation.flags:
            said.setdefault(flag, []).append(
                f"{entry.evaluation.model} · {entry.evaluation.threat}"
            )
    warnings = run.manifest.get("warnings")
    for warning in warnings if isinstance(warnings, list) else ():
        said.setdefault(str(warning), []).append("suite")
    if not said:
        return None
    return _section(
        "flags",
        "Diagnostics",
        el(
            "ul",
            [
                el(
                    "li",
                    name(flag, limit=1000),
                    el(
                        "small",
                        "every evaluation" if len(places) == len(found) > 1 else _list(places),
                    ),
                )
                for flag, places in said.items()
            ],
            class_="flags",
        ),
    )


def _list(places: Sequence[str]) -> list[Any]:
    return [
        [name(place), "; " if index < len(places) else None]
        for index, place in enumerate(places, 1)
    ]


def _no_script() -> Element:
    return el(
        "noscript",
        el("p", "The drawings need JavaScript; the tables hold the same numbers.", class_="quiet"),
    )
