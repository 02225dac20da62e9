"""CROWN and IBP beside the time a matrix product of the same work takes on this machine."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers.certify import margin_spec
from aisec_eval.certifiers.region import Regions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

InTurn: TypeAlias = "Callable[..., dict[str, float]]"

# Floating-point operations an image that full CROWN takes, all intermediate layers included, no
# row left out: with dense rows, and with rows kept to their receptive fields.
WORK = {
    "mnist_cnn_a_adv": {"dense": 506e6, "patches": 217e6},
    "cifar_cnn_a_adv": {"dense": 1916e6, "patches": 406e6},
    "cifar_resnet2b": {"dense": 5.8e9, "patches": 2e9},
}
EPS = {"mnist_cnn_a_adv": "0.1", "cifar_cnn_a_adv": "2/255", "cifar_resnet2b": "1/255"}
SIZE = 1024
"""Order of the square matrices whose product gives the machine's rate."""


def images_of(reference: Path, net: str, batch: int) -> np.ndarray:
    name = "mnist_test" if net.startswith("mnist") else "cifar10_test_0000_2000"
    images = np.load(reference / "images" / f"{name}.npz")
    pixels = images["x"][:batch].astype(np.float32) / np.float32(255)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels)


@pytest.mark.reference
@pytest.mark.parametrize("batch", [32, 1])
@pytest.mark.parametrize("net", list(WORK))
def test_bounds_beside_matrix_products(
    reference: Path,
    in_turn: InTurn,
    report: Callable[[str], None],
    benchmark: BenchmarkFixture,
    net: str,
    batch: int,
) -> None:
    model = ae.load_model(reference / "models" / f"{net}.onnx")
    x = images_of(reference, net, batch)
    y = model.logits(x).argmax(axis=1).astype(np.int64)  # misclassified samples cost nothing
    threat = ae.Linf(EPS[net])
    assert model.graph is not None
    graph, regions = model.graph, Regions.around(x, threat)
    spec = margin_spec(y, model.num_classes)
    random = np.random.default_rng(0)
    left, right = random.normal(size=(2, SIZE, SIZE))
    left32, right32 = left.astype(np.float32), right.astype(np.float32)
    spent = in_turn(
        {
            "crown": lambda: ae.certify(model, x, y, threat),
            "ibp": lambda: ae.certify(model, x, y, threat, method="ibp"),
            "native ibp": lambda: ae.certifiers.IBP().lower_bounds(graph, regions, spec),
            "forward": lambda: model.logits(x),
            "dgemm": lambda: left @ right,
            "sgemm": lambda: left32 @ right32,
        }
    )
    crown, ibp, native, forward = (
        spent[name] / batch for name in ("crown", "ibp", "native ibp", "forward")
    )
    seconds = {name: spent[name] / (2 * SIZE**3) for name in ("dgemm", "sgemm")}
    ratios = {
        f"{gemm} {kind}": crown / (seconds[gemm] * flop)
        for gemm in seconds
        for kind, flop in WORK[net].items()
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    beside = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in ratios.items())
    report(
        f"{net} batch {batch}: CROWN {crown * 1e3:.2f} ms/image = {beside}; "
        f"IBP {ibp * 1e3:.3f} ms/image, the native call {native * 1e3:.3f} = "
        f"{native / forward:.1f} x a forward pass in float32; process peak {peak:.0f} MiB"
    )
    benchmark.extra_info |= {
        "crown_ms": crown * 1e3,
        "ibp_ms": ibp * 1e3,
        "native_ibp_ms": native * 1e3,
        **ratios,
    }
    benchmark.pedantic(lambda: ae.certify(model, x, y, threat), rounds=1)
