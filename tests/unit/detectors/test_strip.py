"""STRIP: entropies by hand, real backdoors found, their clean twins quiet."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

import aisec_eval as ae
from aisec_eval.detectors import strip
from aisec_eval.errors import CapabilityError, InputError
from helpers.backdoored import digits

RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(6, 3)).astype(np.float32)


def linear(x):
    return x @ W


def entropy(x, overlays, alpha):
    total = np.zeros(len(x))
    for overlay in overlays:
        z = np.clip(x + alpha * overlay, 0, 1).astype(np.float64) @ W
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        total -= (p * np.log(p)).sum(1)
    return total / len(overlays)


def test_scores_are_entropies_by_hand():
    model = ae.load_model(linear, input_shape=(6,))
    x = RANDOM.random((70, 6)).astype(np.float32)
    # As many overlays as samples: which ones are drawn does not matter.
    result = strip(model, x, overlays=70, alpha=0.6)
    np.testing.assert_allclose(result.score, -np.log(entropy(x, x, 0.6)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(result.label, model.labels(x))
    assert result.info["labels"] == "predicted by the model"


def test_black_boxes_give_the_same_scores():
    class Hidden(ae.Model):
        name, digest, input_shape, num_classes = "hidden", "0", (6,), 3
        capabilities = ae.models.Capabilities(max_batch=7)

        def logits(self, x):
            assert len(x) <= 7
            return x @ W

    x = RANDOM.random((40, 6)).astype(np.float32)
    own = strip(ae.load_model(linear, input_shape=(6,)), x, overlays=9, seed=3)
    hidden = strip(Hidden(), x, overlays=9, seed=3)
    np.testing.assert_allclose(own.score, hidden.score, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(own.label, hidden.label)


def test_scores_do_not_depend_on_batches_and_come_from_files_too(tmp_path):
    model = ae.load_model(linear, input_shape=(6,))
    x = RANDOM.random((200_000, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    expected = strip(model, x, overlays=2)
    found = strip(model, tmp_path / "x.npy", overlays=2, memory_limit=4 << 20)
    np.testing.assert_array_equal(found.score, expected.score)


def auroc(score, poison):
    rank = np.argsort(np.argsort(score))
    return (rank[poison].mean() - rank[~poison].mean()) / len(rank) + 0.5


def test_a_real_backdoor_is_found_by_clean_samples_and_its_clean_twin_is_quiet():
    planted, twin = digits(), digits(0.0)
    assert planted.success >= 0.9
    for case, poisoned in ((planted, True), (twin, False)):
        result = strip(case.model, case.x, case.y, clean=case.clean_x, clean_labels=case.clean_y)
        assert result.info["dataset"]["poisoned"] is poisoned
        assert result.info["target_classes"] == ([case.target] if poisoned else [])
        assert result.flagged[~case.poison].mean() < 0.03
        if poisoned:
            assert result.flagged[case.poison].mean() > 0.15
            assert auroc(result.score, case.poison) > 0.95


def test_without_clean_samples_poison_is_ranked_first_and_its_class_stands_out():
    planted, twin = digits(), digits(0.0)
    result = strip(planted.model, planted.x, planted.y)
    assert auroc(result.score, planted.poison) > 0.95
    tests = sorted(result.info["class_tests"], key=lambda entry: entry["p"])
    assert tests[0]["class"] == planted.target
    assert tests[0]["p"] < 0.005
    quiet = strip(twin.model, twin.x, twin.y)
    assert not quiet.info["dataset"]["poisoned"]
    assert not quiet.flagged.any()


def test_what_does_not_fit_is_refused():
    model = ae.load_model(linear, input_shape=(6,))
    x = RANDOM.random((40, 6)).astype(np.float32)
    for options, message in (
        ({"clean": x[:19]}, "clean holds 19 samples"),
        ({"clean": x, "clean_labels": [1]}, "clean_labels"),
        ({"fpr": 1.0}, "fpr=1.0 must be above 0 and below 1"),
        ({"alpha": 0}, "alpha=0 must be above 0"),
        ({"overlays": 0}, "overlays=0"),
        ({"bounds": (1, 0)}, "lower < upper"),
    ):
        with pytest.raises(InputError, match=message):
            strip(model, x, **options)
    with pytest.raises(InputError, match=r"is no Model"):
        strip(linear, x)
    x[3, 2] = np.inf
    with pytest.raises(InputError, match="row 3: value 2 is not finite"):
        strip(model, x)

    class Labels(ae.Model):
        name, input_shape = "labels", (6,)
        capabilities = ae.models.Capabilities(scores=False)

        def logits(self, x):
            raise AssertionError(x)

    with pytest.raises(CapabilityError, match="gives labels only"):
        strip(Labels(), x)
    forest = ae.load_model(RandomForestClassifier(5).fit(np.eye(6), np.arange(6) % 3))
    assert strip(forest, np.eye(6, dtype=np.float32), overlays=3).score.shape == (6,)
