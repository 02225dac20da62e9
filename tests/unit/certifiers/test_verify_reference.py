"""Competition properties with known answers: nothing wrong, the quick ones decided."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers.certificate import check_certificate, proves
from aisec_eval.certifiers.vnnlib import read_vnnlib
from helpers.onnx_models import load_proto, run_onnxruntime

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference

# One of each property and answer that takes a fraction of a second.
QUICK = [
    ("1_1", "prop_1", "unsat"),
    ("2_1", "prop_2", "sat"),
    ("2_4", "prop_3", "unsat"),
    ("1_7", "prop_3", "sat"),
    ("1_3", "prop_4", "unsat"),
    ("1_9", "prop_4", "sat"),
    ("2_9", "prop_8", "sat"),
    ("4_5", "prop_10", "unsat"),
]
# The hardest ones of their properties: minutes for most, thousands of boxes.
HARD = [
    ("4_9", "prop_1", "unsat"),
    ("4_2", "prop_2", "unsat"),
    ("5_3", "prop_2", "sat"),
    ("1_1", "prop_6", "unsat"),
    ("1_9", "prop_7", "sat"),
    ("3_3", "prop_9", "unsat"),
]


@pytest.mark.parametrize(("net", "name", "truth"), [*QUICK, *HARD])
def test_acasxu(reference: Path, net: str, name: str, truth: str):
    folder = reference / "vnncomp" / "acasxu"
    onnx, vnnlib = f"ACASXU_run2a_{net}_batch_2000.onnx", f"{name}.vnnlib"
    with (folder / "instances.csv").open() as lines:
        known = {(row["onnx"], row["vnnlib"]): row["truth"] for row in csv.DictReader(lines)}
    assert known.get((onnx, vnnlib), truth) == truth
    result = ae.verify(folder / "onnx" / onnx, folder / "vnnlib" / f"{vnnlib}.gz", timeout=60)
    assert (result.status, result.reason) == (truth, "")
    if result.counterexample is not None:
        x = result.counterexample.input[None]
        outputs = run_onnxruntime(load_proto(folder / "onnx" / onnx), x.astype(np.float32))
        np.testing.assert_allclose(outputs.ravel(), result.counterexample.output, atol=1e-5)
        question = read_vnnlib(folder / "vnnlib" / f"{vnnlib}.gz")
        slack = [
            (clause.rhs_upper - clause.rows @ outputs.ravel()).min()
            for case in question.cases
            for clause in case.clauses
        ]
        assert max(slack) > -1e-5


# Each needs more than CROWN: optimised slopes, splits, or a search for a counterexample.
WIDE = [
    ("mnistfc", "mnist-net_256x2.onnx", "prop_0_0.03", "unsat"),
    ("mnistfc", "mnist-net_256x2.onnx", "prop_13_0.03", "unsat"),
    ("mnistfc", "mnist-net_256x4.onnx", "prop_3_0.05", "sat"),
    ("mnistfc", "mnist-net_256x6.onnx", "prop_6_0.03", "unsat"),
]


@pytest.mark.parametrize(("family", "onnx", "name", "truth"), WIDE)
def test_wide_properties_are_decided(
    reference: Path, family: str, onnx: str, name: str, truth: str
):
    folder = reference / "vnncomp" / family
    with (folder / "instances.csv").open() as lines:
        known = {(row["onnx"], row["vnnlib"]): row["truth"] for row in csv.DictReader(lines)}
    assert known[onnx, f"{name}.vnnlib"] == truth
    result = ae.verify(folder / "onnx" / onnx, folder / "vnnlib" / f"{name}.vnnlib.gz", timeout=60)
    assert (result.status, result.reason) == (truth, "")


# Decided by plain CROWN on tuned intermediate bounds, by optimised slopes, and by splits.
PROVEN = [
    ("eran", "mnist_relu_9_200.onnx", "mnist__mnist_spec_idx_3054_eps_0.01500"),
    ("mnistfc", "mnist-net_256x2.onnx", "prop_0_0.03"),
    ("mnistfc", "mnist-net_256x2.onnx", "prop_13_0.03"),
]


@pytest.mark.parametrize(("family", "onnx", "name"), PROVEN)
def test_certificates_of_wide_properties_hold(
    reference: Path, tmp_path: Path, family: str, onnx: str, name: str
):
    folder, file = reference / "vnncomp" / family, tmp_path / "prop.cert.gz"
    question = read_vnnlib(folder / "vnnlib" / f"{name}.vnnlib.gz")
    result = ae.verify(folder / "onnx" / onnx, question, timeout=60, certificate=file)
    assert result.status == "unsat"
    model = ae.load_model(folder / "onnx" / onnx)
    checked = check_certificate(model.graph, file)
    assert checked.holds, checked.reason
    assert proves(checked, question) == ""


@pytest.mark.parametrize(
    ("family", "inputs", "outputs", "clauses"),
    [("mnistfc", 784, 10, 9), ("eran", 784, 10, 9), ("cifar10_resnet", 3072, 10, 9)],
)
def test_image_properties_are_one_box_and_a_clause_a_class(
    reference: Path, family: str, inputs: int, outputs: int, clauses: int
):
    paths = sorted((reference / "vnncomp" / family / "vnnlib").iterdir())
    for path in paths[:: len(paths) // 4]:
        found = read_vnnlib(path)
        assert (found.inputs, found.outputs, found.unsupported) == (inputs, outputs, "")
        (case,) = found.cases
        assert len(case.clauses) == clauses
        assert (case.lower <= case.inner_lower).all()
        assert (case.inner_lower <= case.inner_upper).all()
        assert (case.inner_upper <= case.upper).all()
        assert all((np.sort(clause.rows)[0] == [-1, *[0] * 8, 1]).all() for clause in case.clauses)


# (boxes, clauses, half-spaces of a clause) as the text says them.
ACASXU = {
    "prop_1": (1, 1, 1),
    "prop_2": (1, 1, 4),
    "prop_5": (1, 4, 1),
    "prop_6": (2, 4, 1),
    "prop_7": (1, 2, 3),
    "prop_8": (1, 3, 2),
}


@pytest.mark.parametrize("name", ACASXU)
def test_acasxu_forms(reference: Path, name: str):
    found = read_vnnlib(reference / "vnncomp" / "acasxu" / "vnnlib" / f"{name}.vnnlib.gz")
    sizes = {(len(case.clauses), len(c.rows)) for case in found.cases for c in case.clauses}
    assert (len(found.cases), *sizes.pop()) == ACASXU[name]
    assert not sizes
    assert found.cases[0].upper[0] - found.cases[0].lower[0] > 0
