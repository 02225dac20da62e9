"""Neighbours against all pairs, whatever the samples are; and the same for any thread count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisec_eval import _core


def search(x, k, metric, threads=None, step=7):
    before = _core.get_threads()
    if threads:
        _core.set_threads(threads)
    try:
        found = _core.Neighbours(np.ascontiguousarray(x, np.float32), k, metric)
        while found.progress[0] < found.progress[1]:
            found.advance(step)
        return found.finish()
    finally:
        _core.set_threads(before)


def brute_force(x, k, metric):
    """Indices and distances by the definition, in float64."""
    x = x.astype(np.float64)
    if metric == "euclidean":
        distance = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    else:
        length = np.sqrt((x**2).sum(1))
        both = np.outer(length, length)
        cosine = np.divide(x @ x.T, both, out=np.zeros_like(both), where=both > 0)
        distance = np.maximum(1 - cosine, 0)
    np.fill_diagonal(distance, np.inf)
    ids = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(distance, ids, 1)


@st.composite
def samples(draw):
    """Whole numbers, so that distances are exact and ties are many; copies, zeros, constants."""
    n, d = draw(st.integers(2, 300)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = random.integers(-2, 3, (n, d)).astype(np.float32)
    x[random.random(n) < draw(st.sampled_from([0, 0.3, 0.9]))] = x[0]
    x[random.random(n) < draw(st.sampled_from([0, 0.1]))] = 0
    x[:, random.random(d) < draw(st.sampled_from([0, 0.5, 1]))] = draw(st.integers(-1, 1))
    return x * np.float32(2.0 ** draw(st.sampled_from([-40, 0, 40])))


@given(samples(), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_euclidean_neighbours_are_those_of_all_pairs(x, k):
    k = min(k, len(x) - 1)
    ids, distance = search(x, k, "euclidean")
    expected, exact = brute_force(x, k, "euclidean")
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(distance, exact, rtol=1e-7)


@given(samples(), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_cosine_neighbours_are_those_of_all_pairs(x, k):
    k = min(k, len(x) - 1)
    ids, distance = search(x, k, "cosine")
    _, exact = brute_force(x, k, "cosine")
    # Equal cosines of different samples differ by rounding: distances decide, not indices.
    np.testing.assert_allclose(distance, exact, rtol=1e-6, atol=1e-15)
    assert all(len(set(row)) == k and i not in row for i, row in enumerate(ids.tolist()))


@given(samples(), st.sampled_from(["cosine", "euclidean"]), st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_threads_and_parts_change_nothing(x, metric, threads, step):
    k = min(5, len(x) - 1)
    whole, again = search(x, k, metric), search(x, k, metric, threads, step)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("search_of", [_core.Neighbours, _core.NeighbourGraph])
def test_arguments_that_do_not_fit(search_of):
    x = np.zeros((4, 3), np.float32)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k={k} must be at least 1 and below"):
            search_of(x, k, "cosine")
    with pytest.raises(ValueError, match=r'metric "l3" is not one of "cosine", "euclidean"'):
        search_of(x, 1, "l3")
    with pytest.raises(ValueError, match="left"):
        search_of(np.eye(4, dtype=np.float32), 1, "cosine").finish()


def test_a_graph_does_not_depend_on_threads():
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 6)) @ random.normal(size=(6, 20))
    found = []
    before = _core.get_threads()
    for threads in (1, 3):
        _core.set_threads(threads)
        search = _core.NeighbourGraph(x.astype(np.float32), 10, "euclidean", seed=5)
        while search.progress[0] < search.progress[1]:
            search.advance()
        found.append(search.finish())
    _core.set_threads(before)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][2] == found[1][2]
    assert found[0][2][0] > 0.99
