"""Plotly figures as plain data: robustness curves and score histograms.

No text from outside enters a figure: Plotly reads some markup in texts, so names stand in the HTML
legend beside it. Colours are names of the style sheet's variables; the page's script puts in the
values of the light or dark scheme.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..bracket import wilson
from .html import Element, el, name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..results import Scan
    from .select import Entry

COLOURS = 6
"""How many series colours the style sheet defines; more series take other markers as well."""
_MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
BINS = 60


def library() -> str:
    """Return the source of plotly.js as the plotly package ships it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def curve(groups: Mapping[tuple[str, ...], Sequence[Entry]]) -> list[dict[str, Any]]:
    """Traces of one norm: attacked accuracy solid, certified dashed, the 95 % interval as a band.

    Every curve starts at radius 0, where the bracket is the clean accuracy.
    """
    traces: list[dict[str, Any]] = []
    for index, members in enumerate(groups.values()):
        colour = f"--series-{index % COLOURS}"
        clean = members[0].evaluation.clean_accuracy
        n = members[0].bracket.total
        ends = [wilson(round(clean * n), n), *(entry.bracket.interval for entry in members)]
        radii = [0.0, *(entry.radius or 0.0 for entry in members)]
        upper = [clean, *(entry.bracket.attacked for entry in members)]
        lower = [clean, *(entry.bracket.certified for entry in members)]
        traces.append(
            {
                "x": radii + radii[::-1],
                "y": [high for _, high in ends] + [low for low, _ in ends[::-1]],
                "fill": "toself",
                "fillcolor": colour,
                "opacity": 0.13,
                "mode": "none",
                "hoverinfo": "skip",
            }
        )
        for kind, values, dash in (("attacked", upper, "solid"), ("certified", lower, "dash")):
            traces.append(
                {
                    "x": radii,
                    "y": values,
                    "mode": "lines+markers",
                    "cliponaxis": False,
                    "line": {"color": colour, "dash": dash, "width": 2.5},
                    "marker": {
                        "color": colour,
                        "size": 8,
                        "symbol": _MARKERS[index // COLOURS % len(_MARKERS)]
                        + ("-open" if kind == "certified" else ""),
                    },
                    "hovertemplate": f"radius %{{x:.4g}}<br>{kind} %{{y:.1%}}<extra></extra>",
                }
            )
    return traces


def curve_legend(groups: Mapping[tuple[str, ...], Sequence[Entry]]) -> Element:
    """Name the curves: one colour a model, and what the line styles mean."""
    several = len({key[2:] for key in groups}) > 1
    return el(
        "ul",
        [
            el(
                "li",
                el("span", class_=f"key series-{index % COLOURS}"),
                name(key[0]),
                [" on ", name(key[2]), " ", name(key[3])] if several else None,
            )
            for index, key in enumerate(groups)
        ],
        el("li", el("span", class_="key solid"), "attacked accuracy: no attack broke it"),
        el("li", el("span", class_="key dashed"), "certified accuracy: proven safe"),
        el("li", el("span", class_="key band"), "95 % interval of the truth"),
        class_="legend",
    )


def curve_layout(norm: str) -> dict[str, Any]:
    """Axes of a robustness curve."""
    return {
        "xaxis": {"title": {"text": f"{NORMS.get(norm, 'radius')} radius"}, "rangemode": "tozero"},
        "yaxis": {"range": [-0.02, 1.02], "tickformat": ".0%"},
    }


def outcome(scan: Scan) -> dict[str, np.ndarray[Any, Any]]:
    """Split a scan's samples into what is drawn apart: by flag, and by truth where it is known."""
    flagged = scan.result.flagged
    if scan.poison is None:
        return {"not flagged": ~flagged, "flagged": flagged}
    return {
        "clean, not flagged": ~flagged & ~scan.poison,
        "clean, flagged (false alarm)": flagged & ~scan.poison,
        "planted, flagged (caught)": flagged & scan.poison,
        "planted, missed": ~flagged & scan.poison,
    }


def histogram(scan: Scan) -> list[dict[str, Any]]:
    """Histograms of the finite scores, one trace an outcome, drawn over each other."""
    score = scan.result.score
    finite = np.isfinite(score)
    if not finite.any():
        return []
    low, high = float(score[finite].min()), float(score[finite].max())
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    centres = ((edges[1:] + edges[:-1]) / 2).tolist()
    traces = []
    for index, (label, mask) in enumerate(outcome(scan).items()):
        counts, _ = np.histogram(score[finite & mask], bins=edges)
        traces.append(
            {
                "type": "bar",
                "x": centres,
                "y": counts.tolist(),
                "width": float(edges[1] - edges[0]),
                "opacity": 0.85,
                "marker": {"color": f"--outcome-{index}", "line": {"width": 0}},
                "hovertemplate": f"score %{{x:.4g}}<br>%{{y}} {label}<extra></extra>",
            }
        )
    return traces


def histogram_layout() -> dict[str, Any]:
    """Axes of a score histogram."""
    return {
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {"title": {"text": "score (comparable within a class)"}},
        "yaxis": {"title": {"text": "samples, log scale"}, "type": "log", "dtick": 1},
    }
