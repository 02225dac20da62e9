"""Native forward and input gradient against jitted JAX, numpy arrays in and out."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np
import onnx
import pytest
from jax import lax
from onnx import numpy_helper

import aisec_eval as ae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

Weights: TypeAlias = "dict[str, NDArray[np.float32]]"
InTurn: TypeAlias = "Callable[..., dict[str, float]]"
Network: TypeAlias = "Callable[[Weights, Any, str], Any]"


def conv(w: Weights, name: str, x: Any, layout: str, stride: int, padding: int) -> Any:
    """Convolution with bias; weights are kept OIHW and laid out for the images inside jit."""
    kernel, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    if layout == "NHWC":
        kernel = kernel.transpose(2, 3, 1, 0)
    dimensions = (layout, "HWIO" if layout == "NHWC" else "OIHW", layout)
    pads = [(padding, padding)] * 2
    y = lax.conv_general_dilated(x, kernel, [stride] * 2, pads, dimension_numbers=dimensions)
    return y + (bias if layout == "NHWC" else bias[:, None, None])


def dense(w: Weights, name: str, x: Any) -> Any:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def flat(x: Any, layout: str) -> Any:
    return (x.transpose(0, 3, 1, 2) if layout == "NHWC" else x).reshape(x.shape[0], -1)


def entered(x: Any, layout: str) -> Any:
    return x.transpose(0, 2, 3, 1) if layout == "NHWC" else x


def cnn_a(w: Weights, x: Any, layout: str) -> Any:
    x = entered(x, layout)
    for name in ("m.0", "m.2"):
        x = jax.nn.relu(conv(w, name, x, layout, 2, 1))
    return dense(w, "m.7", jax.nn.relu(dense(w, "m.5", flat(x, layout))))


def resnet2b(w: Weights, x: Any, layout: str) -> Any:
    x = entered((x - w["mean"]) / w["std"], layout)
    x = jax.nn.relu(conv(w, "m.conv1", x, layout, 2, 1))
    y = jax.nn.relu(conv(w, "m.layer1.0.conv1", x, layout, 2, 1))
    y = conv(w, "m.layer1.0.conv2", y, layout, 1, 1)
    x = jax.nn.relu(y + conv(w, "m.layer1.0.shortcut.0", x, layout, 2, 0))
    y = jax.nn.relu(conv(w, "m.layer1.1.conv1", x, layout, 1, 1))
    x = jax.nn.relu(x + conv(w, "m.layer1.1.conv2", y, layout, 1, 1))
    return dense(w, "m.linear2", jax.nn.relu(dense(w, "m.linear1", flat(x, layout))))


NETWORKS: dict[str, tuple[Network, float]] = {
    # Twice the multiply-adds of one forward pass, by hand from the layers' shapes.
    "mnist_cnn_a_adv": (
        cnn_a,
        2 * (196 * 16 * 16 + 49 * 256 * 32 + 1568 * 100 + 100 * 10),
    ),
    "cifar_resnet2b": (
        resnet2b,
        2 * (256 * 27 * 8 + 64 * (72 + 3 * 144 + 8) * 16 + 1024 * 100 + 100 * 10),
    ),
}


@pytest.fixture(scope="session")
def gemm_rate(in_turn: InTurn) -> float:
    """Operations a second of the faster of numpy's and JAX's float32 product of 1000 by 1000."""
    a = np.full((1000, 1000), 0.5, np.float32)
    product = jax.jit(lambda a, b: a @ b)
    on_device = jax.device_put(a)
    sides = {
        "numpy": lambda: a @ a,
        "jax": lambda: product(on_device, on_device).block_until_ready(),
    }
    return 2e9 / min(in_turn(sides).values())


def jax_sides(network: Network, weights: Weights, x: Any, cotangent: Any, kind: str) -> Any:
    """The jitted function for both layouts, from numpy to numpy."""
    parameters = jax.device_put(weights)

    def forward(w: Weights, x: Any, c: Any, layout: str) -> Any:
        del c
        return network(w, x, layout)

    def gradient(w: Weights, x: Any, c: Any, layout: str) -> Any:
        y, pullback = jax.vjp(lambda x: network(w, x, layout), x)
        return y, pullback(c)[0]

    jitted = jax.jit(forward if kind == "forward" else gradient, static_argnums=3)
    return {
        f"jax {layout}": lambda layout=layout: jax.tree.map(
            np.asarray, jitted(parameters, x, cotangent, layout)
        )
        for layout in ("NCHW", "NHWC")
    }


@pytest.mark.parametrize("kind", ["forward", "gradient"])
@pytest.mark.parametrize("batch", [1, 64, 500])
@pytest.mark.parametrize("name", NETWORKS)
def test_native_against_jax(
    name: str,
    batch: int,
    kind: str,
    reference: Path,
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
    gemm_rate: float,
) -> None:
    path = reference / "models" / f"{name}.onnx"
    network, flops = NETWORKS[name]
    initializers = onnx.load(path).graph.initializer
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in initializers}
    model = ae.load_model(path)
    assert model.graph is not None
    rng = np.random.default_rng(0)
    x = rng.random((batch, *model.input_shape), dtype=np.float32)
    cotangent = rng.standard_normal((batch, model.num_classes), dtype=np.float32)

    if kind == "forward":
        native = functools.partial(model.graph.forward, x)
    else:
        native = functools.partial(model.graph.value_and_vjp, x, cotangent)
    sides = {"native": native, **jax_sides(network, weights, x, cotangent, kind)}
    for side in sides.values():
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), side(), native()
        )

    best = in_turn(sides)
    rival = min(best, key=lambda side: (side == "native", best[side]))
    ratio = best[rival] / best["native"]
    # A gradient with respect to the input costs about as much again as the forward pass.
    rate = flops * batch * (1 if kind == "forward" else 2) / best["native"]
    benchmark.extra_info |= {
        "times_faster_than_jax": ratio,
        "gflops": rate * 1e-9,
        "fraction_of_gemm": rate / gemm_rate,
    }
    report(
        f"{name:16} {kind:8} batch {batch:3}: {best['native'] * 1e6 / batch:7.1f} us a sample, "
        f"{ratio:4.2f} x {rival}, {rate * 1e-9:5.1f} GFLOP/s = {rate / gemm_rate:4.0%} of GEMM"
    )
    benchmark(native)
