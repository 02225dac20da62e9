"""What must not change a score: batches, order within a class, rotation, shift, scale."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import aisec_eval as ae
from aisec_eval._core import Spectral, Statistics


@st.composite
def labelled(draw):
    """Features with one dominant direction a class, so that the leading eigenvector is unique."""
    seed = draw(st.integers(0, 10**6))
    n, d, classes = draw(st.integers(2, 120)), draw(st.integers(1, 20)), draw(st.integers(1, 4))
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    strong = random.normal(size=(classes, d))
    x = random.normal(size=(n, d)) * 0.1 + random.normal(size=(n, 1)) * 5 * strong[y] + y[:, None]
    return x, y, random


def close(a, b):
    scale = np.maximum(abs(a), abs(b)).max() + 1e-300
    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * scale)


@given(labelled(), st.integers(1, 130))
def test_batches_do_not_change_a_bit(data, batch):
    x, y, _ = data
    statistics = Statistics(x.shape[1], 1 << 30)
    for first in range(0, len(x), batch):
        statistics.update(x[first : first + batch], y[first : first + batch])
    fit = Spectral(statistics)
    score = [
        fit.score(x[first : first + batch], y[first : first + batch])
        for first in range(0, len(x), batch)
    ]
    assert np.array_equal(np.concatenate(score), ae.scan(x, y).score)


@given(labelled())
def test_order_changes_rounding_only(data):
    x, y, random = data
    order = random.permutation(len(x))
    close(ae.scan(x[order], y[order]).score, ae.scan(x, y).score[order])


@given(labelled())
def test_other_classes_do_not_matter(data):
    x, y, _ = data
    own = y == y[0]
    assert np.array_equal(ae.scan(x[own], y[own]).score, ae.scan(x, y).score[own])


@given(labelled(), st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_rotation_shift_and_scale(data, scale, shift):
    x, y, random = data
    rotation, _ = np.linalg.qr(random.normal(size=(x.shape[1], x.shape[1])))
    moved = ae.scan(x @ rotation * scale + shift * scale, y)
    result = ae.scan(x, y)
    close(moved.score, result.score * scale**2)
    np.testing.assert_allclose(moved.p_value, result.p_value, rtol=1e-5, atol=1e-9)


@given(labelled())
def test_labels_may_be_any_integers(data):
    x, y, _ = data
    names = np.array([-(2**62), 7, 2**62, 0])
    renamed = ae.scan(x, names[y])
    assert np.array_equal(renamed.score, ae.scan(x, y).score)
    assert renamed.classes.tolist() == sorted(set(names[y].tolist()))


@given(labelled(), st.floats(0.01, 0.49))
def test_flags_go_to_the_highest_scores(data, rate):
    x, y, _ = data
    for result in (ae.scan(x, y), ae.scan(x, y, rate=rate)):
        for c in np.unique(y):
            flagged = result.score[(y == c) & result.flagged]
            others = result.score[(y == c) & ~result.flagged]
            assert len(flagged) == 0 or len(others) == 0 or flagged.min() >= others.max()
        assert ((result.p_value >= 0) & (result.p_value <= 1)).all()
