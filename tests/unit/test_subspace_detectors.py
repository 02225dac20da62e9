"""Activation clustering, SCAn, SPECTRE, discriminants and parity modes: what holds for all of them:
planted poison is found, batches and threads change nothing, what does not fit is one line."""

import numpy as np
import polars as pl
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.detectors import METHODS
from aisec_eval.detectors.source import MIB

JUDGING = ["activation-clustering", "activation-clustering-ica", "scan", "spectre"]
OTHERS = ["lda", "legacy_uncentred", "art_logits", "bdbench_np_exp"]
ALL = JUDGING + OTHERS


def draw(seed=0, n=3000, d=20, classes=6, poison=0.0, shift=12.0):
    """Gaussian classes of one shape; a share of one class is moved in a direction of its own."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    mixing = random.normal(size=(d, d)) / np.sqrt(d)
    x = random.normal(size=(n, d)) @ mixing + 4 * random.normal(size=(classes, d))[y]
    planted = (y == 1) & (random.uniform(size=n) < poison)
    direction = random.normal(size=d)
    x[planted] += shift * direction / np.linalg.norm(direction)
    return x.astype(np.float32), y, planted


def rate_for(method):
    return 0.1 if method == "bdbench_np_exp" else None


def same(a, b):
    return (
        np.array_equal(a.score, b.score)
        and np.array_equal(a.p_value, b.p_value)
        and np.array_equal(a.flagged, b.flagged)
        and a.info == b.info
    )


def separation(score, planted):
    """Share of (planted, clean) pairs in the right order."""
    order = np.argsort(np.argsort(score))
    ranks = order[planted].sum() - planted.sum() * (planted.sum() - 1) / 2
    return ranks / planted.sum() / (~planted).sum()


@pytest.mark.parametrize("method", JUDGING)
def test_planted_poison_is_found_and_clean_data_is_not_accused(method):
    x, y, planted = draw(poison=0.2)
    result = ae.scan(x, y, method=method)
    assert result.info["dataset"]["poisoned"], result.info["class_tests"]
    assert result.info["target_classes"] == [1]
    assert separation(result.score, planted) > 0.97
    # SPECTRE flags 1.5 times the rate of 0.1 it assumes, of the 0.2 there are.
    assert result.flagged[planted].mean() > (0.7 if method == "spectre" else 0.9)
    assert result.flagged[~planted].mean() < 0.01
    assert ((result.p_value >= 0) & (result.p_value <= 1)).all()
    clean = [ae.scan(*draw(seed)[:2], method=method) for seed in range(1, 4)]
    assert sum(scan.info["dataset"]["poisoned"] for scan in clean) == 0
    assert not any(scan.flagged.any() for scan in clean)


@pytest.mark.parametrize("method", ALL)
def test_batches_threads_and_sources_do_not_change_a_bit(method, tmp_path):
    x, y, _ = draw(n=700, d=20, poison=0.2)
    rate = rate_for(method)
    expected = ae.scan(x, y, method=method, rate=rate)
    threads = _core.get_threads()
    try:
        _core.set_threads(3 if threads != 3 else 1)
        assert same(ae.scan(x, y, method=method, rate=rate), expected)
    finally:
        _core.set_threads(threads)
    small = ae.scan(x, y, method=method, rate=rate, memory_limit=8 * MIB)
    assert np.array_equal(small.score, expected.score)
    frame = pl.DataFrame({"features": x, "label": y})
    frame.write_parquet(tmp_path / "x.parquet", row_group_size=301)
    parquet = ae.scan(tmp_path / "x.parquet", method=method, rate=rate)
    assert np.array_equal(parquet.score, expected.score)
    strided = ae.scan(np.repeat(x, 2, axis=1)[:, ::2], y, method=method, rate=rate)
    assert same(strided, expected)


@pytest.mark.parametrize("method", ALL)
def test_labels_with_gaps_half_precision_and_float64(method):
    x, y, _ = draw(n=900, poison=0.2)
    half = x.astype(np.float16)
    rate = rate_for(method)
    result = ae.scan(half, y, method=method, rate=rate)
    assert np.array_equal(
        result.score, ae.scan(half.astype(np.float64), y, method=method, rate=rate).score
    )
    # Random numbers go by label, so clusters are the same, and odds, up to rounding.
    gaps = ae.scan(half, y * 1000 - 7, method=method, rate=rate)
    assert np.isfinite(gaps.score).all()
    assert gaps.classes.tolist() == [c * 1000 - 7 for c in range(6)]


@pytest.mark.parametrize("method", ALL)
def test_what_cannot_be_scanned_is_one_line(method):
    x, y, _ = draw(n=600)
    rate = rate_for(method)

    def refused(x, y, **options):
        with pytest.raises(ae.InputError) as caught:
            ae.scan(x, y, method=method, rate=rate, **options)
        message = str(caught.value)
        assert "\n" not in message
        return message

    for value in (np.nan, np.inf):
        broken = x.copy()
        broken[17, 3] = value
        assert "row 17: feature 3 is not finite" in refused(broken, y)
    assert "dtype <U" in refused(x, y.astype(str))
    assert "at least one row" in refused(x[:0], y[:0])
    huge = x.astype(np.float64) * 1e200
    assert "overflow" in refused(huge, y)


@pytest.mark.parametrize("method", ALL)
def test_odd_classes_are_scanned_or_refused_in_one_line(method):
    x, y, _ = draw(n=600)
    rate = rate_for(method)
    # One member, constant class, constant feature, few samples for the dimension.
    odd = y.copy()
    odd[0] = 77
    x[odd == 2] = 1.5
    x[:, 4] = -3.0
    odd[np.flatnonzero(y == 3)[:7]] = 78
    result = ae.scan(x, odd, method=method, rate=rate)
    assert np.isfinite(result.score).all()
    assert ((result.p_value >= 0) & (result.p_value <= 1)).all()
    assert not result.info.get("dataset", {}).get("poisoned")

    constant = np.ones((50, 3), np.float32)
    for labels in (np.arange(50) % 5, None):
        if method in ("scan", "lda"):
            with pytest.raises(ae.InputError, match=r"constant|one class|there is one") as caught:
                ae.scan(constant, labels, method=method)
            assert "\n" not in str(caught.value)
        else:
            result = ae.scan(constant, labels, method=method, rate=rate)
            assert np.isfinite(result.score).all()
            assert method in OTHERS or not result.flagged.any()

    if method in ("scan", "lda"):
        with pytest.raises(ae.InputError, match=r"one class|there is one"):
            ae.scan(x, None, method=method)
    else:
        assert np.isfinite(ae.scan(x, None, method=method, rate=rate).score).all()
    single = ae.scan(np.eye(2, dtype=np.float32), [0, 1], method="activation-clustering")
    assert not single.flagged.any()


def test_few_classes_have_no_verdict_where_classes_are_compared():
    x, y, _ = draw(classes=3, poison=0.3)
    for method in ("scan", "spectre"):
        verdict = ae.scan(x, y, method=method).info
        assert verdict["dataset"]["p"] is None
        assert not verdict["dataset"]["poisoned"]
        assert any("fewer than 5" in note for note in verdict["notes"])
    # The valley needs no other class.
    assert ae.scan(x, y, method="activation-clustering").info["target_classes"] == [1]


def test_a_rate_flags_that_many():
    x, y, _ = draw(poison=0.2)
    for method in [*JUDGING, "lda"]:
        flagged = ae.scan(x, y, method=method, rate=0.1).flagged
        for c in range(6):
            assert flagged[y == c].sum() == int(0.15 * (y == c).sum())


def test_every_method_is_named_and_documented():
    for method in METHODS:
        assert f'"{method}"' in ae.scan.__doc__, method
