"""Honest oddities that are no poison, and poison that label noise hides: what the panel says."""

import numpy as np
import pytest
from scipy.stats import kstest

import aisec_eval as ae
from aisec_eval.detectors.calibrate import share_interval
from aisec_eval.detectors.neighbours import copies


def draw(seed=0, classes=8, n=2400, d=20, apart=1.8):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    return apart * random.normal(size=(classes, d))[y] + random.normal(size=(n, d)), y, random


def two_kinds(seed):
    """One class alone has a second kind, far off, that varies as the first one does."""
    x, y, random = draw(seed)
    x[(y == 3) & (random.random(len(y)) < 0.25)] += 1.6 * random.normal(size=20)
    return x, y


def two_classes_in_one(seed):
    x, y, _ = draw(seed, classes=9)
    y[y == 8] = 3
    return x, y


def wide_class(seed):
    x, y, _ = draw(seed, apart=1.0)
    x[y == 3] = 2 * x[y == 3] - x[y == 3].mean(0)
    return x, y


def copied(seed):
    """A few samples are there a hundred times, almost the same."""
    x, y, random = draw(seed)
    rows = np.repeat(random.choice(np.flatnonzero(y == 3), 2), 100)
    again = x[rows] * (1 + 1e-5 * random.normal(size=(200, 20)))
    return np.concatenate([x, again]), np.concatenate([y, y[rows]])


@pytest.mark.parametrize("family", [two_kinds, two_classes_in_one, wide_class, copied])
def test_what_is_odd_but_clean_raises_no_alarm(family):
    for seed in range(2):
        result = ae.scan(*family(seed), method="auto")
        assert not result.info["dataset"]["poisoned"], result.info["alarming"]
        assert result.info["rate_interval"] is None
        assert not result.flagged.any()


def planted(seed=0, noise=0.1):
    """A backdoor that keeps a part of where its samples come from, and random wrong labels."""
    x, y, random = draw(seed)
    rows = random.choice(np.flatnonzero(y != 5), 100, replace=False)
    trigger = random.normal(size=20)
    x[rows] += 0.6 * (x[y == 5].mean(0) - x[rows]) + 6 * trigger / np.linalg.norm(trigger)
    y[rows], poison = 5, np.zeros(len(y), bool)
    poison[rows] = True
    wrong = ~poison & (random.random(len(y)) < noise)
    y[wrong] = (y[wrong] + random.integers(1, 8, wrong.sum())) % 8
    return x, y, poison, wrong


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_a_backdoor_is_found_under_label_noise_and_the_noise_too(noise):
    x, y, poison, wrong = planted(noise=noise)
    result = ae.scan(x, y, method="auto")
    assert {"split", "neighbours"} <= set(result.info["alarming"])
    assert result.info["target_classes"] == [5]
    line = np.quantile(result.score[~poison & ~wrong], 0.99)
    assert np.mean(result.score[poison] > line) > 0.95
    assert np.mean(result.score[wrong] > line) > 0.85
    low, high = result.info["rate_interval"]
    assert low <= (poison | wrong).mean() <= high


def test_label_noise_alone_is_no_backdoor():
    for seed in range(2):
        x, y, random = draw(seed)
        wrong = random.random(len(y)) < 0.15
        y[wrong] = (y[wrong] + random.integers(1, 8, wrong.sum())) % 8
        result = ae.scan(x, y, method="auto")
        assert result.info["alarming"] == ["neighbours"]
        assert result.info["target_classes"] == []


@pytest.mark.parametrize("n", [600, 2400])
def test_p_values_of_clean_samples_are_uniform(n):
    x, y, _ = draw(1, n=n)
    assert kstest(ae.scan(x, y, method="auto").p_value, "uniform").pvalue > 0.01
    x, y, poison, _ = planted(1, noise=0.0)
    told = ae.scan(x, y, method="auto")
    assert told.info["dataset"]["poisoned"]
    assert kstest(told.p_value[~poison], "uniform").statistic < 0.05


def test_the_interval_is_what_is_sure_and_what_may_be():
    odds = np.repeat([8.0, 0.0, -8.0], [100, 50, 850])
    low, high = share_interval(odds)
    assert low == pytest.approx(0.1 - 1.96 * np.sqrt(0.1 * 0.9 / 1000))
    assert high == pytest.approx(0.15 + 1.96 * np.sqrt(0.15 * 0.85 / 1000))
    assert share_interval(np.full(10, -9.0)) == [0.0, 0.0]
    assert share_interval(np.full(10, 9.0)) == [1.0, 1.0]


def test_copies_follow_an_earlier_sample_of_their_class():
    label = np.array([1, 1, 1, 2])
    ids = np.array([[1, 3], [0, 2], [0, 1], [0, 1]], dtype=np.uint32)
    distance = np.array([[0, 0], [0, 0], [0.5, 0.5], [0, 0]], dtype=np.float32)
    np.testing.assert_array_equal(copies(label, ids, distance), [False, True, False, False])
