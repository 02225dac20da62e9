"""SCAn: expectation maximisation from sums alone, as the sample-by-sample form has it."""

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.detectors.scan_classes import decompose


def by_samples(x, y, rounds):
    """The same algorithm with an inverse for each class and a loop over samples."""
    labels, own = np.unique(y, return_inverse=True)
    x = x - x.mean(0)
    means = np.stack([x[own == k].mean(0) for k in range(len(labels))])
    s_u, s_e = np.cov(means[own].T), np.cov((x - means[own]).T)
    for _ in range(rounds):
        f = np.linalg.inv(s_e)
        u = np.zeros_like(means)
        for k in range(len(labels)):
            g = -np.linalg.inv((own == k).sum() * s_u + s_e) @ s_u @ f
            for row in x[own == k]:
                u[k] -= s_e @ g @ row
        s_u, s_e = np.cov(u[own].T), np.cov((x - u[own]).T)
    return s_u, s_e


def draw(n=400, d=4, classes=5, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    x = random.normal(size=(n, d)) @ random.normal(size=(d, d))
    return x + 0.3 * random.normal(size=(classes, d))[y] + 5, y


def test_sums_are_enough():
    x, y = draw()
    counts = np.bincount(y)
    means = np.stack([x[y == k].mean(0) for k in range(5)])
    within = (x - means[y]).T @ (x - means[y]) / len(x)
    found = decompose(counts, means, within)
    assert found.converged
    s_u, s_e = by_samples(x, y, found.rounds)
    np.testing.assert_allclose(found.whiten.T @ s_e @ found.whiten, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(
        found.whiten.T @ s_u @ found.whiten, np.diag(found.between), atol=1e-9
    )


def test_the_identity_of_a_class_is_its_mean_shrunk():
    x, y = draw()
    counts = np.bincount(y)
    means = np.stack([x[y == k].mean(0) for k in range(5)])
    within = (x - means[y]).T @ (x - means[y]) / len(x)
    found = decompose(counts, means, within)
    s_e = np.linalg.inv(found.whiten @ found.whiten.T)
    s_u = s_e @ found.whiten @ np.diag(found.between) @ found.whiten.T @ s_e
    centred = means[2] - x.mean(0)
    expected = s_u @ np.linalg.inv(counts[2] * s_u + s_e) @ centred * counts[2]
    np.testing.assert_allclose(
        found.identity(counts[2], centred), expected @ found.whiten, atol=1e-9
    )


def test_the_gain_is_the_likelihood_ratio_of_the_split():
    x, y = draw(n=600, classes=6)
    x[(y == 3) & (np.arange(600) % 3 == 0)] += 8
    result = ae.scan(x, y, method="scan")
    entry = result.info["class_tests"][3]
    means = np.stack([x[y == k].mean(0) for k in range(6)])
    within = (x - means[y]).T @ (x - means[y]) / len(x)
    found = decompose(np.bincount(y), means, within)
    own = x[y == 3]
    part = result.score[y == 3] > np.median(result.score[y == 3])
    odd = np.flatnonzero(y == 3) % 3 == 0
    assert (part | ~odd).all()
    u = x.mean(0)
    white = (own - u) @ found.whiten
    mu = found.identity(len(own), means[3] - u)
    halves = np.where(odd[:, None], white[odd].mean(0), white[~odd].mean(0))
    gain = (((white - mu) ** 2).sum(1) - ((white - halves) ** 2).sum(1)).mean()
    assert entry["gain"] == pytest.approx(gain, rel=1e-6)
    gains = np.array([test["gain"] for test in result.info["class_tests"]])
    middle = np.median(gains)
    index = np.abs(gains - middle) / (1.4826 * np.median(np.abs(gains - middle)))
    assert entry["anomaly_index"] == pytest.approx(index[3], rel=1e-9)
    assert entry["anomalous"]


def test_clean_samples_say_which_part_is_suspicious():
    random = np.random.default_rng(0)
    y = random.integers(0, 6, 3000)
    x = random.normal(size=(3000, 8)) + 3 * random.normal(size=(6, 8))[y]
    clean = x[:500].copy(), y[:500].copy()
    # Most of class 2 is poison: the smaller part is what is clean.
    planted = (y == 2) & (np.arange(3000) >= 500) & (random.uniform(size=3000) < 0.8)
    x[planted] += 9
    with_clean = ae.scan(x, y, method="scan", clean=clean)
    assert with_clean.info["target_classes"] == [2]
    assert with_clean.info["clean_samples"] == 500
    assert with_clean.flagged[planted].mean() > 0.99
    assert with_clean.flagged[~planted].mean() < 0.01
    blind = ae.scan(x, y, method="scan")
    assert blind.flagged[planted].mean() < 0.01


def test_clean_samples_must_fit():
    x, y = draw()
    for clean, message in [
        ((x[:9, :2], y[:9]), "clean: 2 features, expected 4"),
        ((x[:5], np.arange(5)), "clean: every class has one sample"),
        ((x[:0], y[:0]), "at least one row"),
        ((x[:9] * np.nan, y[:9]), "clean: row 0: feature 0 is not finite"),
        (x, "pair"),
    ]:
        with pytest.raises(ae.InputError, match=message):
            ae.scan(x, y, method="scan", clean=clean)
    with pytest.raises(ae.InputError, match='goes with method="scan" alone'):
        ae.scan(x, y, method="lda", clean=(x, y))
