"""The gallery of adversarial examples: which are shown, and what is said of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..results import BROKEN, VERDICTS
from .html import Element, el, name
from .pictures import triptych
from .words import TIMES, count, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .select import Entry

PER_EVALUATION = 4
MAX_EXAMPLES = 240
MAX_VALUES = 6_000_000
"""Examples, and input values, drawn in all; each evaluation gets at least one example."""


def gallery(found: Sequence[Entry]) -> Element | None:
    """Examples of every evaluation that broke something, by model; None where nothing broke."""
    broken = [entry for entry in found if len(entry.evaluation.x_adv)]
    if not broken:
        return None
    size = max(math.prod(entry.evaluation.x_adv.shape[1:]) for entry in broken)
    fit = min(MAX_EXAMPLES, MAX_VALUES // (3 * max(size, 1))) // len(broken)
    each = max(1, min(PER_EVALUATION, fit))
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in broken:
        groups.setdefault(entry.group, []).append(entry)
    return el(
        "div",
        [
            el(
                "details",
                el("summary", el("h3", name(key[0]))),
                [_threat(entry, each) for entry in members],
                open=True,
            )
            for key, members in groups.items()
        ],
        class_="gallery",
    )


def choose(entry: Entry, each: int) -> list[int]:
    """Pick the most clearly broken samples, of different labels first; indices into `x_adv`."""
    rows = _rows(entry)
    seen: set[int] = set()
    first: list[int] = []
    rest: list[int] = []
    for index in np.lexsort((rows, entry.evaluation.margin[rows])).tolist():
        label = int(entry.evaluation.label[rows[index]])
        (rest if label in seen else first).append(index)
        seen.add(label)
    return (first + rest)[:each]


def _rows(entry: Entry) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.flatnonzero(entry.evaluation.verdict == VERDICTS.index(BROKEN))


def _threat(entry: Entry, each: int) -> Element:
    total = len(entry.evaluation.x_adv)
    return el(
        "section",
        el(
            "h4",
            name(entry.evaluation.threat),
            el("small", f"{min(each, total)} of {count(total)} broken"),
        ),
        el("div", [_card(entry, index) for index in choose(entry, each)], class_="cards"),
    )


def _card(entry: Entry, index: int) -> Element:
    e = entry.evaluation
    row = int(_rows(entry)[index])
    about = f"sample {int(e.sample[row])}"
    pictures, factor = triptych(e.x_clean[index], e.x_adv[index], entry.bounds, about)
    captions = ("clean", "adversarial", f"change {TIMES} {factor:g}")
    facts = {
        "margin": number(float(e.margin[row])),
        "distance": number(float(e.distance[row])),
        "by": name(e.found_by[row]),
    }
    if e.transform:
        facts["transform"] = name(e.transform[row])
    return el(
        "figure",
        el(
            "div",
            [
                el("div", picture, el("small", caption))
                for picture, caption in zip(pictures, captions, strict=True)
            ],
            class_="triptych",
        ),
        el(
            "figcaption",
            el("strong", f"label {int(e.label[row])}"),
            el("small", about),
            el("dl", [el("div", el("dt", key), el("dd", value)) for key, value in facts.items()]),
        ),
    )
