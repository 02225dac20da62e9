"""Products of many axes, joined softmaxes and rarer activations, each against onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aisec_eval.errors import AisecError, UnsupportedOperationError
from aisec_eval.models import load_network
from helpers.onnx_models import OnnxBuilder, run_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def agree(folder: Path, b: OnnxBuilder, output: str, rank: int) -> Any:
    """Compare float64 outputs and intervals of the graph with onnxruntime."""
    path = b.save(folder / "net.onnx", output, tuple(f"d{i}" for i in range(rank)))
    graph = load_network(path, None).graph
    x = (2 * b.rng.standard_normal((4, *graph.input_shape))).astype(np.float32)
    full = [d.dim_value for d in b.input.type.tensor_type.shape.dim]
    data = path.read_bytes()
    expected = np.stack([run_onnxruntime(data, one.reshape(full)).ravel() for one in x])
    wide = x.astype(np.float64)
    low, high = (side.reshape(4, -1) for side in graph.interval(wide, wide))
    tolerance = 2e-5 * np.abs(expected).max()
    assert (low <= expected + tolerance).all()
    assert (expected - tolerance <= high).all()
    assert (high - low <= 1e-8 * np.abs(expected).max()).all()
    return graph


@pytest.mark.parametrize(
    "equation",
    [
        *("nij,jk->nik", "nij,kj->nki", "nij,j->ni", "nij,ij->nj", "nij,jk->n", "nij,ni->nj"),
        *("nij,kl->nijkl", "nij,k->nk", "nij,jk"),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_einstein_sums_with_a_constant(tmp_path: Path, equation: str, swap: bool) -> None:
    b = OnnxBuilder((1, 3, 4), opset=12)
    left, _, output = equation.partition("->")
    first, second = left.split(",")
    sizes = {"n": 1, "i": 3, "j": 4, "k": 2, "l": 2}
    weight = b.weights(*(sizes[c] for c in second))
    if swap:
        left, terms = f"{second},{first}", (weight, "input")
    else:
        terms = ("input", weight)
    text = f"{left}->{output}" if output else left
    rank = len(output) or sum(left.count(c) == 1 for c in set(left) - {","})
    agree(tmp_path, b, b.op("Einsum", *terms, equation=text), rank)


@pytest.mark.parametrize("equation", ["bhid,bhjd->bhij", "bhid,bhjd->bij", "bhid,bhid->bh"])
def test_einstein_sums_of_values(tmp_path: Path, equation: str) -> None:
    b = OnnxBuilder((1, 2, 3, 4), opset=13)
    other = b.op("Relu", b.op("Mul", "input", b.weights(1, 2, 3, 4)))
    y = b.op("Einsum", "input", other, equation=equation)
    agree(tmp_path, b, y, len(equation.split("->")[1]))


@pytest.mark.parametrize("equation", ["nij->nji", "nij->ni", "nij->", "n i j -> i n"])
def test_einstein_sums_of_one_term(tmp_path: Path, equation: str) -> None:
    b = OnnxBuilder((1, 3, 4), opset=12)
    y = b.op("Relu", b.op("Einsum", "input", equation=equation))
    agree(tmp_path, b, y, len(equation.replace(" ", "").split("->")[1]))


@pytest.mark.parametrize("equation", ["nii->n", "n...->n", "nij,jk,kl->nil", "nij,jk->nq"])
def test_other_einstein_sums_are_refused(tmp_path: Path, equation: str) -> None:
    b = OnnxBuilder((1, 3, 3), opset=12)
    terms = ["input", *(b.weights(3, 3) for _ in range(equation.count(",")))]
    path = b.save(tmp_path / "net.onnx", b.op("Einsum", *terms, equation=equation), ("a",))
    kind = AisecError if "q" in equation else UnsupportedOperationError
    with pytest.raises(kind, match="Einsum"):
        load_network(path, None)


@pytest.mark.parametrize("stack", [(3,), (1, 3), (2, 1), (2, 3)])
def test_stacks_of_constant_matrices(tmp_path: Path, stack: tuple[int, ...]) -> None:
    shape = (1, 2, 4) if stack == (3,) else (1, 3, 2, 4)
    b = OnnxBuilder(shape)
    y = b.op("MatMul", "input", b.weights(*stack, 4, 5))
    if stack[0] == 2:
        agree(tmp_path, b, b.op("ReduceMean", y, axes=[0], keepdims=0), 3)
    else:
        agree(tmp_path, b, y, len(shape))


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_softmax_before_opset_13_joins_axes(tmp_path: Path, kind: str, axis: int) -> None:
    b = OnnxBuilder((1, 2, 3), opset=11)
    y = b.op(kind, b.op("Mul", "input", b.constant(0.5, np.float32)), axis=axis)
    agree(tmp_path, b, y, 3)


@pytest.mark.parametrize(
    ("kind", "attrs"), [("Celu", {"alpha": 0.7}), ("Softsign", {}), ("Mish", {})]
)
def test_rarer_activations(tmp_path: Path, kind: str, attrs: dict[str, Any]) -> None:
    b = OnnxBuilder((1, 6), opset=18)
    y = b.op("MatMul", b.op(kind, "input", **attrs), b.weights(6, 2))
    graph = agree(tmp_path, b, y, 2)
    # Bounds over a box hold.
    box = np.full((1, 6), 0.7)
    low, high = graph.interval(-box, box)
    values = graph.forward64(b.rng.uniform(-0.7, 0.7, (500, 6)))
    assert (low <= values).all()
    assert (values <= high).all()


HOSTILE: dict[str, tuple[Callable[[OnnxBuilder], str], str]] = {
    "nothing": (lambda b: b.op("Einsum", "input", equation=""), "does not have the axes"),
    "long": (lambda b: b.op("Einsum", "input", equation="a" * 9000 + "->"), "is not supported"),
    "escape": (lambda b: b.op("Einsum", "input", equation="n\x1b[2Jnn->n"), "is not supported"),
    "terms": (lambda b: b.op("Einsum", "input", equation="nij,nij"), "1 terms do not fit"),
    "sizes": (lambda b: b.op("Einsum", "input", b.weights(5), equation="nij,j"), "more than one"),
    "huge": (
        lambda b: b.op("Einsum", "input", b.weights(3000, 3000), equation="nij,kl->nijkl"),
        "left of what a network of this size may use",
    ),
    "stack": (lambda b: b.op("MatMul", "input", b.weights(300, 1, 4, 5)), "stack of 300 matrices"),
    "axis": (lambda b: b.op("Softmax", "input", axis=7), "axis 7 does not fit"),
    "flat": (lambda b: b.op("Celu", "input", alpha=0.0), "holds zero"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_products_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    build, part = HOSTILE[name]
    b = OnnxBuilder((1, 3, 4), opset=13)
    path = b.save(tmp_path / "net.onnx", build(b), ("a",))
    with pytest.raises(AisecError, match=part) as caught:
        load_network(path, None)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
