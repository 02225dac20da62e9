"""Poison scans: what was flagged, how scores spread, and how well it matches planted truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..bracket import wilson
from .figures import histogram, outcome
from .html import Element, el, name
from .tables import cell, table
from .words import between, count, number, percent, plural

if TYPE_CHECKING:
    from ..results import Scan


def section(scan: Scan, figure: str) -> Element:
    """One scan: a sentence, the histogram's place with its legend, a table by class.

    Args:
        scan: the scan.
        figure: identifier of the place the histogram is drawn in.
    """
    return el(
        "section",
        el("h3", name(scan.data), el("small", name(scan.result.method))),
        el("p", _sentence(scan)),
        el("div", id=figure, class_="plot short", role="img", aria_label="Histogram of the scores")
        if histogram(scan)
        else None,
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
        _classes(scan),
    )


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
    ]


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
