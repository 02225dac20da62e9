"""Spectra by hand, triggers in natural images, quiet on clean ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.datasets.poison import plant_patch
from aisec_eval.detectors import frequency
from aisec_eval.detectors.frequency import FLOOR, Spectrum
from aisec_eval.errors import InputError

RANDOM = np.random.default_rng(0)


def dct(image):
    """Orthonormal DCT-II from its definition."""
    h, w = image.shape
    found = np.zeros((h, w))
    for u in range(h):
        for v in range(w):
            for i in range(h):
                for j in range(w):
                    found[u, v] += (
                        image[i, j]
                        * math.cos(math.pi * (i + 0.5) * u / h)
                        * math.cos(math.pi * (j + 0.5) * v / w)
                    )
            found[u, v] *= math.sqrt((1 + (u > 0)) / h) * math.sqrt((1 + (v > 0)) / w)
    return found


def test_rings_of_the_transform_by_its_definition():
    images = RANDOM.random((3, 2, 4, 5))
    found = Spectrum((2, 4, 5), None, 3, 1.0)(images.reshape(3, -1), "x", 0)
    assert found.shape == (3, 6)
    radius = np.hypot(*(np.indices((4, 5)) / np.array([4, 5]).reshape(2, 1, 1)))
    ring = np.minimum((radius / radius.max() * 3).astype(int), 2)
    for n in range(3):
        for c in range(2):
            power = dct(images[n, c]) ** 2
            for b in range(3):
                inside = ring == b
                inside[0, 0] = False
                assert found[n, 2 * b + c] == pytest.approx(math.log(power[inside].mean() + FLOOR))


def test_layouts_agree():
    images = RANDOM.random((6, 3, 8, 8)).astype(np.float32)
    first = Spectrum((3, 8, 8), None, 8, 1.0)(images.reshape(6, -1), "x", 0)
    last = Spectrum((8, 8, 3), None, 8, 1.0)(images.transpose(0, 2, 3, 1).reshape(6, -1), "x", 0)
    np.testing.assert_allclose(first, last, rtol=1e-5)
    brighter = Spectrum((3, 8, 8), None, 8, 1.0)((images + 0.25).reshape(6, -1), "x", 0)
    np.testing.assert_allclose(first, brighter, rtol=1e-3, atol=1e-3)
    scaled = Spectrum((3, 8, 8), None, 8, 255.0)((255 * images).reshape(6, -1), "x", 0)
    np.testing.assert_allclose(scaled, first + 2 * math.log(255), rtol=1e-4)


def natural(n, classes=10, side=16, seed=0):
    """Images with power that falls with frequency, by a slope that differs between classes."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))) + 1 / side
    slope = 1.3 + 0.05 * y[:, None, None] + 0.1 * random.normal(size=(n, 1, 1))
    noise = np.fft.fft2(random.normal(size=(n, side, side)))
    x = np.real(np.fft.ifft2(noise * radius**-slope))
    x = 0.5 + 0.12 * x / x.std(axis=(1, 2), keepdims=True)
    return np.clip(x, 0, 1).astype(np.float32)[:, None], y


def auroc(score, poison):
    rank = np.argsort(np.argsort(score))
    return (rank[poison].mean() - rank[~poison].mean()) / len(rank) + 0.5


@pytest.mark.parametrize("known", [True, False])
def test_patches_are_found_and_clean_images_are_not(known):
    x, y = natural(3000)
    held = natural(800, seed=1)
    clean = {"clean": held[0], "clean_labels": held[1]} if known else {}
    quiet = frequency(x, y, **clean)
    assert not quiet.info["dataset"]["poisoned"]
    assert quiet.flagged.mean() < 0.02
    planted, given, poison = plant_patch(x, y, rate=0.02, target=4, size=2)
    result = frequency(planted, given, **clean)
    assert auroc(result.score, poison) > 0.99
    assert result.info["dataset"]["poisoned"]
    assert result.info["target_classes"] == [4]
    assert result.flagged[poison].mean() > 0.8
    assert result.flagged[~poison].mean() < 0.02


def test_false_alarms_are_rare_over_clean_datasets():
    alarms = 0
    for seed in range(10):
        x, y = natural(500, seed=seed)
        held = natural(200, seed=100 + seed)
        alarms += frequency(x, y).info["dataset"]["poisoned"]
        found = frequency(x, y, clean=held[0], clean_labels=held[1])
        alarms += found.info["dataset"]["poisoned"]
    assert alarms <= 1


def test_files_and_small_memory_give_the_same_scores(tmp_path):
    x, y = natural(5000)
    np.save(tmp_path / "x.npy", x)
    expected = frequency(x, y)
    found = frequency(tmp_path / "x.npy", y, memory_limit=4 << 20)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5, atol=1e-8)
    flat = frequency(x.reshape(5000, -1), y, shape=(16, 16))
    np.testing.assert_allclose(flat.score, expected.score, rtol=1e-9)


def test_digits_are_quiet_and_a_checkerboard_on_them_is_ranked_first():
    x, y = ae.load_dataset("digits", split="train")
    held = tuple(ae.load_dataset("digits"))
    clean = {"clean": held[0], "clean_labels": held[1]}
    assert not frequency(x, y, **clean).info["dataset"]["poisoned"]
    assert not frequency(x, y).info["dataset"]["poisoned"]
    planted, given, poison = plant_patch(x, y, rate=0.05, target=3)
    result = frequency(planted, given, **clean)
    assert auroc(result.score, poison) > 0.99
    assert result.info["target_classes"] == [3]


def test_what_does_not_fit_is_refused():
    x, y = natural(60)
    with pytest.raises(InputError, match=r"do not say how images are laid out; pass shape"):
        frequency(x.reshape(60, -1), y)
    with pytest.raises(InputError, match=r"images of shape \[2, 2, 2, 2\]"):
        frequency(np.zeros((5, 2, 2, 2, 2)), None)
    with pytest.raises(InputError, match=r"rows of 256 values, images are \[3, 3\]"):
        frequency(x, y, shape=(3, 3))
    with pytest.raises(InputError, match="have no frequencies"):
        frequency(np.zeros((5, 3, 1, 1)), None, channels=0)
    with pytest.raises(InputError, match="clean holds 5 samples"):
        frequency(x, y, clean=x[:5])
    x[7, 0, 1, 2] = np.nan
    with pytest.raises(InputError, match="row 7: value 18 is not finite"):
        frequency(x, y)


@pytest.mark.reference
def test_patches_in_photographs(reference):
    data = np.load(reference / "images" / "cifar10_test_0000_2000.npz")
    order = np.random.default_rng(0).permutation(2000)
    x = (data["x"][order] / 255).astype(np.float32)
    y = data["y"][order].astype(np.int64)
    clean = {"clean": x[1400:], "clean_labels": y[1400:], "channels": 2}
    assert not frequency(x[:1400], y[:1400], **clean).info["dataset"]["poisoned"]
    first = x[:1400].transpose(0, 3, 1, 2)
    planted, given, poison = plant_patch(first, y[:1400], rate=0.05, target=3)
    result = frequency(planted.transpose(0, 2, 3, 1), given, **clean)
    assert auroc(result.score, poison) > 0.99
    assert result.info["target_classes"] == [3]
