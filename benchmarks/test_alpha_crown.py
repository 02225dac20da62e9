"""alpha-CROWN over CROWN's intermediate bounds: milliseconds an image, and how tight it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers import AlphaCROWN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

InTurn: TypeAlias = "Callable[..., dict[str, float]]"

NETS = {
    "mnist_cnn_a_0.1": ("mnist_cnn_a_adv", "0.1"),
    "mnist_cnn_a_0.3": ("mnist_cnn_a_adv", "0.3"),
    "cifar_cnn_a_2d255": ("cifar_cnn_a_adv", "2/255"),
}
SIZE = 1024
"""Order of the square matrices whose product gives the machine's rate."""


@pytest.mark.reference
@pytest.mark.parametrize("name", list(NETS))
def test_alpha_crown_with_fixed_intermediate_bounds(
    reference: Path,
    in_turn: InTurn,
    report: Callable[[str], None],
    benchmark: BenchmarkFixture,
    name: str,
) -> None:
    net, eps = NETS[name]
    peer = np.load(reference / "reference" / f"lirpa_{name}_alphaFix20.npz")
    index, y = peer["test_index"], peer["y"].astype(np.int64)
    images = "mnist_test" if net.startswith("mnist") else "cifar10_test_0000_2000"
    pixels = np.load(reference / "images" / f"{images}.npz")["x"][index]
    x = pixels.astype(np.float32) / np.float32(255)
    x = np.ascontiguousarray(x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2))
    model = ae.load_model(reference / "models" / f"{net}.onnx")
    right = model.labels(x) == y
    x, y, theirs = x[right], y[right], peer["margin_lower"][right]
    threat = ae.Linf(eps)
    # Every row to the end, as the peer did.
    method = AlphaCROWN(iterations=20, stop=False)
    random = np.random.default_rng(0)
    left, other = random.normal(size=(2, SIZE, SIZE)).astype(np.float32)
    spent = in_turn(
        {
            "alpha": lambda: ae.certify(model, x, y, threat, method=method),
            "stopped": lambda: ae.certify(model, x, y, threat, method="alpha-crown"),
            "crown": lambda: ae.certify(model, x, y, threat),
            "sgemm": lambda: left @ other,
        },
        seconds=3.0,
    )
    ms = {side: 1e3 * spent[side] / len(x) for side in ("alpha", "stopped", "crown")}
    rate = 2 * SIZE**3 / spent["sgemm"] / 1e9
    ours = ae.certify(model, x, y, threat, method=method).margins_lower
    gap = (ours - theirs) / np.maximum(1.0, np.abs(theirs))
    report(
        f"{name}: alpha-CROWN(20) {ms['alpha']:.1f} ms an image (rows above zero left alone "
        f"{ms['stopped']:.1f}), CROWN {ms['crown']:.1f}; sgemm {rate:.0f} GFLOP/s; beside "
        f"auto_LiRPA: mean {gap.mean():+.2e}, worst {gap.min():+.2e}, tighter in "
        f"{(gap > 0).mean():.0%} of rows"
    )
    benchmark.extra_info |= {"ms": ms, "mean_gap": float(gap.mean()), "worst": float(gap.min())}
    benchmark.pedantic(lambda: ae.certify(model, x, y, threat, method=method), rounds=1)
    assert gap.min() >= 0
