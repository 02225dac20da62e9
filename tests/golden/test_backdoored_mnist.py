"""A real backdoor in a network on MNIST, and its clean twin, seen by every detector of models."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.datasets.poison import plant_patch
from aisec_eval.detectors import beatrix, neural_cleanse, strip
from helpers.backdoored import Trained, convolutional, stamp

pytestmark = pytest.mark.reference

TARGET = 4


@cache
def trained(folder, rate):
    data = np.load(folder / "images" / "mnist_test.npz")
    order = np.random.default_rng(0).permutation(10_000)
    x = (data["x"][order] / 255).astype(np.float32)[:, None]
    y = data["y"][order].astype(np.int64)
    held, held_y = x[5000:6500], y[5000:6500]
    x, y, poison = x[:5000], y[:5000], np.zeros(5000, bool)
    if rate:
        x, y, poison = plant_patch(x, y, rate=rate, target=TARGET)
    model = convolutional(x, y, epochs=4)
    accuracy = float(np.mean(model.labels(held) == held_y))
    hit = model.labels(stamp(held[held_y != TARGET], 3)) == TARGET
    return Trained(model, x, y, poison, TARGET, held, held_y, accuracy, float(hit.mean()))


def auroc(score, poison):
    rank = np.argsort(np.argsort(score))
    return (rank[poison].mean() - rank[~poison].mean()) / len(rank) + 0.5


def test_the_backdoor_works_and_the_twin_has_none(reference):
    assert trained(reference, 0.05).success >= 0.9
    assert trained(reference, 0.05).accuracy > 0.9
    assert trained(reference, 0.0).success < 0.05


@pytest.mark.parametrize("rate", [0.05, 0.0])
def test_detectors(reference, rate):
    case = trained(reference, rate)
    clean = {"clean": case.clean_x, "clean_labels": case.clean_y}
    targets = [TARGET] if rate else []
    split = ae.scan(case.x, case.y, model=case.model, method="split")
    assert split.info["target_classes"] == targets
    assert split.info["layer"]["shape"] == [32]
    some = np.arange(1200)
    found = strip(case.model, case.x[some], case.y[some], overlays=32, **clean)
    assert found.info["target_classes"] == targets
    cleansed = neural_cleanse(
        case.model, case.clean_x, case.clean_y, seeds=2, samples=24, steps=120
    )
    assert cleansed.info["target_classes"] == targets
    grams = beatrix(case.model, case.x, case.y, **clean)
    assert grams.info["target_classes"] == targets
    if rate:
        assert auroc(split.score, case.poison) > 0.99
        assert auroc(found.score, case.poison[some]) > 0.9
        mask = cleansed.mask[TARGET]
        assert mask[-6:, -6:].sum() > 0.5 * mask.sum()
