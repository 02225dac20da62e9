"""Discriminants: the odds of scikit-learn's linear discriminant analysis, calibrated p-values."""

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import aisec_eval as ae
from aisec_eval.detectors.lda import leave_class_out


def draw(n=3000, d=12, classes=5, seed=0, apart=1.0):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    x = random.normal(size=(n, d)) @ random.normal(size=(d, d))
    return x + apart * random.normal(size=(classes, d))[y], y, random


def test_scores_are_log_odds_of_linear_discriminants():
    x, y, _ = draw()
    result = ae.scan(x, y, method="lda")
    linear = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y).decision_function(x)
    rows = np.arange(len(x))
    own = linear[rows, y].copy()
    linear[rows, y] = -np.inf
    np.testing.assert_allclose(result.score, linear.max(1) - own, rtol=1e-6, atol=1e-6)
    assert result.info["dimension"] == 4


@pytest.mark.parametrize("n", [400, 3000, 20_000])
@pytest.mark.parametrize("tails", ["normal", "heavy", "skewed"])
def test_p_values_are_uniform_on_clean_samples(n, tails):
    x, y, random = draw(n=n, apart=2.0)
    if tails == "heavy":
        x = x * np.sqrt(3 / random.chisquare(3, (n, 1)))
    elif tails == "skewed":
        x = np.exp(x / 8)
    p = ae.scan(x, y, method="lda").p_value
    # Ranks of one sample move together: the band is twice Kolmogorov's.
    assert kstest(p, "uniform").statistic < 2 * 1.63 / np.sqrt(n)
    for level in (0.01, 0.1):
        assert (p <= level).mean() <= 1.2 * level + 3 * np.sqrt(level / n)


def test_p_values_are_ranks_among_other_classes():
    random = np.random.default_rng(3)
    own = np.repeat([0, 1, 2], [40, 50, 60])
    score = random.normal(size=150) * (1 + own) + 5 * own
    z = np.empty(150)
    for c in range(3):
        low, high = np.quantile(score[own == c], [0.5, 0.75])
        z[own == c] = (score[own == c] - low) / (high - low)
    p = leave_class_out(score, own)
    for i in range(0, 150, 7):
        others = z[own != own[i]]
        assert p[i] == pytest.approx((1 + (others >= z[i]).sum()) / (1 + len(others)))


def test_wrong_labels_are_found_and_named():
    x, y, random = draw(apart=3.0)
    wrong = random.uniform(size=len(y)) < 0.02
    given = np.where(wrong, (y + 1) % 5, y)
    result = ae.scan(x, given, method="lda")
    assert result.flagged[wrong].mean() > 0.9
    assert result.flagged[~wrong].mean() < 0.005
    label, other, count = result.info["confused"][0]
    assert (label - other) % 5 == 1
    assert count <= result.flagged.sum()


def test_higher_scores_have_lower_p_values_within_a_class():
    x, y, _ = draw()
    result = ae.scan(x, y, method="lda")
    for c in range(5):
        order = np.argsort(result.score[y == c])
        assert (np.diff(result.p_value[y == c][order]) <= 1e-12).all()


def test_one_class_is_refused():
    x, y, _ = draw(n=50)
    with pytest.raises(ae.InputError, match="one class"):
        ae.scan(x, np.zeros_like(y), method="lda")
