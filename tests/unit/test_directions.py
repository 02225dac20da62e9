"""Wide features and many classes: directions by passes agree with those of whole covariances."""

import numpy as np
import polars as pl
import pytest

import aisec_eval as ae
from aisec_eval._core import Spectral, Statistics
from aisec_eval.detectors.source import MIB


def planted(n, d, classes, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    strong = random.normal(size=(classes, d))
    x = random.normal(size=(n, d)) + random.normal(size=(n, 1)) * strong[y] + y[:, None]
    return x.astype(np.float32), y


def test_many_classes_in_little_memory():
    x, y = planted(2000, 300, 40)
    whole = ae.scan(x, y)
    calls = []
    tight = ae.scan(x, y, memory_limit=20 * MIB, progress=lambda *call: calls.append(call))
    assert whole.info["directions"] == "covariance matrices"
    assert whole.info["residual"] == 0
    assert tight.info["directions"].startswith("block Lanczos")
    assert tight.info["residual"] < 1e-3
    assert tight.info["notes"][-1].startswith("leading directions by block Lanczos")
    np.testing.assert_allclose(tight.eigenvalues, whole.eigenvalues, rtol=1e-5)
    np.testing.assert_allclose(tight.score, whole.score, rtol=0.01, atol=0.01 * whole.score.max())
    assert [call[0] for call in calls] == sorted(call[0] for call in calls)
    assert calls[-1][2] == "scores"
    again = ae.scan(x, y, memory_limit=21 * MIB)
    assert np.array_equal(again.score, tight.score)


def test_wide_features_from_a_stream_that_is_read_once():
    x, y = planted(300, 5000, 2)
    frame = pl.DataFrame({"x": x, "label": y})
    result = ae.scan(frame.iter_slices(70))
    assert result.info["directions"].startswith("block Lanczos")
    for c in (0, 1):
        own = x[y == c].astype(float)
        own -= own.mean(axis=0)
        values, vectors = np.linalg.eigh(own @ own.T)
        score = vectors[:, -1] ** 2 * values[-1]
        np.testing.assert_allclose(result.score[y == c], score, rtol=1e-3, atol=1e-3 * score.max())
    again = ae.scan(frame)
    assert np.array_equal(again.score, result.score)


def test_not_even_directions_fit():
    x, y = planted(200, 900, 100)
    with pytest.raises(ae.InputError, match="fewer dimensions"):
        ae.scan(x, y, memory_limit=8 * MIB)
    x, y = planted(30, 5000, 2)
    x[7, 4999] = np.inf
    with pytest.raises(ae.InputError, match="row 7: feature 4999 is not finite"):
        ae.scan(x, y)


def test_large_classes_are_multiplied_in_float32(tmp_path):
    x, y = planted(6000, 130, 2)
    result = ae.scan(x, y)
    statistics = Statistics(130, 64 * MIB)
    statistics.update(x, y)
    exact = Spectral(statistics).score(x, y)
    assert not np.array_equal(result.score, exact)
    np.testing.assert_allclose(result.score, exact, rtol=1e-6, atol=1e-6 * exact.max())
    pl.DataFrame({"x": x, "label": y}).write_parquet(tmp_path / "x.parquet", row_group_size=2500)
    for again in (
        ae.scan(x, y, memory_limit=8 * MIB),
        ae.scan(x.astype(float), y),
        ae.scan(tmp_path / "x.parquet"),
    ):
        assert np.array_equal(again.score, result.score)
