"""Certified samples proven once more, so that nobody has to believe what a run says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import AisecError
from .certificate import PLAIN_METHODS, Ball, Case, Certificate, check_certificate, region_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from ..models.base import Model
    from ..threats import ThreatModel

TOLERANCE = 1e-6
"""How far a claimed margin may be from what is proven, relative to 1 or itself: bounds computed
on another processor differ in their last digits."""
EFFORT = 1e9
"""Scalar operations that a proof may cost beyond CROWN's, where one must be found again."""
MOST_DOMAINS = 64


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
                case = _search(graph, point, int(own), threat, bound, model.num_classes)
            if case is None:
                yield f"no proof of a margin of {bound:.6g} was found"
                continue
            found = check_certificate(graph, Certificate({}, graph.digest, (case,)))
        except AisecError as error:
            yield str(error)
            continue
        yield found.reason


def _search(
    graph: Graph,
    x: NDArray[np.float32],
    label: int,
    threat: ThreatModel,
    bound: float,
    classes: int,
) -> Case | None:
    """Return a case that every margin exceeds `bound`, if its proof is found."""
    from .._core import decide
    from .certificate import margin_rows

    lower, upper, ball = region_of(x, threat)
    rows = margin_rows(label, classes)
    rhs = np.full(len(rows), bound)
    shape = (1, *graph.input_shape)
    norm, center, radius = ball if ball is not None else ("linf", None, 0.0)
    answer, _, _, _, proof = decide(
        graph,
        lower.reshape(shape),
        upper.reshape(shape),
        rows=rows,
        rhs_lower=rhs,
        rhs_upper=rhs,
        sizes=[1] * len(rows),
        center=None if center is None else center.reshape(shape),
        radius=radius,
        norm=norm,
        effort=EFFORT,
        most_domains=MOST_DOMAINS,
        record=True,
    )
    if answer != "refuted" or proof is None:
        return None
    clauses = tuple((row[None], rhs[:1]) for row in rows)
    entries = proof.write(graph, lower, upper, clauses=len(rows), compact=True)
    return Case(lower, upper, ball, clauses, entries)
