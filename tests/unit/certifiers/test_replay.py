"""A counterexample counts where real arithmetic and ONNX Runtime's float32 agree on it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers.property import Case, Clause, Property
from aisec_eval.certifiers.replay import Replay, replay
from helpers.onnx_models import OnnxBuilder, run_onnxruntime

if TYPE_CHECKING:
    from pathlib import Path


def half_spaces(*conditions: tuple[list[float], float]) -> Clause:
    rows = np.array([row for row, _ in conditions], dtype=np.float64)
    rhs = np.array([value for _, value in conditions], dtype=np.float64)
    return Clause(rows, rhs, rhs)


def box(inputs: int, *clauses: Clause) -> Case:
    low, high = np.full(inputs, -1.0), np.full(inputs, 1.0)
    return Case(low, high, low, high, clauses)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    b = OnnxBuilder(("n", 3))
    x = b.op("Relu", b.op("MatMul", "input", b.weights(3, 8)))
    return b.save(tmp_path / "net.onnx", b.op("MatMul", x, b.weights(8, 2)))


@pytest.fixture
def cancelling(tmp_path: Path) -> Path:
    """|1e8 x + 1| - |1e8 x|: 1 in real arithmetic, 0 in float32, wherever 1e8 x is large."""
    b = OnnxBuilder(("n", 1))
    x = b.op("MatMul", "input", b.constant([[1e8, 1e8]], np.float32))
    x = b.op("Relu", b.op("Add", x, b.constant([1, 0], np.float32)))
    return b.save(tmp_path / "gap.onnx", b.op("MatMul", x, b.constant([[1], [-1]], np.float32)))


def test_sat_is_reproduced_by_onnxruntime(network):
    case = box(3, half_spaces(([1, -1], 0.0)))
    result = ae.verify(network, Property(3, 2, (case,)))
    assert result.status == "sat"
    assert result.info["replay"].startswith("reproduced by onnxruntime ")
    found = result.counterexample
    output = run_onnxruntime(network.read_bytes(), found.input[None].astype(np.float32))[0]
    assert output[0] - output[1] <= 1e-4
    np.testing.assert_allclose(output, found.output, atol=1e-4)


def test_what_float32_does_not_reproduce_is_unknown(cancelling):
    # 0.5 <= y <= 1.5 for x in [0.5, 1]: true of every x, but ONNX Runtime computes 0.
    low, high = np.array([0.5]), np.array([1.0])
    case = Case(low, high, low, high, (half_spaces(([-1.0], -0.5), ([1.0], 1.5)),))
    model = ae.load_model(cancelling, bounds=(0, 1e-9), samples=np.zeros((1, 1), np.float32))
    assert replay(model.graph, case, np.array([[0.75]])) is not None
    result = ae.verify(model, Property(1, 1, (case,)), timeout=1.0)
    assert (result.status, result.counterexample) == ("unknown", None)
    assert "counterexample not reproduced by onnxruntime" in result.reason
    assert "its outputs differ by 1" in result.reason


def test_tolerances_are_those_of_the_competition(network):
    model = ae.load_model(network)
    x = np.array([[0.5, -0.5, 0.25]])
    value = model.graph.forward64(x)[0]
    case = box(3, half_spaces(([1, 0], float(value[0]) + 1e-9)))
    largest = np.abs(value).max()

    def judged(offset: float) -> tuple[bool, str]:
        class Runtime:
            version = "a runtime"

            def __call__(self, _: np.ndarray) -> np.ndarray:
                return value + np.array([offset, 0.0])

        class Model:
            def runtime(self) -> Runtime:
                return Runtime()

        judge = Replay(model.graph, Model())
        return judge(case, x) is not None, judge.note

    assert judged(0.9e-4) == (True, "reproduced by a runtime")
    assert judged(-0.9e-3 * largest)[0]
    assert judged(-1.1e-3 * largest) == (
        False,
        f"not reproduced by a runtime: its outputs differ by {1.1e-3 * largest:.2g}",
    )
    assert largest > 0.2
    assert judged(2e-4) == (False, "not reproduced by a runtime: its outputs meet no clause")
    assert not judged(np.nan)[0]


def test_where_onnxruntime_cannot_be_asked_the_result_says_why(network, monkeypatch):
    case = box(3, half_spaces(([1, -1], 0.0)))
    model = ae.load_model(network)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        result = ae.verify(model, Property(3, 2, (case,)))
    assert result.status == "sat"
    assert result.info["replay"] == "not replayed: onnxruntime is not installed"
    network.write_bytes(network.read_bytes() + b"\x00")
    result = ae.verify(model, Property(3, 2, (case,)))
    assert result.info["replay"] == (
        "not replayed: net.onnx: the file has changed since it was loaded"
    )
