"""What must not matter to subspace detectors: order, rotation, shift, scale, other classes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import aisec_eval as ae
from aisec_eval import _core


@st.composite
def planted(draw):
    """Classes of one shape with distinct variances; one of them has a second part."""
    seed = draw(st.integers(0, 10**6))
    random = np.random.default_rng(seed)
    n, d, classes = 600, draw(st.integers(3, 8)), 6
    y = random.integers(0, classes, n)
    x = random.normal(size=(n, d)) * 1.5 ** -np.arange(d) + 3 * random.normal(size=(classes, d))[y]
    x[(y == 2) & (random.uniform(size=n) < 0.3), 0] += 12
    return x, y, random


def facts_of(result, fact):
    return np.array([entry[fact] for entry in result.info["class_tests"]])


@settings(max_examples=15)
@given(planted(), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_rotation_shift_and_scale(data, scale, shift):
    x, y, random = data
    rotation, _ = np.linalg.qr(random.normal(size=(x.shape[1], x.shape[1])))
    moved = x @ rotation * scale + shift * scale
    for method, fact in (("scan", "gain"), ("activation-clustering", "share")):
        one, other = (ae.scan(data, y, method=method) for data in (x, moved))
        # Clusters may be other ones in classes that have none; where there are two, the same.
        np.testing.assert_allclose(facts_of(one, fact)[2], facts_of(other, fact)[2], rtol=1e-6)
        assert np.array_equal(one.score[y == 2] > 0, other.score[y == 2] > 0)
    one, other = (ae.scan(data, y, method="lda") for data in (x, moved))
    np.testing.assert_allclose(other.score, one.score, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(other.p_value, one.p_value, rtol=1e-4, atol=1e-9)


@settings(max_examples=10)
@given(planted())
def test_order_changes_rounding_only(data):
    x, y, random = data
    order = random.permutation(len(x))
    for method in ("lda", "legacy_uncentred"):
        one, other = ae.scan(x, y, method=method), ae.scan(x[order], y[order], method=method)
        np.testing.assert_allclose(other.score, one.score[order], rtol=1e-6, atol=1e-8)


@settings(max_examples=15)
@given(planted())
def test_the_clusters_of_a_class_do_not_depend_on_other_classes(data):
    x, y, _ = data
    keep = y != 4
    one = ae.scan(x, y, method="activation-clustering")
    other = ae.scan(x[keep], y[keep], method="activation-clustering")
    assert facts_of(one, "share")[2] == facts_of(other, "share")[2]
    assert facts_of(one, "p")[2] == facts_of(other, "p")[2]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 400), st.integers(1, 6), st.integers(1, 97))
def test_projections_in_any_batches(seed, n, width, batch):
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, 9)).astype(np.float32), random.integers(0, 3, n)
    projection = _core.Projection(
        np.arange(3), random.normal(size=(3, 9)), random.normal(size=(3, 9, width))
    )
    parts = [projection.apply(x[i : i + batch], y[i : i + batch], i) for i in range(0, n, batch)]
    assert np.array_equal(np.concatenate(parts), projection.apply(x, y))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(30, 300), st.integers(1, 5), st.integers(0, 40))
def test_a_filter_removes_no_more_than_allowed(seed, n, width, limit):
    random = np.random.default_rng(seed)
    z = random.standard_t(2.5, size=(n, width))
    z -= z.mean(0)
    kept, _, _ = _core.trusted_rows(z, 0.1, limit, True)
    assert (~kept).sum() <= limit
    scores, _, weights = _core.quantum_entropy(z, kept, 4.0, False)
    assert (scores >= -1e-12).all()
    assert abs(weights.sum() - 1) < 1e-9
