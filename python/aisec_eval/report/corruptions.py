"""The table of corruptions: accuracy by kind and severity, of every model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .html import Element, el, name
from .tables import cell, table
from .words import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cases import Cases
    from .select import Entry


def corruptions(found: Sequence[Entry]) -> Element | None:
    """One row a kind of corruption, one column a severity; None where none were evaluated."""
    drawn = [
        _one(entry, entry.evaluation.cases) for entry in found if entry.evaluation.cases is not None
    ]
    return el("div", drawn) if drawn else None


def _one(entry: Entry, cases: Cases) -> Element:
    frame = cases.table
    levels = [column for column in frame.columns if column not in ("kind", "mean")]
    rows = [
        el(
            "tr",
            el("th", name(row["kind"].replace("_", " ")), scope="row"),
            [_accuracy(row[level]) for level in levels],
            _accuracy(row["mean"], main=True),
        )
        for row in frame.iter_rows(named=True)
    ]
    e = entry.evaluation
    foot = el(
        "tr",
        el("th", "mean of all", scope="row"),
        [_accuracy(value) for value in frame.select(levels).mean().row(0)],
        _accuracy(cases.mean_accuracy, main=True),
    )
    return el(
        "section",
        el("h3", name(e.model), " · ", name(e.threat)),
        table(
            f"Accuracy of {e.model} under each corruption, by severity",
            ["Corruption"],
            rows,
            numeric=[*levels, "mean"],
            foot=foot,
        ),
    )


def _accuracy(value: float | None, *, main: bool = False) -> Element:
    if value is None:
        return cell("", class_="num")
    # Darker is worse: what is shaded is what the corruption costs.
    return cell(
        percent(value),
        value,
        class_=f"num heat{' main' if main else ''}",
        style=f"--v:{1 - value:.4f};",
    )
