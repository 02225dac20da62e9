"""Certified samples proven once more, so that nobody has to believe what a run says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AisecError
from .certificate import (
    PLAIN_METHODS,
    Ball,
    Case,
    Certificate,
    check_certificate,
    margin_rows,
    region_of,
)
from .property import Case as PropertyCase
from .property import Clause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from ..models.base import Model
    from ..threats import ThreatModel

TOLERANCE = 1e-6
"""How far a claimed margin may be from what is proven, relative to 1 or itself: bounds computed
on another processor differ in their last digits."""
SECONDS = 60.0
"""For a sample whose proof must be found again."""


def prove_again(
    model: Model,
    x: NDArray[np.float32],
    label: NDArray[np.int64],
    threat: ThreatModel,
    margin_lower: NDArray[np.float64],
    method: str,
) -> Iterator[str]:
    """Prove that samples keep their label with the margins claimed; yield why not, "" where so.

    What the plain methods claim the independent checker derives by itself. Slopes that were
    optimised are not kept with a run: they are searched again, and the checker accepts the
    certificate or not, so nothing rests on the search.

    Args:
        model: the model, with a graph.
        x: clean inputs [n, *input_shape].
        label: their labels [n].
        threat: the threat model.
        margin_lower: the bound claimed of each sample's margin [n].
        method: the certifier's name.

    Yields:
        One line a sample.
    """
    graph = model.graph
    for point, own, claimed in zip(x, label, margin_lower, strict=True):
        if graph is None:
            yield "the model has no graph to prove it on"
            continue
        if not (np.isfinite(claimed) and claimed > 0):
            yield f"a margin of {claimed:.6g} proves nothing"
            continue
        # Still above zero, so that at least the label is proven.
        bound = max(float(claimed) - TOLERANCE * (1 + float(claimed)), 0.5 * float(claimed))
        try:
            if method in PLAIN_METHODS:
                bounds = np.full(model.num_classes - 1, bound)
                case: Case | Ball | None = Ball(point, int(own), threat, bounds, method)
            else:
                case = search(graph, point, int(own), threat, bound, model.num_classes)
            if case is None:
                yield f"no proof of a margin of {bound:.6g} was found"
                continue
            found = check_certificate(graph, Certificate({}, graph.digest, (case,)))
        except AisecError as error:
            yield str(error)
            continue
        yield found.reason


def search(
    graph: Graph,
    x: NDArray[np.float32],
    label: int,
    threat: ThreatModel,
    bound: float,
    classes: int,
) -> Case | None:
    """Search for a proof that every margin of a sample exceeds a bound.

    Args:
        graph: the network.
        x: clean input [*input_shape].
        label: its label.
        threat: the threat model.
        bound: at least 0.
        classes: how many there are.

    Returns:
        The case with its proof, None where none was found in `SECONDS`.
    """
    from .complete import decide

    lower, upper, ball = region_of(x, threat)
    rows, rhs = margin_rows(label, classes), np.array([bound])
    clauses = tuple(Clause(row[None], rhs, rhs) for row in rows)
    region: dict[str, Any] = {}
    if ball is not None:
        norm, center, radius = ball
        region = {"center": center.reshape(1, *graph.input_shape), "radius": radius, "norm": norm}
    question = PropertyCase(lower, upper, lower, upper, clauses)
    found = decide(graph, question, timeout=SECONDS, record=True, **region)
    if found.answer != "refuted" or found.proof is None:
        return None
    entries = found.proof.write(graph, lower, upper, clauses=len(rows), compact=True)
    return Case(lower, upper, ball, tuple((row[None], rhs) for row in rows), entries)
