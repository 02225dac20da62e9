"""P-values by rank, their beta-binomial count, and classes judged by each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from aisec_eval.detectors.nulls import (
    against_classes,
    against_clean,
    anomaly_index,
    beta_binomial_tail,
    conformal,
    excess,
)


def test_conformal_p_values_are_ranks_among_the_clean():
    clean = np.array([1.0, 2.0, 2.0, 5.0])
    score = np.array([6.0, 5.0, 3.0, 2.0, 0.0])
    np.testing.assert_allclose(conformal(score, clean), [1 / 5, 2 / 5, 2 / 5, 4 / 5, 1])


@pytest.mark.parametrize(("n", "m", "rank"), [(3, 4, 1), (2, 5, 2), (4, 3, 3)])
def test_the_count_above_a_rank_by_enumeration_of_all_orders(n, m, rank):
    counts = np.zeros(n + 1)
    for places in itertools.combinations(range(n + m), n):
        # Places of the n samples among all, the highest first.
        others = [i for i in range(n + m) if i not in places]
        counts[sum(place < others[rank - 1] for place in places)] += 1
    counts /= counts.sum()
    for k in range(n + 1):
        assert beta_binomial_tail(k, n, rank, m) == pytest.approx(counts[k:].sum(), rel=1e-9)


def test_the_excess_over_clean_scores_keeps_its_level():
    random = np.random.default_rng(0)
    p = np.array([excess(random.normal(size=300), random.normal(size=200)) for _ in range(1000)])
    for level in (0.3, 0.1, 0.03):
        error = 3 * math.sqrt(level * (1 - level) / 1000)
        assert np.mean(p <= level) <= level + error
    shifted = np.concatenate([random.normal(size=270), np.full(30, 5.0)])
    assert excess(shifted, random.normal(size=200)) < 1e-3


def draw(random, classes=10, n=2000):
    y = random.integers(0, classes, n)
    location, scale = random.normal(size=classes), random.uniform(0.5, 2, classes)
    return location[y] + scale[y] * random.gumbel(size=n), y


def test_classes_judged_by_each_other_rarely_alarm_and_see_a_second_part():
    random = np.random.default_rng(1)
    alarms = sum(against_classes(*draw(random))[1]["dataset"]["poisoned"] for _ in range(300))
    assert alarms <= 6
    score, y = draw(random)
    rows = np.flatnonzero(y == 4)[:40]
    score[rows] = np.median(score[y == 4]) + 12 * score[y == 4].std()
    p, info = against_classes(score, y)
    assert info["dataset"]["poisoned"]
    assert info["target_classes"] == [4]
    assert p[rows].max() < 0.01
    assert max(info["class_tests"], key=lambda e: e["anomaly_index"])["class"] == 4


def test_location_and_scale_of_a_class_do_not_matter():
    score, y = draw(np.random.default_rng(2))
    moved = score * np.linspace(0.1, 7, 10)[y] + np.arange(10)[y]
    p, info = against_classes(score, y)
    q, moved_info = against_classes(moved, y)
    np.testing.assert_allclose(p, q, atol=1e-3)
    assert info["dataset"]["p"] == pytest.approx(moved_info["dataset"]["p"], rel=1e-6)


def test_few_classes_small_classes_and_constant_scores_have_no_verdict():
    random = np.random.default_rng(3)
    score, y = draw(random, classes=3)
    p, info = against_classes(score, y)
    assert info["dataset"] == {"poisoned": False, "p": None, "level": 0.005}
    assert "fewer than 5" in info["notes"][0]
    assert np.isfinite(p).all()
    score, y = draw(random)
    y[0] = 99
    p, info = against_classes(score, y)
    assert 99 not in [e["class"] for e in info["class_tests"]]
    assert np.isfinite(p).all()
    p, info = against_classes(np.zeros(200), np.arange(200) % 10)
    assert not info["dataset"]["poisoned"]
    assert (p == 1).all()


def test_clean_scores_give_verdicts_by_class():
    random = np.random.default_rng(4)
    score, y = draw(random)
    half = np.arange(2000) % 2 == 0
    clean, clean_y = score[half], y[half]
    quiet = against_clean(score[~half], y[~half], clean, clean_y, "x")[1]
    assert not quiet["dataset"]["poisoned"]
    poisoned = score[~half].copy()
    rows = np.flatnonzero(y[~half] == 2)[:30]
    poisoned[rows] = clean[clean_y == 2].max() + 1
    p, info = against_clean(poisoned, y[~half], clean, clean_y, "x")
    assert info["target_classes"] == [2]
    assert p.shape == (1000,)
    unknown = against_clean(score[~half], y[~half], clean, None, "x")[1]
    assert unknown["class_tests"] == []
    assert not unknown["dataset"]["poisoned"]


def test_the_anomaly_index_is_robust():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    np.testing.assert_allclose(anomaly_index(values), (values - 3) / 1.4826)
