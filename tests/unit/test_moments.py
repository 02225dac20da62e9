"""Directions of classes: exact, sketched, and of narrower features; kernels beside plain numpy."""

import numpy as np
import pytest
from scipy.stats import chi2

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.detectors.moments import gather, reduced
from aisec_eval.detectors.passes import Reader
from aisec_eval.detectors.projections import project_classes, rows_of_classes
from aisec_eval.detectors.quadratic import weighted_chi_square_tail
from aisec_eval.detectors.source import MIB, open_source


def reader(x, y, limit=None):
    return Reader(open_source(x, y, memory_limit=limit), limit, None, 2)


def draw(n=4000, d=64, classes=3, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    spectrum = 3.0 ** -np.arange(d)
    x = random.normal(size=(n, d)) * np.sqrt(spectrum) * 10
    turns = [np.linalg.qr(random.normal(size=(d, d)))[0] for _ in range(3)]
    for c in range(classes):
        x[y == c] = x[y == c] @ turns[c % 3] + c
    return x, y


def test_exact_directions_are_numpys():
    x, y = draw()
    moments = gather(reader(x, y), pooled=True)
    assert moments.info() == {"directions": "covariance matrices", "sketch_error": 0.0}
    pooled = 0
    for c in range(3):
        rows = x[y == c] - x[y == c].mean(0)
        covariance = rows.T @ rows / len(rows)
        pooled = pooled + rows.T @ rows / len(x)
        values, vectors = np.linalg.eigh(covariance)
        found, basis = moments.leading(c, 3)
        np.testing.assert_allclose(found, values[::-1][:3], rtol=1e-9)
        np.testing.assert_allclose(np.abs(np.sum(basis * vectors[:, ::-1][:, :3], 0)), 1, rtol=1e-9)
        assert (basis[np.abs(basis).argmax(0), range(3)] > 0).all()
        assert moments.variance[c] == pytest.approx(np.trace(covariance))
        whiten = np.linalg.qr(np.random.default_rng(c).normal(size=(64, 64)))[0][:, :9] * 2
        found, _ = moments.leading(c, 2, whiten)
        expected = np.linalg.eigvalsh(whiten.T @ covariance @ whiten)[::-1][:2]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(moments.within(), pooled, atol=1e-9)


def test_a_sketch_where_matrices_do_not_fit():
    x, y = draw(n=3000, d=200, classes=40)
    exact = gather(reader(x, y), pooled=True)
    limit = 8 * MIB
    sketched = gather(reader(x, y, limit), pooled=True)
    assert 0 < sketched.directions < 128
    assert "frequent directions" in sketched.info()["directions"]
    assert any("covariances of 200 x 200 do not fit" in note for note in sketched.notes)
    np.testing.assert_allclose(sketched.means, exact.means, atol=1e-10)
    np.testing.assert_allclose(sketched.variance, exact.variance, rtol=1e-9)
    np.testing.assert_allclose(sketched.within(), exact.within(), atol=1e-8)
    for c in range(0, 40, 7):
        ours, basis = sketched.leading(c, 4)
        truth, directions = exact.leading(c, 4)
        assert (ours <= truth + 1e-9).all()
        assert (truth - ours <= sketched.error[c] + 1e-9).all()
        assert np.abs(basis[:, 0] @ directions[:, 0]) > 0.99


def test_two_thousand_classes():
    # 2,000 matrices of 64 x 64 are 64 MiB, or half of that if folded; here all has 20 MiB.
    random = np.random.default_rng(0)
    classes, d, limit = 2000, 64, 20 * MIB
    y = np.repeat(np.arange(classes), 20)
    x = random.normal(size=(len(y), d)).astype(np.float32) * 0.2
    x[:, :4] += random.normal(size=(len(y), 4)) * 2
    x += 3 * random.normal(size=(classes, d)).astype(np.float32)[y]
    planted = (y == 1234) & (np.arange(len(y)) % 20 < 7)
    x[planted, 40:60] += 4
    result = ae.scan(x, y, method="scan", memory_limit=limit)
    assert result.info["directions"].startswith("frequent directions")
    assert result.info["sketch_error"] > 0
    assert result.info["target_classes"] == [1234]
    assert result.flagged[planted].all()
    assert result.flagged[~planted].sum() == 0
    assert ae.scan(x, y, method="lda", memory_limit=limit).info["features"] == d


def test_wide_features_are_seen_in_fewer_directions():
    random = np.random.default_rng(1)
    y = random.integers(0, 6, 600)
    hidden = random.normal(size=(600, 12)) + 4 * random.normal(size=(6, 12))[y]
    planted = (y == 1) & (random.uniform(size=600) < 0.3)
    hidden[planted] += 4
    mixing = random.normal(size=(12, 4500)) / 100
    x = (hidden @ mixing + 1e-3 * random.normal(size=(600, 4500))).astype(np.float32)
    narrow, notes = reduced(reader(x, y, 64 * MIB))
    assert next(narrow.batches(10))[0].shape[1] < 200
    assert "too wide for matrices" in notes[0]
    result = ae.scan(x, y, method="scan", memory_limit=64 * MIB)
    assert result.info["target_classes"] == [1]
    assert result.flagged[planted].mean() > 0.9
    for method in ("activation-clustering", "spectre", "lda"):
        assert np.isfinite(ae.scan(x, y, method=method, memory_limit=64 * MIB).score).all()


def test_too_little_memory_is_one_line():
    x, y = draw(n=3000, d=300, classes=600)
    with pytest.raises(ae.InputError, match="memory_limit"):
        ae.scan(x, y, method="activation-clustering", memory_limit=4 * MIB)
    big = np.zeros((200_000, 6), np.float32)
    big[:, 0] = np.arange(200_000) % 7
    with pytest.raises(ae.InputError, match="samples of class 0 in 6 dimensions need"):
        ae.scan(big, None, method="activation-clustering", memory_limit=8 * MIB)


def test_projections_do_not_depend_on_the_memory_there_is():
    x, y = draw(n=3000, d=30, classes=5)
    order, starts = rows_of_classes(y)
    assert all((y[order[starts[c] : starts[c + 1]]] == c).all() for c in range(5))
    found = []
    for limit in (None, 4 * MIB):
        one = reader(x, y, limit)
        moments = gather(one)
        bases = {i: moments.leading(i, 7)[1].copy() for i in (0, 2, 4)}
        parts = project_classes(one, moments, [0, 2, 4], 7, bases.__getitem__)
        found.append([(i, rows.copy(), z.copy()) for i, rows, z in parts])
    for (i, rows, z), (j, others, w) in zip(*found, strict=True):
        assert i == j
        assert np.array_equal(rows, others)
        assert np.array_equal(z, w)
        np.testing.assert_allclose(z, (x[y == i] - x[y == i].mean(0)) @ bases[i], atol=1e-9)


def test_tails_of_weighted_chi_squares():
    values = np.array([0.0, 0.01, 0.3, 1.0, 2.5, 6.0, 20.0])
    np.testing.assert_allclose(
        weighted_chi_square_tail(values, np.array([1.0])), chi2.sf(values, 1), rtol=1e-9
    )
    # Equal weights: a chi-square; the approximation is good to about a percent.
    equal = weighted_chi_square_tail(values, np.full(5, 0.2))
    np.testing.assert_allclose(equal, chi2.sf(values / 0.2, 5), rtol=0.02)
    random = np.random.default_rng(0)
    weights = np.array([0.6, 0.3, 0.05, 0.05])
    drawn = np.sort(random.normal(size=(400_000, 4)) ** 2 @ weights)
    tail = weighted_chi_square_tail(drawn[[40_000, 200_000, 360_000, 396_000]], weights)
    np.testing.assert_allclose(tail, [0.9, 0.5, 0.1, 0.01], rtol=0.03)
    many = weighted_chi_square_tail(np.linspace(0, 40, 1000), weights)
    assert (np.diff(many) <= 0).all()


def test_components_are_scikit_learns():
    from sklearn.decomposition import FastICA

    random = np.random.default_rng(0)
    sources = np.stack([random.uniform(-1, 1, 3000), random.choice([-1.0, 1.0], 3000)], axis=1)
    x = sources @ random.normal(size=(2, 2))
    x -= x.mean(0)
    white = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / len(x))).T
    ours, iterations, converged = _core.fast_ica(np.ascontiguousarray(white), 1e-8, 1000, 0)
    assert converged
    assert iterations < 100
    theirs = FastICA(2, whiten="unit-variance", tol=1e-8, random_state=0).fit_transform(x)
    correlation = np.abs(ours.T @ theirs / len(x))
    np.testing.assert_allclose(np.sort(correlation.max(0)), 1, atol=1e-6)


def test_two_means_is_scikit_learns():
    from sklearn.cluster import KMeans

    random = np.random.default_rng(0)
    z = random.normal(size=(2000, 5))
    z[:600] += 2
    part, centres, inertia, total, _ = _core.two_means(z, 0, 0, 10)
    theirs = KMeans(2, n_init=10, random_state=0, tol=0).fit(z)
    assert inertia == pytest.approx(theirs.inertia_, rel=1e-6)
    assert total == pytest.approx(((z - z.mean(0)) ** 2).sum())
    assert np.array_equal(part, theirs.labels_ == np.bincount(theirs.labels_).argmin())
    np.testing.assert_allclose(centres[1], z[part].mean(0), atol=1e-9)


def test_bindings_refuse_what_does_not_fit():
    z = np.zeros((3, 2))
    for call in (
        lambda: _core.two_means(z.astype(np.float32), 0, 0, 1),
        lambda: _core.two_means(z[:0], 0, 0, 1),
        lambda: _core.trusted_rows(z, 0.0, 1, True),
        lambda: _core.quantum_entropy(z, np.ones(2, bool), 4.0, False),
        lambda: _core.Projection(np.array([0]), np.zeros((1, 2)), np.zeros((1, 3, 1))),
        lambda: _core.Sketch(0, 1, 100),
        lambda: _core.gaussian_shares(np.empty(0), 1, 1, 0, 0, 1),
    ):
        with pytest.raises(ValueError, match=r"expected|must|no rows"):
            call()
