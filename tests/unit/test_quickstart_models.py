"""The two shipped classifiers: size, accuracy, loading, and that training is reproducible."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "suites" / "models"
NAMES = ("digits_normal", "digits_adversarial")
LEAST_CLEAN = {"digits_normal": 0.97, "digits_adversarial": 0.93}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_digits", FOLDER / "train_digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = ae.load_dataset("digits", split="test")
    return x, y


def onnx_logits(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": x})[0]


def test_together_they_are_small() -> None:
    assert sum((FOLDER / f"{name}.onnx").stat().st_size for name in NAMES) < 300_000


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_the_test_split(name: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    logits = onnx_logits(FOLDER / f"{name}.onnx", x)
    assert np.mean(logits.argmax(1) == y) >= LEAST_CLEAN[name]


@pytest.mark.parametrize("name", NAMES)
def test_they_load_and_agree_with_onnxruntime(
    name: str, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digits
    model = ae.load_model(FOLDER / f"{name}.onnx", samples=x[:50], labels=y[:50])
    assert model.input_shape == (1, 8, 8)
    assert model.num_classes == 10
    assert model.capabilities.graph
    assert model.report.warnings == ()
    expected = onnx_logits(FOLDER / f"{name}.onnx", x[:50])
    np.testing.assert_allclose(model.logits(x[:50]), expected, rtol=1e-4, atol=1e-4)


def test_one_architecture() -> None:
    """The two files differ in weights and name alone."""
    import onnx

    def shape(name: str) -> list[tuple[str, list[str], list[str]]]:
        graph = onnx.load(FOLDER / f"{name}.onnx").graph
        return [(n.op_type, list(n.input), list(n.output)) for n in graph.node] + [
            (w.name, [str(d) for d in w.dims], []) for w in graph.initializer
        ]

    assert shape("digits_normal") == shape("digits_adversarial")


def test_adversarial_training_pays(
    script: ModuleType, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    """At radius 0.1 PGD breaks most of the normal model and little of the other.

    And interval bounds certify the other alone.
    """
    import jax.numpy as jnp
    import onnx
    from jax import random

    x, y = (jnp.asarray(a[:200]) for a in digits)
    radius = jnp.float32(0.1)
    robust, certified = {}, {}
    for name in NAMES:
        weights = onnx.load(FOLDER / f"{name}.onnx").graph.initializer
        params = {w.name: jnp.asarray(onnx.numpy_helper.to_array(w)) for w in weights}
        attacked = script.pgd(params, x, y, random.key(0), radius)
        assert float(jnp.abs(attacked - x).max()) <= 0.1 + 1e-6
        robust[name] = float(jnp.mean(script.logits(params, attacked).argmax(1) == y))
        worst = script.worst_logits(
            params, jnp.maximum(x - radius, 0), jnp.minimum(x + radius, 1), y
        )
        certified[name] = float(jnp.mean(worst.argmax(1) == y))
        assert certified[name] <= robust[name]
    assert robust["digits_normal"] < 0.45
    assert robust["digits_adversarial"] > 0.7
    assert certified["digits_normal"] == 0.0
    assert certified["digits_adversarial"] > 0.3


def test_training_is_reproducible(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "STEPS", 4)
    monkeypatch.setattr(script, "PGD_STEPS", 2)
    x, y = ae.load_dataset("digits", split="train")
    first, second = (
        script.to_onnx(script.train(x[:256], y[:256], adversarial=True), "net") for _ in range(2)
    )
    assert first == second
    monkeypatch.setattr(script, "SEED", script.SEED + 1)
    assert script.to_onnx(script.train(x[:256], y[:256], adversarial=True), "net") != first
