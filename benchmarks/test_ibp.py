"""Interval bounds beside the same in jitted float32 JAX, and beside a matrix product's time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers import IBP
from aisec_eval.certifiers.certify import margin_spec
from aisec_eval.certifiers.region import Regions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

InTurn: TypeAlias = "Callable[..., dict[str, float]]"

WORK = 4 * 609_384
"""Floating-point operations of one image: two products with each weight of MNIST CNN-A."""
AGAIN = 8
"""Calls in a row of each side: short ones are timed as in a loop, with their code in the cache."""
SIZE = 1024
"""Order of the square matrices whose product gives the machine's rate."""


def jax_margins(path: Path) -> Callable[..., Any]:
    """Midpoint and radius through Conv, Relu, Flatten and Gemm, the last one merged with rows."""
    import jax
    import jax.numpy as jnp
    import onnx

    graph = onnx.load(str(path)).graph
    weights = {one.name: jnp.asarray(onnx.numpy_helper.to_array(one)) for one in graph.initializer}
    *nodes, last = graph.node
    assert {node.op_type for node in graph.node} == {"Conv", "Relu", "Flatten", "Gemm"}
    assert last.op_type == "Gemm"

    def convolution(attributes: dict[str, Any]) -> Callable[[Any, Any], Any]:
        top, left, bottom, right = attributes["pads"]
        return lambda x, w: jax.lax.conv_general_dilated(
            x,
            w,
            attributes["strides"],
            ((top, bottom), (left, right)),
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )

    def margins(lower: Any, upper: Any, rows: Any) -> Any:
        for node in nodes:
            attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            if node.op_type == "Relu":
                lower, upper = jnp.maximum(lower, 0), jnp.maximum(upper, 0)
                continue
            if node.op_type == "Flatten":
                lower, upper = (x.reshape(len(x), -1) for x in (lower, upper))
                continue
            weight, bias = (weights[name] for name in node.input[1:])
            middle, radius = (upper + lower) / 2, (upper - lower) / 2
            conv = node.op_type == "Conv"
            product = convolution(attributes) if conv else lambda x, w: x @ w.T
            centre = product(middle, weight) + (bias[:, None, None] if conv else bias)
            reach = product(radius, jnp.abs(weight))
            lower, upper = centre - reach, centre + reach
        weight, bias = (weights[name] for name in last.input[1:])
        merged = rows @ weight
        middle, radius = (upper + lower) / 2, (upper - lower) / 2
        centre = jnp.einsum("nmk,nk->nm", merged, middle) + rows @ bias
        return centre - jnp.einsum("nmk,nk->nm", jnp.abs(merged), radius)

    return jax.jit(margins)


@pytest.mark.reference
@pytest.mark.parametrize("batch", [32, 1])
def test_interval_bounds_beside_jax(
    reference: Path,
    in_turn: InTurn,
    report: Callable[[str], None],
    benchmark: BenchmarkFixture,
    batch: int,
) -> None:
    path = reference / "models" / "mnist_cnn_a_adv.onnx"
    model, threat = ae.load_model(path), ae.Linf("0.1")
    assert model.graph is not None
    pixels = np.load(reference / "images" / "mnist_test.npz")["x"][:batch, None]
    x = np.ascontiguousarray(pixels.astype(np.float32) / np.float32(255))
    y = model.logits(x).argmax(axis=1).astype(np.int64)
    regions, spec = Regions.around(x, threat), margin_spec(y, model.num_classes)
    theirs, single = jax_margins(path), spec.astype(np.float32)
    lower, upper = np.maximum(x - np.float32(0.1), 0), np.minimum(x + np.float32(0.1), 1)
    random = np.random.default_rng(0)
    left, right = random.normal(size=(2, SIZE, SIZE)).astype(np.float32)
    graph = model.graph

    def native() -> NDArray[np.float64]:
        return IBP().lower_bounds(graph, regions, spec)

    def again(call: Callable[[], object]) -> Callable[[], None]:
        def calls() -> None:
            for _ in range(AGAIN):
                call()

        return calls

    spent = in_turn(
        {
            "certify": again(lambda: ae.certify(model, x, y, threat, method="ibp")),
            "native": again(native),
            "jax": again(lambda: theirs(lower, upper, single).block_until_ready()),
            "sgemm": lambda: left @ right,
        },
        seconds=3.0,
    )
    np.testing.assert_allclose(native(), np.asarray(theirs(lower, upper, single)), atol=1e-3)
    ms = {side: 1e3 * spent[side] / (AGAIN * batch) for side in ("certify", "native", "jax")}
    floor = 1e3 * WORK * spent["sgemm"] / (2 * SIZE**3)
    report(
        f"IBP, MNIST CNN-A, batch {batch}: certify {ms['certify']:.3f} ms an image, the native "
        f"call {ms['native']:.3f} = {ms['native'] / ms['jax']:.2f} x jitted float32 JAX "
        f"({ms['jax']:.3f}) = {ms['native'] / floor:.1f} x a float32 product of the same work"
    )
    benchmark.extra_info |= {"ms": ms, "native_over_jax": ms["native"] / ms["jax"]}
    benchmark.pedantic(native, rounds=1)
