"""Poison scans: what was flagged, how scores spread, and how well it matches planted truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..bracket import wilson
from . import figures, scan_figures
from .figures import outcome
from .html import Element, el, name
from .suspects import suspects
from .tables import cell, table
from .words import between, count, number, percent, plural

if TYPE_CHECKING:
    from ..results import Scan


def section(scan: Scan, identifier: str, plots: dict[str, dict[str, Any]]) -> Element:
    """One scan: the verdict, figures, the worst samples, a table by class.

    Args:
        scan: the scan.
        identifier: what the identifiers of its figures begin with.
        plots: gets the figures.
    """
    curve = scan_figures.roc(scan)
    figure = _Figures(identifier, plots)
    drawn = [
        figure.add(
            "scores",
            figures.histogram(scan),
            figures.histogram_layout(),
            "Scores",
            "Histogram of the scores",
        ),
        figure.add(
            "class",
            scan_figures.scatter(scan),
            scan_figures.scatter_layout(),
            f"Class {scan.evidence.label} along its leading directions" if scan.evidence else "",
            "Samples of one class along its two leading directions",
        ),
        figure.add(
            "roc",
            [] if curve is None else scan_figures.roc_traces(*curve),
            scan_figures.roc_layout(),
            "" if curve is None else f"ROC, area {scan_figures.area(*curve):.3f}",
            "Poisoned samples caught against clean ones flagged",
        ),
    ]
    return el(
        "section",
        el("h3", name(scan.data), el("small", name(scan.result.method))),
        verdict(scan),
        el("p", _sentence(scan)),
        el("div", drawn, class_="plots"),
        el(
            "ul",
            [
                el(
                    "li",
                    el("span", class_=f"key outcome-{i}"),
                    f"{label}: {count(int(mask.sum()))}",
                )
                for i, (label, mask) in enumerate(outcome(scan).items())
            ],
            class_="legend",
        ),
        el("h4", "Most suspicious samples"),
        suspects(scan),
        _classes(scan),
        _assumptions(scan),
        class_="scan",
    )


class _Figures:
    """Places for figures, which the page's script draws."""

    def __init__(self, identifier: str, plots: dict[str, dict[str, Any]]) -> None:
        self.identifier = identifier
        self.plots = plots

    def add(
        self, kind: str, traces: list[dict[str, Any]], layout: dict[str, Any], title: str, text: str
    ) -> Element | None:
        """Return the place of a figure, None where there is nothing to draw."""
        if not traces:
            return None
        place = f"{self.identifier}-{kind}"
        self.plots[place] = {"traces": traces, "layout": layout}
        drawn = el("div", id=place, class_="plot short", role="img", aria_label=text)
        return el("figure", el("h3", title), drawn)


def verdict(scan: Scan) -> Element:
    """Say whether the dataset was tampered with, as far as the detector has a null of its own."""
    found = scan.result.info.get("dataset")
    if not isinstance(found, dict) or not isinstance(found.get("p"), (int, float)):
        text = (
            "No verdict on the dataset: this detector ranks samples, and flags some where nothing "
            "was tampered with."
        )
        return el("p", text, class_="verdict")
    p, level = float(found["p"]), found.get("level")
    alarm = found.get("poisoned") is True
    said: list[Element | str] = [
        el("strong", "The dataset looks poisoned" if alarm else "No sign of poison"),
        f": p = {number(p)}",
    ]
    if isinstance(level, (int, float)):
        said.append(f", with an alarm below {number(float(level))}")
    targets = scan.result.info.get("target_classes")
    if alarm and isinstance(targets, list) and targets:
        few = [int(c) for c in targets[:8] if isinstance(c, int)]
        said.append(f". Suspected target {'class' if len(few) == 1 else 'classes'}: ")
        said.append(", ".join(map(str, few)))
    rate = scan.result.info.get("rate")
    if alarm and isinstance(rate, (int, float)):
        said.append(f"; about {percent(float(rate))} of the samples")
    return el("p", said, ".", class_="verdict")


def _assumptions(scan: Scan) -> Element | None:
    """What p-values take for granted, by which rule samples are flagged, and what was noted."""
    info = scan.result.info
    said = []
    for key, head in (("null", "p-values assume"), ("rule", "flagged are")):
        text = info.get(key)
        if isinstance(text, str) and text:
            said.append(el("div", el("dt", head), el("dd", name(text, limit=1000))))
    notes = info.get("notes")
    said += [
        el("div", el("dt", "note"), el("dd", name(str(note), limit=1000)))
        for note in (notes[:20] if isinstance(notes, list) else ())
    ]
    return el("dl", said, class_="assumptions") if said else None


def _sentence(scan: Scan) -> list[Element | str]:
    flagged, n = int(scan.result.flagged.sum()), len(scan.result.score)
    said: list[Element | str] = [
        f"{plural(flagged, 'sample')} of {count(n)} flagged as possibly poisoned ",
        f"({percent(flagged / n)}). ",
    ]
    if scan.poison is None:
        return [*said, "Which samples really are poisoned is not known here."]
    planted, clean = int(scan.poison.sum()), int((~scan.poison).sum())
    caught = int((scan.result.flagged & scan.poison).sum())
    alarms = flagged - caught
    return [
        *said,
        f"{plural(planted, 'poisoned sample')} had been planted: ",
        el("strong", f"{percent(_share(caught, planted))} caught"),
        f" (95 % interval {between(*wilson(caught, planted))}), ",
        el("strong", f"{percent(_share(alarms, clean))} false alarms"),
        f" ({between(*wilson(alarms, clean))}).",
        _ranking(scan),
    ]


def _ranking(scan: Scan) -> str:
    curve = scan_figures.roc(scan)
    if curve is None:
        return ""
    return (
        f" By rank alone {percent(scan_figures.caught_at(*curve))} are caught where "
        f"{percent(scan_figures.FPR)} of the clean samples are flagged."
    )


def _classes(scan: Scan) -> Element:
    result, poison = scan.result, scan.poison
    heads = ["Samples", "Flagged"]
    heads += ["Planted", "Caught", "False alarms"] if poison is not None else []
    heads += ["Largest score"]
    heads += ["Leading eigenvalue"] if len(result.eigenvalues) else []
    rows = []
    for index, label in enumerate(result.classes):
        inside = result.label == label
        n, flagged = int(inside.sum()), int((inside & result.flagged).sum())
        cells = [cell(count(value), float(value), class_="num") for value in (n, flagged)]
        if poison is not None:
            planted = int((inside & poison).sum())
            caught = int((inside & poison & result.flagged).sum())
            cells += [
                cell(count(planted), float(planted), class_="num"),
                _rate(caught, planted),
                _rate(flagged - caught, n - planted),
            ]
        largest = float(np.max(result.score[inside], initial=-np.inf))
        own = [largest, *(float(v) for v in result.eigenvalues[index : index + 1])]
        cells += [cell(number(v), v, class_="num") for v in own]
        rows.append(el("tr", el("th", int(label), scope="row", data_value=int(label)), cells))
    return table("By class", ["Class"], rows, numeric=heads)


def _rate(part: int, whole: int) -> Element:
    share = _share(part, whole)
    return cell(percent(share), share, class_="num")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
