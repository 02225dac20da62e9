"""The widest gap of a class and one-sided confusion: by definition, and on planted poison."""

import numpy as np
import pytest
from scipy.stats import binom

import aisec_eval as ae
from aisec_eval.detectors.gap import _hollow, widest_gap
from aisec_eval.detectors.mixture import fit_with_prior
from aisec_eval.detectors.one_sided import one_sided


def test_a_small_part_is_found_in_a_direction_of_little_variance():
    random = np.random.default_rng(0)
    z = random.normal(size=(1000, 12)) * np.linspace(3, 1, 12)
    truth = np.zeros(1000, bool)
    truth[::33] = True
    z[truth, 9] += 9
    z[truth, 10:] = 3 * random.normal(size=(truth.sum(), 2))
    found = widest_gap(z, np.eye(12), np.eye(12)[:, 10:])
    np.testing.assert_array_equal(found.part, truth)
    assert abs(found.direction[9]) > 0.9
    # By definition: Mahalanobis distance of the parts, and their variances.
    one, two = z[truth], z[~truth]
    within = (np.cov(one.T, bias=True) * len(one) + np.cov(two.T, bias=True) * len(two)) / 1000
    apart = one.mean(0) - two.mean(0)
    assert found.distance == pytest.approx(np.log(apart @ np.linalg.solve(within, apart)), abs=0.1)
    assert found.variety == pytest.approx(np.log(9 / 1), abs=0.9)
    assert found.p_hollow < 0.01
    assert found.hollow > 2
    assert widest_gap(z[:20], np.eye(12), np.eye(12)[:, 10:]) is None


def test_a_tail_is_no_gap():
    random = np.random.default_rng(1)
    line = random.standard_t(3, 2000)
    _, p = _hollow(line, line > np.quantile(line, 0.95))
    assert p > 0.01
    line[:60] = 30 + random.normal(size=60)
    hollow, p = _hollow(line, line > 20)
    assert p < 1e-6
    assert hollow > np.log(10)
    few, many = 2, 19
    line = np.array([0.0] * 50 + [0.5] * few + [1.0] * many)
    hollow, p = _hollow(line, line == 1)
    # An empty window lies between the heaps.
    assert hollow == pytest.approx(np.log(19.5 / 0.5))
    assert p == pytest.approx(binom.cdf(0, many, 1 / 3))


def test_samples_spoken_for_shape_the_parts():
    random = np.random.default_rng(2)
    truth = np.arange(600) < 150
    z = random.normal(size=(600, 3))
    z[truth, 0] += 2.5
    prior = np.where(truth, 1.0, -1.0) + random.normal(size=600)
    odds = prior + fit_with_prior(z, prior).log_odds(z)
    assert np.mean((odds > 0) == truth) > np.mean((prior > 0) == truth) + 0.05
    assert fit_with_prior(z, np.full(600, -30.0)) is None


def draw(classes=8, n=2400, d=12, seed=0, sizes=None):
    random = np.random.default_rng(seed)
    y = random.choice(classes, n, p=sizes)
    return 1.6 * random.normal(size=(classes, d))[y] + random.normal(size=(n, d)), y


def given_one_way(x, y, target, count, towards=0.0, seed=1):
    """Samples of other classes, hardly moved, under the target's label."""
    random = np.random.default_rng(seed)
    rows = random.choice(np.flatnonzero(y != target), count, replace=False)
    x, y, poison = x.copy(), y.copy(), np.zeros(len(y), bool)
    x[rows] += towards * (x[y == target].mean(0) - x[rows])
    y[rows], poison[rows] = target, True
    return x, y, poison


def test_labels_of_one_class_inside_others_are_one_sided():
    x, y, poison = given_one_way(*draw(), 5, 60, towards=0.2)
    result = ae.scan(x, y, method="auto")
    assert "one-sided" in result.info["alarming"]
    assert result.info["target_classes"] == [5]
    line = np.quantile(result.score[~poison], 0.99)
    assert np.mean(result.score[poison] > line) > 0.95
    assert np.mean(poison[result.flagged]) > 0.9
    assert result.info["rate"] == pytest.approx(poison.mean(), rel=0.3)


def test_confusion_is_counted_by_definition():
    random = np.random.default_rng(3)
    label = np.repeat([3, 5, 8, 9, 12, 40], [50, 60, 70, 80, 90, 100])
    ids = random.integers(0, len(label), (len(label), 10)).astype(np.uint32)
    # As near as can be: all lie within reach of any class.
    found = one_sided(label, ids, np.zeros(ids.shape, np.float32))
    size = {c: int((label == c).sum()) for c in set(label.tolist())}
    outside, inside = dict.fromkeys(size, 0.0), dict.fromkeys(size, 0.0)
    for i, c in enumerate(label.tolist()):
        votes = {o: int((label[ids[i]] == o).sum()) / size[o] for o in size}
        own = votes.pop(c)
        other = max(votes, key=lambda o: (votes[o], -o))
        if votes[other] > own:
            outside[c] += np.median(list(size.values())) / size[c]
            inside[other] += np.median(list(size.values())) / size[c]
        assert found.agree[i] == (label[ids[i]] == c).sum()
    for row in found.tests:
        assert row["outside"] == pytest.approx(outside[row["class"]])
    assert sum(r["inside"] for r in found.tests) == pytest.approx(sum(inside.values()))


@pytest.mark.parametrize("kind", ["even", "rare", "noise"])
def test_what_goes_both_ways_raises_no_alarm(kind):
    sizes = np.ones(8) / 8
    if kind == "rare":
        sizes[3] = 0.02
        sizes /= sizes.sum()
    for seed in range(3):
        x, y = draw(seed=seed, sizes=sizes, d=5)
        if kind == "noise":
            rows = np.random.default_rng(seed).choice(len(y), 200, replace=False)
            y[rows] = np.random.default_rng(seed).integers(0, 8, 200)
        result = ae.scan(x, y, method="auto")
        assert not result.info["detectors"]["one-sided"]["dataset"]["poisoned"]
