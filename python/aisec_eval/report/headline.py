"""The answer in words: how often an attacker wins, for each model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..results import BROKEN, CERTIFIED, ERROR, MISCLASSIFIED, OPEN, VERDICTS
from .html import Element, el, name
from .select import headline
from .tables import bar, legend
from .words import UNIT, between, percent, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .select import Entry


MOST = 6
"""Models that get a card; the table has all."""


def section(found: Sequence[Entry]) -> Element:
    """The question, one answer a model, and the key to the bars."""
    chosen = headline(found)
    threats = list(dict.fromkeys(entry.evaluation.threat for entry in chosen))
    return el(
        "section",
        el(
            "p",
            "How often can an attacker win",
            [" under ", el("strong", name(threats[0]))] if len(threats) == 1 else None,
            "?",
            class_="question",
        ),
        el("div", [_card(entry, len(threats) > 1) for entry in chosen[:MOST]], class_="answers"),
        el("p", f"{plural(len(chosen) - MOST, 'more model')} in the table below.")
        if len(chosen) > MOST
        else None,
        legend(),
        id="answer",
    )


def _card(entry: Entry, with_threat: bool) -> Element:
    e, bracket = entry.evaluation, entry.bracket
    return el(
        "article",
        el("h2", name(e.model), [" · ", name(e.threat)] if with_threat else None),
        el("p", between(1 - bracket.attacked, 1 - bracket.certified), class_="figure"),
        el("p", "of samples are lost to the attacker", class_="unit"),
        bar(e),
        el("p", _evidence(entry)),
        el("p", _robust(entry), class_="quiet"),
        class_="card",
    )


def _robust(entry: Entry) -> str:
    bracket = entry.bracket
    if bracket.open == 0:
        here = f"is exactly {percent(bracket.attacked)}"
    else:
        here = f"lies between {percent(bracket.certified)} and {percent(bracket.attacked)}"
    return (
        f"Robust accuracy on these samples {here}; on others like them, with 95{UNIT} confidence, "
        f"within {between(*bracket.interval)}."
    )


def _evidence(entry: Entry) -> str:
    e = entry.evaluation
    counted = np.bincount(e.verdict, minlength=len(VERDICTS))
    n = {verdict: int(counted[VERDICTS.index(verdict)]) for verdict in VERDICTS}
    said = [
        f"{n[MISCLASSIFIED]} misclassified as they are",
        f"{n[BROKEN]} broken by an adversarial example",
        f"{n[CERTIFIED]} certified safe",
        f"{n[OPEN]} open",
    ]
    if n[ERROR]:
        said.append(f"{n[ERROR]} not evaluated")
    return f"Of {plural(len(e.verdict), 'sample')}: {', '.join(said)}."
