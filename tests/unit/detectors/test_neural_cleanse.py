"""Neural Cleanse: smallest triggers known in closed form, real backdoors, clean twins."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

import aisec_eval as ae
from aisec_eval.detectors import neural_cleanse
from aisec_eval.errors import CapabilityError, InputError
from helpers.backdoored import digits

CLASSES = 6
GAIN = 10.0


def pixels(x):
    """Pixel k votes for class k; a seventh pixel, dark in all data, votes strongly for class 2."""
    import jax.numpy as jnp

    bonus = jnp.zeros((1, CLASSES)).at[0, 2].set(100.0)
    return GAIN * x[:, :CLASSES] + x[:, CLASSES:] @ bonus


def draw(n=120):
    random = np.random.default_rng(0)
    x = np.concatenate([0.2 * random.random((n, CLASSES)), np.zeros((n, 1))], axis=1)
    return x.astype(np.float32), x[:, :CLASSES].argmax(1)


def test_smallest_triggers_in_closed_form():
    model = ae.load_model(pixels, input_shape=(CLASSES + 1,), name="pixels")
    x, y = draw()
    result = neural_cleanse(model, x, y, seeds=3, steps=250)
    # Turning up the class's own pixel is all it takes: (1 - m) x_t + m above the largest other;
    # for class 2 the seventh pixel does it with m = GAIN * (largest - x_2) / 100.
    norm = np.median(result.norm, axis=0)
    for c in range(CLASSES):
        inside = x[y != c, :CLASSES]
        gap = inside.max(1) - inside[:, c]
        needed = gap / (1 - inside[:, c]) if c != 2 else GAIN * gap / 100
        assert norm[c] == pytest.approx(np.quantile(needed, 0.99), rel=0.25)
    assert (result.success >= 0.99).all()
    assert result.info["dataset"]["poisoned"]
    np.testing.assert_array_equal(np.flatnonzero(result.flagged), [2])
    assert result.mask[2].argmax() == CLASSES
    assert result.index.shape == result.norm.shape == (3, CLASSES)
    row = result.frame.row(2, named=True)
    assert row["flagged"]
    assert row["index_low"] <= row["anomaly_index"] <= row["index_high"]


def test_classes_that_take_turns_get_the_same_triggers():
    model = ae.load_model(pixels, input_shape=(CLASSES + 1,), name="pixels")
    x, y = draw()
    together = neural_cleanse(model, x, y, seeds=2, steps=120)
    seen = []
    apart = neural_cleanse(
        model, x, y, seeds=2, steps=120, memory_limit=250_000,
        progress=lambda done, total, note: seen.append((done, total, note)),
    )  # fmt: skip
    np.testing.assert_allclose(apart.norm, together.norm, rtol=0.1)
    assert seen[-1][1] > 120
    assert seen[-1][0] == seen[-1][1]
    again = neural_cleanse(model, x, y, seeds=2, steps=120)
    np.testing.assert_array_equal(again.norm, together.norm)


def test_a_real_backdoor_is_found_and_its_clean_twin_is_quiet():
    for case, poisoned in ((digits(), True), (digits(0.0), False)):
        assert (case.success >= 0.9) is poisoned
        result = neural_cleanse(case.model, case.clean_x, seeds=2, samples=48, steps=125)
        assert result.info["dataset"]["poisoned"] is poisoned
        assert result.info["target_classes"] == ([case.target] if poisoned else [])
        assert result.mask.shape == (10, 8, 8)
        assert result.pattern.shape == (10, 1, 8, 8)
        if poisoned:
            # The trigger is in the corner, and what was found works on all held-out images.
            mask = result.mask[case.target]
            assert mask[-3:, -3:].sum() > 0.7 * mask.sum()
            others = case.clean_x[case.clean_y != case.target]
            stamped = (1 - mask) * others + mask * result.pattern[case.target]
            assert np.mean(case.model.labels(stamped.astype(np.float32)) == case.target) > 0.9


def test_what_does_not_fit_is_refused():
    model = ae.load_model(pixels, input_shape=(CLASSES + 1,))
    x, y = draw()
    with pytest.raises(InputError, match="outside bounds"):
        neural_cleanse(model, x + 1, y)
    with pytest.raises(InputError, match="one class only"):
        neural_cleanse(model, x, np.zeros(len(x), int))
    with pytest.raises(InputError, match="channels=3 is no axis"):
        neural_cleanse(model, x, y, channels=3)
    with pytest.raises(InputError, match="lower < upper"):
        neural_cleanse(model, x, y, bounds=(1, 1))
    with pytest.raises(InputError, match="is no Model"):
        neural_cleanse(pixels, x, y)
    forest = ae.load_model(RandomForestClassifier(3).fit(x, y))
    with pytest.raises(CapabilityError, match="through JAX"):
        neural_cleanse(forest, x, y)


def test_with_few_classes_there_is_no_verdict():
    model = ae.load_model(lambda x: pixels(x)[:, :3], input_shape=(CLASSES + 1,))
    x, y = draw()
    keep = y < 3
    result = neural_cleanse(model, x[keep], y[keep], seeds=1, steps=30)
    assert result.info["dataset"]["p"] is None
    assert "fewer than 5" in result.info["notes"][0]
    assert not result.flagged.any()
