"""What loading says in plain words about range, layout, outputs, determinism and accuracy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from aisec_eval.errors import InputError
from aisec_eval.models import checks, load_model

RNG = np.random.default_rng(0)
CENTRES = RNG.random((4, 3, 5, 6)).astype(np.float32)
LABELS = np.arange(64) % 4
SAMPLES = np.clip(CENTRES[LABELS] + 0.05 * RNG.standard_normal((64, 3, 5, 6)), 0, 1).astype(
    np.float32
)


def nearest(x: Any) -> Any:
    """A classifier for inputs in [0, 1]: negative squared distance to each centre, halved."""
    flat = jnp.asarray(CENTRES.reshape(4, -1))
    return x.reshape(x.shape[0], -1) @ flat.T - (flat**2).sum(axis=1) / 2


def said(**options: Any) -> str:
    function = options.pop("function", nearest)
    model = load_model(function, input_shape=(3, 5, 6), **options)
    return "\n".join(model.report.warnings)


def test_a_model_that_is_right_gives_no_warning() -> None:
    assert said(samples=SAMPLES, labels=LABELS) == ""
    assert said(samples=SAMPLES.astype(np.float64), labels=LABELS.astype(np.int32)) == ""


def test_eight_bit_samples_for_a_unit_range_model() -> None:
    words = said(samples=(SAMPLES * 255).astype(np.uint8), labels=LABELS)
    assert "outside the input range [0, 1]; divide by 255" in words


def test_a_scale_that_hurts_accuracy_is_found() -> None:
    def eight_bit(x: Any) -> Any:
        return nearest(x / 255)

    words = said(function=eight_bit, samples=SAMPLES, labels=LABELS)
    assert "when they are multiplied by 255: the input range looks wrong" in words
    assert said(function=eight_bit, samples=SAMPLES * 255, labels=LABELS, bounds=(0, 255)) == ""


@pytest.mark.parametrize("perm", [(0, 2, 3, 1)])
def test_channels_last_samples(perm: tuple[int, ...]) -> None:
    words = said(samples=SAMPLES.transpose(perm), labels=LABELS)
    assert "they are HWC (channels last), the model is CHW" in words
    assert "pass x.transpose(0, 3, 1, 2)" in words
    assert "accuracy" not in words


def test_channels_first_samples_for_a_channels_last_model() -> None:
    def channels_last(x: Any) -> Any:
        return nearest(x.transpose(0, 3, 1, 2))

    model = load_model(channels_last, input_shape=(5, 6, 3), samples=SAMPLES, labels=LABELS)
    (words,) = model.report.warnings
    assert "pass x.transpose(0, 2, 3, 1)" in words


def test_flat_samples() -> None:
    assert "pass x.reshape(-1, 3, 5, 6)" in said(samples=SAMPLES.reshape(64, -1), labels=LABELS)


def test_samples_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"samples have shape \[4, 4\]"):
        said(samples=np.zeros((2, 4, 4), np.float32))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"samples": np.zeros((0, 3, 5, 6))}, "pass numbers"),
        ({"samples": np.array(["a"])}, "pass numbers"),
        ({"samples": np.full((1, 3, 5, 6), np.nan)}, "NaN"),
        ({"labels": LABELS}, "without samples"),
        ({"samples": SAMPLES, "labels": LABELS[:3]}, "expected 64 integers"),
        ({"samples": SAMPLES, "labels": LABELS + 1}, "classes 0..3"),
        ({"samples": SAMPLES, "labels": LABELS / 2}, "expected 64 integers"),
    ],
)
def test_samples_and_labels_that_do_not_fit(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=part):
        said(**options)


def test_probabilities_instead_of_logits() -> None:
    words = said(function=lambda x: jax.nn.softmax(nearest(x)))
    assert "outputs look like probabilities" in words
    words = said(function=lambda x: jax.numpy.arctan(nearest(x)))
    assert "not certifiable: operator atan" in words


def test_accuracy_near_chance() -> None:
    words = said(samples=SAMPLES, labels=(LABELS + 1) % 4)
    assert "accuracy is 0% on 64 given samples, close to chance (25%)" in words


def test_one_output() -> None:
    assert "the model has 1 output" in said(function=lambda x: nearest(x)[:, :1])


def test_outputs_that_are_not_finite() -> None:
    words = said(function=lambda x: nearest(x) + jnp.log(jnp.abs(x[:, 0, 0, 0, None]) - 10))
    assert "NaN or infinite on random inputs" in words


def test_two_runs_that_differ() -> None:
    counter = iter(range(100))
    outputs = np.zeros((4, 3), np.float32)

    def run(_x: np.ndarray) -> np.ndarray:
        return outputs + next(counter)

    found = checks.warnings(run, np.zeros((4, 2), np.float32), run(outputs), checks.Options())
    assert found == ["two runs on the same input differ: the model is not deterministic"]


def test_outputs_that_depend_on_the_batch() -> None:
    def training_mode(x: Any) -> Any:
        return nearest(x - x.mean(axis=0))

    assert "depend on the rest of its batch" in said(function=training_mode)


def test_differences_are_relative_to_the_scale() -> None:
    expected = np.array([1000.0, 1.0])
    assert checks.differs(expected + 0.05, expected) is None
    assert checks.differs(expected + 0.2, expected) == pytest.approx(2e-4)
    assert checks.differs(np.array([np.nan, 1.0]), expected) == np.inf
    assert checks.differs(np.array([5.0, 1.0]), np.array([np.nan, 1.0])) is None
    assert checks.differs(np.array([5.0]), np.array([np.inf])) is None
