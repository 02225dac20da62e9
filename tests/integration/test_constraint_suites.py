"""Patches, frames and tables in suites: planned, run, gated, drawn and checked again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aisec_eval import Feature, OneHot, Tabular
from aisec_eval.errors import SuiteError
from aisec_eval.leaderboard import bundle, check_bundle
from aisec_eval.report import write_report
from aisec_eval.runs import load_run
from aisec_eval.suite import load_suite, run
from aisec_eval.suite.recheck import gate_problems, recheck, suite_inputs
from aisec_eval.threats import Frame, Patch, parse
from helpers.tiny_suite import write_model

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """schema = 1
name = "constraints"
version = "1.0.0"

[[model]]
id = "digits"
path = "digits.onnx"

[[model]]
id = "rows"
path = "rows.onnx"

[[data]]
id = "images"
source = "digits"
ids = [0, 12]

[[data]]
id = "table"
source = "table.npz"

[[threat]]
kind = "patch"
size = [2, [1, 3]]

[[threat]]
kind = "frame"
width = [1]

[[threat]]
id = "income"
kind = "tabular"
metric = "l1"
eps = [0.2, "1/2"]
features = [
    { lower = 0, upper = 9, kind = "integer", change = "up" },
    { onehot = 3, cost = 0.2 },
    { lower = -1, upper = "3/2", scale = 5 },
]

[[task]]
kind = "evaluate"
models = ["digits"]
data = ["images"]
threats = ["patch", "frame"]
attacks = [{ name = "sparse-rs", queries = 150, alpha_init = 0.5 }]

[[task]]
kind = "evaluate"
models = ["rows"]
data = ["table"]
threats = ["income"]
attacks = [{ name = "square", queries = 20 }, { name = "evolution", queries = 100 }]
certify = "none"

[gate]
"attacked_accuracy@patch 4" = "<= 100 %"
"attacked_accuracy@frame 1" = ">= 0"
"errors@income 1/2" = "== 0"
"""


def write_rows(folder: Path) -> None:
    """Write rows of a table and a linear classifier of them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(4)
    x = np.concatenate(
        [
            rng.integers(0, 10, (30, 1)),
            np.eye(3)[rng.integers(0, 3, 30)],
            rng.uniform(-1, 1.5, (30, 1)),
        ],
        axis=1,
    ).astype(np.float32)
    w = np.float32([0.2, 1, -1, 0, 0.5])
    np.savez(folder / "table.npz", x=x, y=(x @ w > 1).astype(np.int64))
    tensors = {"w": np.stack([-w, w], axis=1), "b": np.float32([1, -1])}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["logits"])],
        "rows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, folder / "rows.onnx")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    write_model(folder / "digits.onnx", 64)
    write_rows(folder)
    path = folder / "constraints.toml"
    path.write_text(SUITE)
    return path


def test_tables_of_threats_are_read_exactly(suite: Path) -> None:
    patch, frame, table = load_suite(suite).threat
    assert patch.models((0, 1)) == [Patch(2), Patch(1, 3)]
    assert frame.models((0, 1)) == [Frame(1)]
    features = [
        Feature(0, 9, "integer", "up"),
        OneHot(3, cost="1/5"),
        Feature(-1, 1.5, scale=5),
    ]
    expected = [Tabular(features, eps, metric="l1") for eps in ("1/5", "1/2")]
    assert table.models((0, 1)) == expected
    assert [parse(json.loads(json.dumps(threat.describe()))) for threat in expected] == expected


def test_a_run_is_attacked_gated_and_checked_again(suite: Path, tmp_path: Path) -> None:
    finished = run(suite, workers=1, out=tmp_path / "run")
    assert finished.errors == ()
    again = load_run(finished.path)
    assert [e.threat for e in again.evaluations] == [
        "Patch 2x2",
        "Patch 1x3",
        "Frame 1",
        "Tabular l1 0.2",
        "Tabular l1 0.5",
    ]
    assert all(gate["passed"] for gate in again.manifest["gates"])
    assert len(again.manifest["gates"]) == 3
    assert gate_problems(again, suite) == []
    broken = 0
    for checked in recheck(again, *suite_inputs(suite)):
        assert checked.problems == ()
        assert checked.confirmed == checked.broken
        broken += checked.broken
    assert broken > 10
    page = write_report(again, tmp_path / "report.html").read_text()
    assert "Patch 2x2" in page
    assert "Tabular l1 0.5" in page

    packed = bundle(finished.path, suite, tmp_path / "run.zip")
    data = {"table": suite.parent / "table.npz"}
    checked_bundle = check_bundle(packed, data=data)
    assert checked_bundle.failures == ()
    assert checked_bundle.level == "L2+"
    assert checked_bundle.lock is not None
    locked = [cell.threat for cell in checked_bundle.lock.cells]
    assert [str(threat.ball()) for threat in locked if threat] == [
        e.threat for e in again.evaluations
    ]

    # Evidence that leaves the threat model is refused, whatever else is right about it.
    patched = again.evaluations[0]
    patched.info["threat"]["width"] = 1
    (checked, *_) = recheck(again, *suite_inputs(suite))
    assert any("more than a patch of 2x1" in line for line in checked.problems)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size = [2, [1, 3]]", "size = [0]", "threat[0].size[0]"),
        ("size = [2, [1, 3]]", "size = [[1, 2, 3]]", "threat[0].size[0]"),
        ("size = [2, [1, 3]]", "sizes = [2]", 'did you mean "size"'),
        ("width = [1]", "width = 1", "threat[1].width"),
        ("onehot = 3, cost", "onehot = 3, price", "there are onehot, change, cost"),
        ("upper = 9, kind", "upper = 9, type", "unknown key"),
        ('kind = "integer"', 'kind = "ordinal"', "threat[2].features[0].kind"),
        ('metric = "l1"', 'metric = "l3"', "threat[2].metric"),
        ('kind = "frame"', 'kind = "fram"', "is not known"),
        ('"income"]', '"incom"]', 'did you mean "income"'),
        ("frame 1", "frame 7", "unknown scope"),
    ],
)
def test_refusals_name_the_line(suite: Path, old: str, new: str, message: str) -> None:
    assert SUITE.count(old) >= 1
    path = suite.parent / "broken.toml"
    path.write_text(SUITE.replace(old, new, 1))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
