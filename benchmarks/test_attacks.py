"""What attacks cost beside the model calls they make, and native beside JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import APGD, Square

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

InTurn: TypeAlias = "Callable[..., dict[str, float]]"
N = 500
OPEN = ae.VERDICTS.index(ae.OPEN)


@pytest.fixture(scope="module")
def mnist(reference: Path) -> tuple[ae.Model, Any, Any]:
    """Return `mnist_cnn_a_adv` and the first 500 test samples."""
    images = np.load(reference / "images" / "mnist_test.npz")
    x = (images["x"][:N].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    return model, x, images["y"][:N].astype(np.int64)


@pytest.mark.parametrize("threat", [ae.Linf("0.001"), ae.L2("0.01"), ae.L1("0.01")], ids=str)
def test_bookkeeping(
    threat: ae.ThreatModel,
    mnist: tuple[ae.Model, Any, Any],
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    """Radii too small to break anything: every sample costs its whole budget."""
    model, x, _ = mnist
    graph = model.graph
    assert graph is not None
    y = np.argmax(model.logits(x), axis=1)
    ones = np.ones((N, model.num_classes), np.float32)
    steps, queries = 10, 20
    sides = {
        "forward": lambda: graph.forward(x),
        "gradient": lambda: graph.value_and_vjp(x, ones),
        "apgd": lambda: ae.attack(model, x, y, threat, method=APGD(steps=steps)),
        "square": lambda: ae.attack(model, x, y, threat, method=Square(queries=queries)),
    }
    for name in ("apgd", "square"):
        result: Any = sides[name]()
        assert (result.verdict == OPEN).all()
    best = in_turn(sides, seconds=2.0)
    forward, gradient = best["forward"] / N, best["gradient"] / N
    apgd = (best["apgd"] - 2 * best["forward"]) / (N * steps)
    square = (best["square"] - best["forward"]) / (N * queries)
    report(
        f"{threat}: APGD {1e6 * apgd:.1f} us a gradient ({apgd / gradient:.2f} x the model's own "
        f"{1e6 * gradient:.1f}), Square {1e6 * square:.1f} us a query "
        f"({1e6 * (square - forward):+.2f} over the model's own {1e6 * forward:.1f})"
    )
    benchmark.extra_info.update(best)
    benchmark.pedantic(sides["apgd"], rounds=1)


def test_native_against_jax(
    mnist: tuple[ae.Model, Any, Any],
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    """PGD of 100 steps on 500 samples, compilation left out."""
    model, x, y = mnist
    threat = ae.Linf("0.3")
    sides = {
        backend: lambda backend=backend: ae.attack(
            model, x, y, threat, method=APGD(), backend=backend
        )
        for backend in ("native", "jax")
    }
    results = {name: call() for name, call in sides.items()}
    left = {name: int((result.verdict == OPEN).sum()) for name, result in results.items()}
    moved = int((results["native"].verdict != results["jax"].verdict).sum())
    best = in_turn(sides, seconds=6.0)
    report(
        f"APGD-CE Linf 0.3: native {best['native']:.2f} s, JAX {best['jax']:.2f} s "
        f"({best['jax'] / best['native']:.1f} x); robust {left}, {moved} verdicts differ"
    )
    benchmark.extra_info.update(best)
    benchmark.pedantic(sides["native"], rounds=1)


def test_square_alone(
    mnist: tuple[ae.Model, Any, Any], benchmark: Any, report: Callable[[str], None]
) -> None:
    """5000 queries a sample at Linf 0.3 leave at most 362 of 500 robust."""
    model, x, y = mnist
    result = benchmark.pedantic(
        lambda: ae.attack(model, x, y, ae.Linf("0.3"), method=Square()), rounds=1
    )
    left = int((result.verdict == OPEN).sum())
    seconds = benchmark.stats.stats.min
    report(
        f"Square Linf 0.3: {left} robust, {result.spent.queries.sum()} queries in {seconds:.1f} s, "
        f"{1e6 * seconds / result.spent.queries.sum():.1f} us each"
    )
    assert left <= 362
