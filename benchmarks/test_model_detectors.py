"""Detectors that run a model, beside the forward passes or arithmetic that bound them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import detectors
from aisec_eval._core import gram_deviations
from aisec_eval.attacks.poisoning import SIG, BadNets, Blended, WaNet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

InTurn: TypeAlias = "Callable[..., dict[str, float]]"
BLOCK = 256


@pytest.fixture(scope="module")
def model(reference: Path) -> Any:
    return ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")


@pytest.fixture(scope="module")
def images(reference: Path) -> NDArray[np.float32]:
    data = np.load(reference / "images" / "mnist_test.npz")
    return (data["x"] / 255).astype(np.float32)[:, None]


def forwards(model: Any, x: NDArray[np.float32]) -> Callable[[], object]:
    """Return a call that runs the model over x by JAX, block after block, and does nothing else."""
    import jax

    apply, params = model.jax_function()
    run = jax.jit(apply)
    params = jax.device_put(params)

    def call() -> object:
        return [
            np.asarray(run(params, x[i : i + BLOCK])) for i in range(0, len(x) - BLOCK + 1, BLOCK)
        ]

    return call


def test_extraction(
    model: Any,
    images: NDArray[np.float32],
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    ours = functools.partial(detectors.extract, model, images)
    best = in_turn({"extract": ours, "forward": forwards(model, images)}, seconds=4)
    report(
        f"extract, 10,000 x MNIST: {best['extract']:.3f} s, "
        f"{best['extract'] / best['forward']:.2f} of a plain forward pass"
    )
    benchmark.pedantic(ours, rounds=1)


def test_strip(
    model: Any,
    images: NDArray[np.float32],
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    x = images[:512]
    ours = functools.partial(detectors.strip, model, x, overlays=64)
    plain = forwards(model, np.tile(x, (65, 1, 1, 1)))
    best = in_turn({"strip": ours, "forward": plain}, seconds=6)
    report(
        f"strip, 512 x 64 overlays: {best['strip']:.3f} s, "
        f"{best['strip'] / best['forward']:.2f} of as many forward passes"
    )
    benchmark.pedantic(ours, rounds=1)


def test_gram_deviations(benchmark: Any, report: Callable[[str], None], in_turn: InTurn) -> None:
    maps = np.maximum(np.random.default_rng(0).normal(size=(500, 32, 49)), 0).astype(np.float32)
    orders = tuple(range(1, 9))
    ours = functools.partial(gram_deviations, maps, maps, orders, 3.0, 1 << 28)

    def plain() -> list[object]:
        rows = np.triu_indices(32)
        found: list[object] = []
        for order in orders:
            powers = maps**order
            entries = ((powers @ powers.transpose(0, 2, 1)) ** (1 / order))[:, rows[0], rows[1]]
            median = np.median(entries, axis=0)
            found.append((median, np.median(np.abs(entries - median), axis=0)))
        return found

    best = in_turn({"native": ours, "numpy": plain}, seconds=4)
    report(
        f"gram powers, 500 x 32 x 49, 8 orders: {best['native']:.3f} s, numpy "
        f"{best['numpy'] / best['native']:.1f} x that (medians only)"
    )
    benchmark.pedantic(ours, rounds=1)


def test_frequency(
    images: NDArray[np.float32],
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    from scipy.fft import dctn

    y = np.arange(len(images)) % 10
    ours = functools.partial(detectors.frequency, images, y)
    plain = functools.partial(dctn, images, axes=(2, 3), norm="ortho")
    best = in_turn({"frequency": ours, "dctn": plain}, seconds=4)
    report(
        f"frequency, 10,000 x 28 x 28, two passes: {best['frequency']:.3f} s, "
        f"{best['frequency'] / best['dctn']:.1f} x one transform of all"
    )
    benchmark.pedantic(ours, rounds=1)


def test_frequency_by_attack(
    reference: Path, benchmark: Any, report: Callable[[str], None]
) -> None:
    """Which triggers frequencies show: those with edges or noise, not the smooth ones."""
    data = np.load(reference / "images" / "cifar10_test_0000_2000.npz")
    order = np.random.default_rng(0).permutation(2000)
    x, y = (data["x"][order] / 255).astype(np.float32), data["y"][order].astype(np.int64)
    clean = {"clean": x[1400:], "clean_labels": y[1400:], "channels": 2}
    found: dict[str, float] = {}
    for attack in (BadNets(target=3), Blended(target=3), SIG(target=3), WaNet(target=3)):
        planted = attack.poison(x[:1400], y[:1400], rate=0.05)
        result = detectors.frequency(planted.x, planted.y, **clean)
        limit = np.quantile(result.score[~planted.poison], 0.95)
        found[attack.name] = float(np.mean(result.score[planted.poison] > limit))
        alarm = "alarm" if result.info["dataset"]["poisoned"] else "no alarm"
        report(
            f"frequency, 1,400 x CIFAR-10, {attack.name} at 5 %: TPR {found[attack.name]:.2f} at "
            f"5 % FPR, {alarm}"
        )
    benchmark.extra_info.update(found)
    benchmark.pedantic(lambda: detectors.frequency(x[:1400], y[:1400], **clean), rounds=1)
    # What the paper claims of patches and blended patterns; it claims nothing of smooth ones.
    assert min(found["badnets"], found["blended"]) > 0.98


def test_neural_cleanse(
    model: Any,
    images: NDArray[np.float32],
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    import jax

    apply, params = model.jax_function()
    x, steps, tasks, samples = images[:32], 4, 10, 32
    gradient = jax.jit(jax.grad(lambda x: apply(params, x)[:, 0].sum()))
    batch = np.tile(x, (tasks, 1, 1, 1))

    def plain() -> list[object]:
        return [np.asarray(gradient(batch)) for _ in range(steps)]

    ours = functools.partial(
        detectors.neural_cleanse, model, x, seeds=1, samples=samples, steps=steps
    )
    best = in_turn({"cleanse": ours, "gradient": plain}, seconds=4)
    report(
        f"neural cleanse, 10 classes x 32 samples: {best['cleanse'] / steps:.4f} s a step, "
        f"{best['cleanse'] / best['gradient']:.2f} of as many input gradients"
    )
    benchmark.pedantic(ours, rounds=1)
