"""Plotly figures of scans as plain data: a class along its leading directions, and the ROC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..results import Scan

POINTS = 400
"""Points of a drawn ROC curve."""
FPR = 0.01


def scatter(scan: Scan) -> list[dict[str, Any]]:
    """One trace an outcome: samples of one class along its two leading directions."""
    evidence = scan.evidence
    if evidence is None or len(evidence.row) < 3:
        return []
    traces = []
    for index, mask in enumerate(outcome(scan).values()):
        inside = mask[evidence.row]
        x, y = (evidence.embedding[inside, axis] for axis in range(2))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [float(f"{v:.5g}") for v in x],
                "y": [float(f"{v:.5g}") for v in y],
                "customdata": evidence.row[inside].tolist(),
                "marker": {"color": f"--outcome-{index}", "size": 6, "opacity": 0.75},
                "hovertemplate": "sample %{customdata}<extra></extra>",
            }
        )
    return traces


def scatter_layout() -> dict[str, Any]:
    """Axes of the scatter."""
    return {
        "xaxis": {"title": {"text": "leading direction"}},
        "yaxis": {"title": {"text": "second direction"}},
    }


def roc(scan: Scan) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """False and true positive rates at every distinct score, from (0, 0) to (1, 1).

    None where the truth is not known, or all samples or none are poisoned.
    """
    truth = scan.poison
    if truth is None or truth.all() or not truth.any():
        return None
    score = np.where(np.isnan(scan.result.score), -np.inf, scan.result.score)
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(score[order][1:] != score[order][:-1], True))
    caught = np.cumsum(truth[order])[last]
    alarms = last + 1 - caught
    fpr = np.concatenate([[0.0], alarms / alarms[-1]])
    tpr = np.concatenate([[0.0], caught / caught[-1]])
    return fpr, tpr


def area(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> float:
    """Area under a ROC curve: the chance that a poisoned sample scores above a clean one."""
    return float(np.trapezoid(tpr, fpr))


def caught_at(fpr: NDArray[np.float64], tpr: NDArray[np.float64], rate: float = FPR) -> float:
    """Return the largest true positive rate whose false positive rate is at most `rate`."""
    return float(tpr[fpr <= rate].max())


def roc_traces(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The curve over the diagonal of guessing."""
    # Steps matter most at the left: half of the points are spaced by the true positive rate.
    wanted = np.concatenate(
        [
            np.searchsorted(fpr, np.linspace(0, 1, POINTS // 2)),
            np.searchsorted(tpr, np.linspace(0, 1, POINTS // 2)),
        ]
    )
    kept = np.unique(np.clip(np.append(wanted, [0, len(fpr) - 1]), 0, len(fpr) - 1))
    return [
        {
            "x": [0, 1],
            "y": [0, 1],
            "mode": "lines",
            "hoverinfo": "skip",
            "line": {"color": "--rule", "dash": "dash", "width": 1.5},
        },
        {
            "x": [round(float(v), 5) for v in fpr[kept]],
            "y": [round(float(v), 5) for v in tpr[kept]],
            "mode": "lines",
            "cliponaxis": False,
            "line": {"color": "--outcome-2", "width": 2.5},
            "hovertemplate": "%{y:.1%} caught<br>%{x:.2%} false alarms<extra></extra>",
        },
    ]


def roc_layout() -> dict[str, Any]:
    """Axes of the ROC."""
    return {
        "xaxis": {
            "title": {"text": "clean samples flagged"},
            "range": [-0.02, 1.02],
            "tickformat": ".0%",
        },
        "yaxis": {
            "title": {"text": "poisoned samples caught"},
            "range": [-0.02, 1.02],
            "tickformat": ".0%",
        },
    }
