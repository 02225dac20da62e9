"""Smoothing with 100,000 noisy copies beside the same counting in jitted JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers import Smoothing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

InTurn: TypeAlias = "Callable[..., dict[str, float]]"

SIGMA, COPIES, BATCH = 0.25, 100_000, 1_000


@pytest.mark.reference
def test_smoothing_beside_jax(
    reference: Path, in_turn: InTurn, report: Callable[[str], None], benchmark: BenchmarkFixture
) -> None:
    import jax
    import jax.numpy as jnp

    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    pixels = np.load(reference / "images" / "mnist_test.npz")["x"][:1]
    x = (pixels[:, None] / np.float32(255)).astype(np.float32)
    y, threat = model.labels(x), ae.L2(0.5)
    function, params = model.jax_function()

    @jax.jit
    def count(key: jax.Array) -> jax.Array:
        noise = SIGMA * jax.random.normal(key, (BATCH, *x.shape[1:]))
        return jnp.bincount(function(params, x + noise).argmax(axis=1), length=model.num_classes)

    def with_jax() -> None:
        keys = jax.random.split(jax.random.key(0), COPIES // BATCH)
        sum(count(key) for key in keys).block_until_ready()

    def run(**options: object) -> Callable[[], object]:
        method = Smoothing(SIGMA, n=COPIES, **options)
        return lambda: ae.certify(model, x, y, threat, method=method)

    spent = in_turn(
        {
            "native": run(),
            "lattice": run(lattice="1/255"),
            "early stop": run(early_stop=True),
            "jax": with_jax,
        },
        seconds=8.0,
    )
    benchmark.extra_info.update(spent)
    report(
        f"smoothing, {COPIES:,} copies of an MNIST image: native {spent['native']:.2f} s, lattice "
        f"{spent['lattice']:.2f} s, stopped at radius 0.5 {1e3 * spent['early stop']:.1f} ms; "
        f"jitted JAX {spent['jax']:.2f} s ({spent['jax'] / spent['native']:.1f} times as long)"
    )
    benchmark.pedantic(run(), rounds=1)
    assert spent["native"] < spent["jax"]
