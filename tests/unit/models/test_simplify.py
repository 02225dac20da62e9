"""Graph folding: fewer nodes, the same function."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aisec_eval.models.lowering import onnx, onnx_lower
from aisec_eval.models.lowering.builder import Value
from aisec_eval.models.lowering.emit import Emitter
from aisec_eval.models.lowering.simplify import simplify
from helpers.onnx_models import OnnxBuilder, run_onnxruntime

if TYPE_CHECKING:
    from aisec_eval.models.lowering.ir import GraphSpec

RNG = np.random.default_rng(0)


def check(emitter: Emitter, output: Value, expected: list[str]) -> GraphSpec:
    """Simplify, compare with the original in float64, and compare the operators."""
    spec = emitter.finish(output)
    folded = simplify(spec)
    x = RNG.standard_normal((3, *spec.input_shape))
    before, after = (s.to_core().forward64(x) for s in (spec, folded))
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)
    assert [node.op for node in folded.nodes] == expected
    return folded


def image(*shape: int) -> tuple[Emitter, Value]:
    return Emitter(shape, "input"), Value(0, (1, *shape))


def conv(e: Emitter, x: Value, outputs: int, padding: int = 0, groups: int = 1) -> Value:
    weight = RNG.standard_normal((outputs, x.shape[1] // groups, 3, 3))
    return e.conv(
        x,
        weight,
        RNG.standard_normal(outputs),
        stride=(1, 1),
        padding=[padding] * 4,
        dilation=(1, 1),
        groups=groups,
    )


def test_constants_after_a_convolution() -> None:
    e, x = image(2, 5, 5)
    y = conv(e, x, 3)
    y = e.with_constant("mul_const", y, RNG.standard_normal((3, 1, 1)))
    y = e.with_constant("add_const", y, RNG.standard_normal((1, 3, 1, 1)))
    y = e.with_constant("div_const", y, 2.0)
    check(e, y, ["input", "conv2d"])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_constants_before_a_grouped_convolution(groups: int) -> None:
    e, x = image(4, 5, 5)
    y = e.with_constant("div_const", x, 1 + RNG.random((4, 1, 1)))
    y = e.with_constant("add_const", y, RNG.standard_normal((4, 1, 1)))
    check(e, conv(e, y, 8, groups=groups), ["input", "conv2d"])


def test_a_shift_before_padding_stays() -> None:
    e, x = image(2, 5, 5)
    y = conv(e, e.with_constant("add_const", x, 0.5), 3, padding=1)
    check(e, y, ["input", "add_const", "conv2d"])


def test_a_value_used_twice_is_not_folded_away() -> None:
    e, x = image(2, 5, 5)
    y = conv(e, x, 3)
    z = e.with_constant("mul_const", y, 3.0)
    check(e, e.pair("add", y, z), ["input", "conv2d", "mul_const", "add"])


def test_constants_that_vary_in_space_are_not_folded() -> None:
    e, x = image(2, 5, 5)
    y = e.with_constant("add_const", conv(e, x, 3), RNG.standard_normal((3, 3)))
    check(e, y, ["input", "conv2d", "add_const"])


def test_affine_takes_constants_on_both_sides() -> None:
    e, x = image(4)
    y = e.with_constant("add_const", e.with_constant("mul_const", x, 3.0), RNG.random(4))
    y = e.affine(y, RNG.standard_normal((3, 4)), np.zeros(3))
    y = e.with_constant("add_const", e.with_constant("div_const", y, RNG.random(3) + 1), 1.0)
    check(e, y, ["input", "affine"])


def test_affine_on_rows_keeps_constants_that_vary_by_row() -> None:
    e, x = image(2, 4)
    y = e.with_constant("add_const", x, RNG.random((2, 1)))
    y = e.affine(y, RNG.standard_normal((3, 4)), np.zeros(3))
    check(e, y, ["input", "add_const", "affine"])


def test_neutral_constants_vanish() -> None:
    e, x = image(4)
    y = e.with_constant("mul_const", e.with_constant("add_const", x, 0.0), np.ones(4))
    y = e.with_constant("div_const", e.with_constant("mul_const", y, 4.0), 4.0)
    check(e, e.unary("relu", y), ["input", "relu"])


def test_transposes_meet_and_cancel() -> None:
    e, x = image(2, 5, 6)
    y = e.transpose(conv(e, x, 3), (0, 2, 3, 1))
    y = e.unary("relu", e.with_constant("add_const", y, RNG.standard_normal(3)))
    z = e.unary("tanh", e.with_constant("mul_const", y, RNG.standard_normal(3)))
    y = e.concat([e.pair("sub", y, z), z], 3)
    y = e.pad(y, [0, 1, 0, 0], [0, 0, 2, 1], 0.5)
    y = e.transpose(y, (0, 3, 1, 2))
    check(e, y, ["input", "conv2d", "relu", "mul_const", "tanh", "sub", "concat", "pad"])


def test_transposes_pass_axes_of_size_one() -> None:
    e, x = image(3, 4, 5)
    y = e.transpose(x, (0, 2, 3, 1))
    y = e.reshape(y, (1, 1, 4, 5, 3))
    y = e.transpose(y, (0, 1, 4, 2, 3))
    y = e.unary("relu", e.reshape(y, (1, 3, 4, 5)))
    check(e, y, ["input", "relu"])


def test_transpose_before_flattening_goes_into_the_weight() -> None:
    e, x = image(3, 4, 5)
    y = e.reshape(e.transpose(x, (0, 3, 1, 2)), (1, 60))
    y = e.affine(y, RNG.standard_normal((7, 60)), RNG.standard_normal(7))
    check(e, y, ["input", "reshape", "affine"])


def test_padding_joins_convolution_and_pooling() -> None:
    e, x = image(2, 5, 5)
    y = conv(e, e.pad(x, [0, 0, 1, 0], [0, 0, 2, 1], 0.0), 3)
    y = e.pad(y, [0, 0, 1, 1], [0, 0, 0, 1], 0.0)
    check(e, e.pool("avg_pool2d", y, (2, 2)), ["input", "conv2d", "avg_pool2d"])


def test_padding_that_is_not_zero_stays() -> None:
    e, x = image(2, 5, 5)
    check(e, conv(e, e.pad(x, [0, 0, 1, 1], [0, 0, 1, 1], 0.5), 3), ["input", "pad", "conv2d"])


def test_what_the_output_does_not_need_is_dropped() -> None:
    e, x = image(4)
    e.unary("tanh", x)
    check(e, e.unary("relu", x), ["input", "relu"])


@pytest.mark.parametrize("seed", range(40))
def test_random_chains_keep_their_function(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(d) for d in rng.integers(1, 4, 3))
    e, x = image(*shape)
    values = [x]
    for _ in range(12):
        v = values[int(rng.integers(len(values)))]
        step: Any = rng.integers(7)
        if step == 0:
            v = e.transpose(v, (0, *(rng.permutation(3) + 1).tolist()))
        elif step == 1:
            v = e.unary(str(rng.choice(["relu", "tanh", "sigmoid"])), v)
        elif step == 2:
            axes = [d if rng.random() < 0.5 else 1 for d in v.shape[1:]]
            op = str(rng.choice(["add_const", "mul_const", "div_const"]))
            v = e.with_constant(op, v, 0.5 + rng.random(axes))
        elif step == 3:
            v = e.reshape(e.reshape(v, (v.size,)), v.shape)
        elif step == 4 and v.shape[1] < 8:
            v = e.concat([v, e.unary("relu", v)], 1)
        elif step == 5:
            weight = rng.standard_normal((2, v.shape[-1]))
            v = e.affine(v, weight, rng.standard_normal(2))
        elif step == 6:
            same = [w for w in values if w.shape == v.shape]
            v = e.pair("add", v, same[int(rng.integers(len(same)))])
        values.append(v)
    spec = e.finish(values[-1])
    folded = simplify(spec)
    x64 = rng.standard_normal((2, *shape))
    np.testing.assert_allclose(
        folded.to_core().forward64(x64), spec.to_core().forward64(x64), rtol=1e-11, atol=1e-11
    )
    assert len(folded.nodes) <= len(spec.nodes)


def binary_signs(weight: list[list[float]], shift: float = 0.1) -> OnnxBuilder:
    """Signs of sums of signs, both 1 at zero as larq writes them."""
    b = OnnxBuilder((1, 3), 9)

    def sign(x: str) -> str:
        return b.op("Sign", b.op("Add", b.op("Sign", x), b.constant(shift, np.float32)))

    b.output = sign(b.op("MatMul", sign("input"), b.constant(weight, np.float32)))
    return b


@pytest.mark.parametrize(
    ("weight", "shift", "signs"),
    [
        ([[1, -1], [1, 1], [-1, 2]], 0.1, 3),
        ([[1, -1], [1, 1], [-1, 2.5]], 0.1, 4),
        ([[1, -1], [1, 1], [-1, 2]], 1.0, 4),
    ],
)
def test_a_sign_of_whole_numbers_has_no_zero_to_tell_apart(tmp_path, weight, shift, signs):
    b = binary_signs(weight, shift)
    path = b.save(tmp_path / "net.onnx", b.output)
    spec = onnx_lower.lower(onnx.read(path))
    assert sum(node.op == "sign" for node in spec.nodes) == signs
    graph = spec.to_core()
    x = np.array(list(itertools.product([-1.0, 0.0, 0.5], repeat=3)), dtype=np.float32)
    expected = np.concatenate([run_onnxruntime(path.read_bytes(), row[None]) for row in x])
    np.testing.assert_array_equal(graph.forward(x), expected)
    if signs == 3:
        # Sums of signs are zero for half of these inputs: no interval is in doubt about them.
        wide = x[(x != 0).all(axis=1)].astype(np.float64)
        low, high = graph.interval(wide, wide)
        np.testing.assert_array_equal(low, high)
