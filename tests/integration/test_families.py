"""Networks in the styles of competition families: loaded, decided, proven, on the command line.

Two sources of truth: ONNX Runtime, which replays every `sat`, and points sampled from the box,
which no `unsat` may contradict.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

import aisec_eval as ae
from aisec_eval import cli
from aisec_eval.models import load_network
from helpers.families import FAMILIES, Family

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

UNDECIDED = {"traffic_signs"}
"""Networks of signs, whose bounds over a box stay loose: no wrong answer is asked of them."""
SAMPLES = 200


class Instance:
    """A network on disk, a box of its inputs and what ONNX Runtime computes there."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.family = family
        net, output, shape = family.build(1)
        self.path = net.save(folder / f"{family.name}.onnx", output, shape)
        self.lower, self.upper = family.box(1)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._dtype = net.dtype
        self._session = onnxruntime.InferenceSession(
            self.path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        rng = np.random.Generator(np.random.Philox(key=7))
        span = self.upper - self.lower
        draws = rng.random((SAMPLES, len(span)))
        draws[: SAMPLES // 2] = np.round(draws[: SAMPLES // 2])
        self.points = self.lower + span * draws
        self.outputs = np.stack([self.run(x) for x in self.points])
        # A direction of the outputs, of one term or two.
        self.rows = np.zeros(family.outputs)
        self.rows[0] = 1.0
        self.rows[family.outputs // 2 :][:1] -= 1.0 if family.outputs > 1 else 0.0
        self.values = self.outputs @ self.rows
        self.spread = float(np.ptp(self.values))
        assert self.spread > 0

    def run(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ONNX Runtime's outputs for one flat input."""
        shaped = x.reshape(self.family.sample).astype(self._dtype)
        return np.asarray(self._session.run(None, {"input": shaped})[0], np.float64).ravel()

    def property(self, threshold: float) -> str:
        """Return VNNLIB text: can the direction be at least the threshold?"""
        inputs, outputs = len(self.lower), self.family.outputs
        lines = [f"(declare-const X_{i} Real)" for i in range(inputs)]
        lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
        for i in range(inputs):
            lines.append(f"(assert (<= X_{i} {self.upper[i]:.8f}))")
            lines.append(f"(assert (>= X_{i} {self.lower[i]:.8f}))")
        term = f"(- Y_0 Y_{outputs // 2})" if outputs > 1 else "Y_0"
        lines.append(f"(assert (or (and (>= {term} {threshold:.9f})) (and (<= Y_0 -1e6))))")
        return "\n".join(lines)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("families")
    return cache(lambda family: Instance(family, folder))


each = pytest.mark.parametrize("family", FAMILIES, ids=[f.name for f in FAMILIES])


@each
def test_the_graph_is_the_network(family, instance):
    found = instance(family)
    graph = load_network(found.path, None).graph
    assert graph is not None
    points = found.points.astype(np.float32).astype(np.float64)
    outputs = graph.forward64(points.reshape(-1, *graph.input_shape)).reshape(SAMPLES, -1)
    assert outputs.shape[1] == family.outputs
    tolerance = 2e-5 * np.abs(found.outputs).max()
    # At a jump a rounding error decides on which side a point lies.
    off = (np.abs(outputs - found.outputs) > tolerance).any(axis=1)
    assert off.mean() <= (0.05 if family.name in UNDECIDED else 0.0)
    low, high = graph.interval(
        found.lower.reshape(1, *graph.input_shape), found.upper.reshape(1, *graph.input_shape)
    )
    assert (low.ravel() <= outputs.min(axis=0) + tolerance).all()
    assert (high.ravel() >= outputs.max(axis=0) - tolerance).all()


@each
def test_what_a_sample_shows_is_found_and_replayed(family, instance, tmp_path):
    found = instance(family)
    path = tmp_path / "p.vnnlib"
    threshold = found.values.max() - 0.05 * found.spread - 1e-7
    path.write_text(found.property(threshold))
    result = ae.verify(found.path, path, timeout=20)
    assert result.status == "sat"
    assert result.info["replay"].startswith("reproduced by onnxruntime")
    x = result.counterexample.input.ravel()
    assert (x >= found.lower - 1e-8).all()
    assert (x <= found.upper + 1e-8).all()
    assert found.run(x) @ found.rows >= threshold - 1e-4


@each
def test_what_bounds_exclude_is_proven_and_checked(family, instance, tmp_path):
    found = instance(family)
    model = load_network(found.path, None)
    shape = model.graph.input_shape
    low, high = model.graph.interval(found.lower.reshape(1, *shape), found.upper.reshape(1, *shape))
    sign = np.where(found.rows > 0, high.ravel(), low.ravel())
    # Between what was seen and what intervals say: more than they can prove.
    gap = float(sign @ found.rows) - found.values.max()
    threshold = found.values.max() + (0.8 * gap if family.name not in UNDECIDED else gap + 0.1)
    path, certificate = tmp_path / "p.vnnlib", tmp_path / "p.cert.gz"
    path.write_text(found.property(threshold))
    arguments = ["verify", str(found.path), str(path), "--timeout", "20"]
    answer = CliRunner().invoke(cli.app, [*arguments, "--certificate", str(certificate)])
    assert (answer.exit_code, answer.output) == (0, "unsat\n")
    arguments = ["check", str(found.path), str(certificate), "--property", str(path)]
    checked = CliRunner().invoke(cli.app, arguments)
    assert (checked.exit_code, "the certificate holds" in checked.output) == (0, True)
