"""Deep k-NN: votes by the definition, clean-label poison outvoted, and what is refused."""

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.detectors import knn


def blobs(n=900, classes=3, d=12, spread=0.3, seed=0):
    random = np.random.default_rng(seed)
    centre = random.normal(size=(classes, d))
    y = random.integers(0, classes, n)
    return (centre[y] + spread * random.normal(size=(n, d))).astype(np.float32), y


def votes_of(x, y, k):
    """Votes for the own and for the most frequent other class, from all cosines in float64."""
    x = x.astype(np.float64)
    length = np.sqrt((x**2).sum(1))
    distance = 1 - x @ x.T / np.outer(length, length)
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    own, rival = [], []
    for i in range(len(y)):
        counts = np.bincount(y[order[i, : k[y[i]]]], minlength=len(k))
        own.append(counts[y[i]])
        counts[y[i]] = 0
        rival.append(counts.max())
    return np.array(own), np.array(rival)


@pytest.mark.parametrize("rate", [None, 0.1])
def test_votes_are_those_of_the_definition(rate):
    x, y = blobs(spread=1.0)
    y[y == 2] = np.where(np.random.default_rng(1).random((y == 2).sum()) < 0.8, 1, 2)
    result = ae.scan(x, y, method="deep-knn", rate=rate)
    counts = np.bincount(y)
    k = counts if rate is None else 2 * np.floor(rate * counts).astype(int) + 1
    own, rival = votes_of(x, y, k)
    assert result.info["k"] == k.tolist()
    np.testing.assert_allclose(result.score, (rival - own) / k[y])
    np.testing.assert_array_equal(result.flagged, rival > own)
    expected = [(result.score >= score).mean() for score in result.score]
    np.testing.assert_allclose(result.p_value, expected)


def test_poison_among_the_target_is_outvoted():
    x, y = blobs()
    random = np.random.default_rng(2)
    # Samples of class 0 that lie where one sample of class 1 does.
    poison = random.choice(np.flatnonzero(y == 0), 40, replace=False)
    target = x[np.flatnonzero(y == 1)[0]]
    x[poison] = target + 0.02 * random.normal(size=(40, x.shape[1]))
    result = ae.scan(x, y, method="deep-knn")
    assert result.flagged[poison].all()
    assert result.flagged.sum() <= 42
    assert result.info["rivals"][0] == [0, 1, 40]
    # A neighbourhood of fewer than the poison is the poison's own.
    near = ae.scan(x, y, method="neighbours")
    assert not near.flagged[poison].any()


def test_one_search_serves_all_that_is_asked_of_neighbours():
    x, y = blobs()
    x[7] = x[3]
    result = ae.scan(x, y, method="deep-knn")
    near = ae.scan(x, y, method="neighbours")
    for key in ("near_duplicates", "near_duplicate_pairs", "outliers", "outlier_samples"):
        assert result.info[key] == near.info[key]
    for key in ("dataset", "agreement"):
        assert result.info["neighbours"][key] == near.info[key]


def test_what_cannot_be_scanned_is_refused_in_one_line(monkeypatch):
    x, y = blobs(200)
    with pytest.raises(ae.InputError, match="two classes"):
        ae.scan(x, method="deep-knn")
    with pytest.raises(ae.InputError, match="one sample"):
        ae.scan(x[:1], y[:1], method="deep-knn")
    with pytest.raises(ae.InputError, match=r"need .* MiB, memory_limit is 4 MiB"):
        ae.scan(np.zeros((50_000, 8), np.float32), method="deep-knn", memory_limit=4 << 20)
    x[4, 1] = np.inf
    with pytest.raises(ae.InputError, match="row 4: feature 1 is not finite"):
        ae.scan(x, y, method="deep-knn")
    monkeypatch.setattr(knn, "EXACT", 100)
    with pytest.raises(ae.InputError, match=r"200 samples are too many .* random sample of rows"):
        ae.scan(x, y, method="deep-knn")


@pytest.mark.reference
def test_flips_of_the_reference_data(reference):
    with np.load(reference / "poison" / "mnist_flip_5.npz") as data:
        x, y, poison = data["features"], data["labels"].astype(np.int64), data["poison"]
    result = ae.scan(x, y, method="deep-knn")
    assert np.mean(result.flagged[poison]) > 0.95
    assert np.mean(result.flagged[~poison]) < 0.05
