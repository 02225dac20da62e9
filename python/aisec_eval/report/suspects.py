"""The most suspicious samples of a scan: pictures where they are images, a table everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import png
from .html import Element, el
from .pictures import image, tone
from .tables import cell, table
from .words import number

if TYPE_CHECKING:
    from ..results import Scan, ScanEvidence

MOST = 24
"""Samples shown of each scan."""


def suspects(scan: Scan) -> Element:
    """Show the samples with the highest scores."""
    evidence = scan.evidence
    if evidence is None:
        ranked = np.where(np.isnan(scan.result.score), -np.inf, scan.result.score)
        return _table(scan, np.argsort(-ranked, kind="stable")[:MOST])
    if len(evidence.inputs) and image(evidence.inputs[0]) is not None:
        cards = [_card(scan, evidence, index) for index in range(min(MOST, len(evidence.top)))]
        return el("div", cards, class_="cards small")
    return _table(scan, evidence.top[:MOST])


def _card(scan: Scan, evidence: ScanEvidence, index: int) -> Element:
    row = int(evidence.top[index])
    plane = image(evidence.inputs[index])
    if plane is None:
        raise ValueError("not an image")
    drawn = tone(plane, evidence.bounds)
    said = _said(scan, row)
    picture = el(
        "img",
        src=png.data_uri(drawn),
        alt=f"sample {row}, labelled {int(scan.result.label[row])}",
        width=drawn.shape[1],
        height=drawn.shape[0],
    )
    return el(
        "figure",
        el("div", picture, class_="triptych one"),
        el(
            "figcaption",
            el("strong", f"label {int(scan.result.label[row])}"),
            el("small", f"sample {row}"),
            el("small", f"score {number(float(scan.result.score[row]))}"),
            el("small", said) if said else None,
        ),
    )


def _said(scan: Scan, row: int) -> str:
    flagged = bool(scan.result.flagged[row])
    if scan.poison is None:
        return "flagged" if flagged else ""
    if scan.poison[row]:
        return "planted, caught" if flagged else "planted, missed"
    return "clean, false alarm" if flagged else "clean"


def _table(scan: Scan, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Element:
    drawn = []
    for row in rows.tolist():
        score, p = float(scan.result.score[row]), float(scan.result.p_value[row])
        drawn.append(
            el(
                "tr",
                el("th", row, scope="row", data_value=row),
                el("td", _said(scan, row)),
                cell(int(scan.result.label[row]), float(scan.result.label[row]), class_="num"),
                cell(number(score), score, class_="num"),
                cell(number(p), p, class_="num"),
            )
        )
    heads = ["Label", "Score", "p-value"]
    return table("Highest scores", ["Sample", "Outcome"], drawn, numeric=heads)
