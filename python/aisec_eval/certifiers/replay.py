"""The replay that decides whether a counterexample counts: exact arithmetic, and ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import AisecError
from ..results import Counterexample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from ..models import Model
    from ..models.onnx_runtime import Runtime
    from .property import Case, Clause

OUTPUTS_AGREE = 1e-3
"""Largest difference of an output from float64's, relative to the largest output (VNN-COMP)."""
CONDITIONS_HOLD = 1e-4
"""How far past a condition the float32 outputs may be (VNN-COMP)."""


def replay(graph: Graph, case: Case, x: NDArray[np.float64]) -> Counterexample | None:
    """Return the first of the points that is a counterexample beyond doubt.

    The point lies exactly in the box, and interval arithmetic in float64, rounded outward, puts
    the outputs of the graph in real arithmetic inside a clause. An input that the box holds between
    two neighbours in float64, as a decimal is that fixes it, stands for all real numbers between
    those.

    Args:
        graph: the network.
        case: box and clauses.
        x: candidates, float64 [n, inputs].
    """
    return Replay(graph)(case, x)


class Replay:
    """Judges candidates of one network; those that ONNX Runtime contradicts do not count.

    In ONNX Runtime a point is rounded to float32. It reproduces a counterexample where its outputs
    are those of the graph and meet a clause, both within the tolerance of VNN-COMP's rules.
    """

    def __init__(self, graph: Graph, model: Model | None = None) -> None:
        """Judge by the graph, and with a model by ONNX Runtime too, where that can be had."""
        self._graph = graph
        self._model = model
        self._runtime: Runtime | None = None
        self.note = ""
        """What ONNX Runtime said of the last candidate, or why it was not asked."""
        self.contradicted = ""
        """What ONNX Runtime said of the last candidate it contradicted; empty without one."""

    def __call__(self, case: Case, x: NDArray[np.float64]) -> Counterexample | None:
        """Return the first of the points [n, inputs] that counts."""
        between = case.inner_lower > case.inner_upper
        least = np.where(between, case.lower, case.inner_lower)
        most = np.where(between, case.upper, case.inner_upper)
        for point in x[((x >= least) & (x <= most)).all(axis=1)]:
            ends = (np.where(between, case.lower, point), np.where(between, case.upper, point))
            below, above = (end.reshape(1, *self._graph.input_shape) for end in ends)
            low, high = (side.reshape(-1) for side in self._graph.interval(below, above))
            if not any(_meets(clause, low, high) for clause in case.clauses):
                continue
            at = np.ascontiguousarray(point.reshape(1, *self._graph.input_shape))
            found = Counterexample(at[0], self._graph.forward64(at).reshape(-1))
            if self._model is None or self._reproduced(self._model, case, found):
                return found
        return None

    def _reproduced(self, model: Model, case: Case, found: Counterexample) -> bool:
        try:
            if self._runtime is None:
                self._runtime = model.runtime()
            output = self._runtime(found.input)
        except AisecError as error:
            self.note = f"not replayed: {error}"
            return True
        gap = np.abs(output - found.output).max(initial=0.0)
        agree = gap <= OUTPUTS_AGREE * max(np.abs(found.output).max(initial=0.0), OUTPUTS_AGREE)
        # A comparison with NaN is false.
        meets = any(
            (clause.rows @ output <= clause.rhs_upper + CONDITIONS_HOLD).all()
            for clause in case.clauses
        )
        if agree and meets:
            self.note = f"reproduced by {self._runtime.version}"
            return True
        what = f"its outputs differ by {gap:.2g}" if not agree else "its outputs meet no clause"
        self.note = self.contradicted = f"not reproduced by {self._runtime.version}: {what}"
        return False


def _meets(clause: Clause, low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
    """Say whether all outputs between `low` and `high` meet the clause."""
    terms = clause.rows * np.where(clause.rows > 0, high, low)
    exact = (clause.rows == 0) | (np.abs(clause.rows) == 1)
    terms = np.where(exact, terms, np.nextafter(terms, np.inf))
    sums = np.zeros(len(terms))
    for column in terms.T:
        total = sums + column
        moved = (column != 0) & (sums != 0)
        sums = np.where(moved, np.nextafter(total, np.inf), total)
    # A comparison with NaN is false, and infinite outputs meet nothing.
    return bool(np.isfinite(sums).all() and (sums <= clause.rhs_lower).all())
