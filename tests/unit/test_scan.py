"""scan(): the same scores from every source, the published ones on the reference data, one line for
everything that cannot be scanned."""

import gc
import math
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2, false_discovery_control, spearmanr

import aisec_eval as ae
from aisec_eval.detectors.flag import benjamini_hochberg, highest_in_class
from aisec_eval.detectors.source import MIB, open_source
from aisec_eval.detectors.spectral import chi_square_tail


def draw(n=600, d=24, classes=3, seed=0, dtype=np.float32):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    mixing = random.normal(size=(classes, d, d))
    x = random.normal(size=(n, d))
    for c in range(classes):
        x[y == c] = x[y == c] @ mixing[c] + c
    return x.astype(dtype), y


def oracle(x, y):
    """Scores and eigenvalues by numpy's dense eigensolver in float64."""
    x, score, values = x.astype(np.float64), np.empty(len(y)), []
    for c in np.unique(y):
        rows = x[y == c] - x[y == c].mean(axis=0)
        value, vector = np.linalg.eigh(rows.T @ rows / len(rows))
        score[y == c] = (rows @ vector[:, -1]) ** 2
        values.append(value[-1])
    return score, np.array(values)


def same(a, b):
    return (
        np.array_equal(a.score, b.score)
        and np.array_equal(a.p_value, b.p_value)
        and np.array_equal(a.flagged, b.flagged)
        and np.array_equal(a.label, b.label)
        and np.array_equal(a.eigenvalues, b.eigenvalues)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_agrees_with_numpy(dtype):
    x, y = draw(dtype=dtype)
    result = ae.scan(x, y)
    score, values = oracle(x, y)
    np.testing.assert_allclose(result.eigenvalues, values, rtol=1e-12)
    np.testing.assert_allclose(result.score, score, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.p_value, chi2.sf(score / values[y], 1), rtol=1e-7)
    assert result.classes.tolist() == [0, 1, 2]
    assert result.info["counts"] == np.bincount(y).tolist()
    assert result.frame.columns == ["sample", "label", "score", "p_value", "flagged"]


def sources(x, y, folder):
    frame = pl.DataFrame({f"f{i}": x[:, i] for i in range(x.shape[1])} | {"label": y})
    nested = pl.DataFrame({"features": x, "label": y})
    frame.write_parquet(folder / "wide[0].parquet", row_group_size=100)
    nested.write_parquet(folder / "nested.parquet", row_group_size=100)
    nested.with_columns(pl.col("features").arr.to_list()).write_parquet(folder / "list.parquet")
    np.save(folder / "x.npy", x)
    np.save(folder / "fortran.npy", np.asfortranarray(x))
    np.save(folder / "big_endian.npy", x.astype(x.dtype.newbyteorder(">")))
    np.save(folder / "y.npy", y)
    yield "jax", jnp.asarray(x), jnp.asarray(y)
    yield "images", x.reshape(len(x), 2, -1), y
    yield "strided", np.repeat(x, 2, axis=1)[:, ::2], np.repeat(y, 2)[::2]
    yield "fortran", np.asfortranarray(x), y.astype(np.uint8)
    yield "float64", x.astype(np.float64), y
    yield "list", x.tolist(), y.tolist()
    yield "frame", frame, None
    yield "renamed", frame.rename({"label": "klass"}), "klass"
    yield "lazy", frame.lazy(), "label"
    yield (
        "filtered",
        pl.concat([frame, frame.with_columns(pl.lit(99, dtype=pl.Int64).alias("label"))])
        .lazy()
        .filter(pl.col("label") < 99),
        None,
    )
    for name in ("wide[0]", "nested", "list"):
        yield name, folder / f"{name}.parquet", None
    for name in ("x", "fortran", "big_endian"):
        yield name + ".npy", str(folder / f"{name}.npy"), folder / "y.npy"
    yield "npy and array", folder / "x.npy", y


def test_every_source_gives_the_same_bits(tmp_path):
    x, y = draw()
    expected = ae.scan(x, y)
    for name, features, labels in sources(x, y, tmp_path):
        assert same(ae.scan(features, labels), expected), name
        batches = [(bx.copy(), by) for bx, by in open_source(features, labels).batches(7)]
        assert max(len(by) for _, by in batches) <= 7, name
        assert np.array_equal(np.concatenate([bx for bx, _ in batches]), x), name
        assert np.array_equal(np.concatenate([by for _, by in batches]), y), name


def test_batches_and_threads_do_not_change_a_bit():
    from aisec_eval import _core

    x, y = draw(n=5000, d=200)
    expected = ae.scan(x, y)
    assert same(ae.scan(x, y, memory_limit=4 * MIB), expected)
    threads = _core.get_threads()
    try:
        for count in (1, 3):
            _core.set_threads(count)
            assert same(ae.scan(x, y), expected)
    finally:
        _core.set_threads(threads)


def test_without_labels_all_samples_are_one_class():
    x, _ = draw()
    result = ae.scan(x)
    np.testing.assert_allclose(result.score, oracle(x, np.zeros(len(x)))[0], rtol=1e-9, atol=1e-9)
    assert result.classes.tolist() == [0]


@pytest.mark.reference
@pytest.mark.parametrize("attack", ["badnets_5", "wanet_5", "flip_5"])
def test_published_scores(reference, attack):
    data = np.load(reference / "poison" / f"mnist_{attack}.npz")
    peer = np.load(reference / "poison" / f"peers_{attack}.npz")["spectral_centred"]
    result = ae.scan(data["features"], data["labels"])
    assert spearmanr(result.score, peer).statistic > 0.999999
    # The published scores are float16 and were computed in float32.
    close = np.isclose(result.score, peer.astype(float), rtol=2e-3, atol=2e-3)
    assert close.mean() > 0.999


@pytest.mark.reference
def test_few_false_alarms_on_clean_reference_data(reference):
    data = np.load(reference / "poison" / "mnist_clean_0.npz")
    assert ae.scan(data["features"], data["labels"]).flagged.sum() <= 0.001 * len(data["labels"])


def test_a_planted_patch_ranks_high():
    from aisec_eval.datasets.poison import plant_patch

    train = ae.load_dataset("digits", split="train")
    x, y, mask = plant_patch(train.x, train.y, rate=0.03, target=0)
    result = ae.scan(x, y, rate=mask.sum() / (y == 0).sum())
    target = y == 0
    share = (result.flagged & mask).sum() / mask.sum()
    assert share > 0.9
    assert result.score[mask].min() > np.median(result.score[target & ~mask])


def test_a_gaussian_class_keeps_the_discovery_rate():
    random = np.random.default_rng(0)
    clean = random.normal(size=(20_000, 4)) * [4, 1, 1, 1]
    assert ae.scan(clean).flagged.sum() <= 2
    np.testing.assert_allclose(np.quantile(ae.scan(clean).p_value, [0.1, 0.5, 0.9]),
                               [0.1, 0.5, 0.9], atol=0.02)  # fmt: skip
    clean[:20, 0] = 40
    flagged = ae.scan(clean).flagged
    assert flagged[:20].all()
    assert flagged[20:].sum() <= 2


def test_rate_flags_the_papers_number_in_each_class():
    x, y = draw(n=997)
    result = ae.scan(x, y, rate=0.1)
    for c in range(3):
        own = y == c
        quota = math.floor(0.15 * own.sum())
        assert result.flagged[own].sum() == quota
        assert result.score[own & result.flagged].min() >= result.score[own & ~result.flagged].max()


def test_flag_rules_by_hand_and_by_scipy():
    p = np.array([0.001, 0.2, 0.008, 0.03, 0.9, 0.03])
    assert benjamini_hochberg(p, 0.05).tolist() == [True, False, True, True, False, True]
    assert not benjamini_hochberg(np.array([0.5, 1.0]), 0.05).any()
    random = np.random.default_rng(1).uniform(size=500) ** 3
    expected = false_discovery_control(random) <= 0.01
    assert np.array_equal(benjamini_hochberg(random, 0.01), expected)
    score, label = np.array([1.0, 3, 3, 0, 5, 5]), np.array([7, 7, 7, 7, 2, 2])
    assert highest_in_class(score, label, 0.5).tolist() == [False, True, True, False, True, False]
    assert highest_in_class(score, label, 0.25).tolist() == [
        False,
        True,
        False,
        False,
        False,
        False,
    ]


def test_p_values_of_degenerate_classes():
    zero = np.zeros(1)
    assert chi_square_tail(zero, zero).tolist() == [1.0]
    x = np.full((10, 3), 0.1)
    x[9] = [1, 2, 3]
    result = ae.scan(x, [0] * 9 + [1])
    assert result.score.tolist() == [0.0] * 10
    assert result.p_value.tolist() == [1.0] * 10
    assert not result.flagged.any()
    assert "class 1 has 1 samples of 3 features" in result.info["notes"][0]


X, Y = draw(n=20, d=3)
NAN = X.copy()
NAN[7, 2] = np.nan


@pytest.mark.parametrize(
    ("features", "labels", "options", "message"),
    [
        (NAN, Y, {}, "row 7: feature 2 is not finite"),
        (np.where(np.isnan(NAN), np.inf, X), Y, {}, "row 7: feature 2 is not finite"),
        (X.astype(np.float64) * 1e200, Y, {}, "scale the features"),
        (X, Y.astype(str), {}, "np.unique"),
        (X, Y.astype(float), {}, "dtype float64, expected integers"),
        (X, Y[:5], {}, "expected one a sample: [20]"),
        (X, "label", {}, "pass an array"),
        (X[0], Y, {}, "expected [n, d]"),
        (X[:0], Y[:0], {}, "expected [n, d]"),
        (X[:, :0], Y, {}, "expected [n, d]"),
        (X.astype(complex), Y, {}, "dtype complex128"),
        (X.astype(object), Y, {}, "dtype object"),
        ([[1.0], [1.0, 2.0]], None, {}, "not an array"),
        (X, Y, {"method": "specter"}, "choose one of spectral"),
        (X, Y, {"rate": 0.0}, "between 0 and 0.5"),
        (X, Y, {"rate": "5%"}, "between 0 and 0.5"),
        (X, Y, {"rate": math.nan}, "between 0 and 0.5"),
        (X, Y, {"memory_limit": 1000}, "the least"),
        (np.zeros((50, 900), np.float32), range(50), {"memory_limit": 8 * MIB}, "fewer dimensions"),
        (pl.DataFrame({"a": [1.0, None], "label": [0, 0]}), None, {}, "null in row 1"),
        (pl.DataFrame({"a": [1.0, 2.0], "label": [0, None]}), None, {}, "label is null in row 1"),
        (pl.DataFrame({"a": ["x", "y"], "label": [0, 0]}), None, {}, "column 'a' has type String"),
        (pl.DataFrame({"a": [1.0], "label": ["x"]}), None, {}, "expected integers"),
        (pl.DataFrame({"a": [1.0]}), "label", {}, "must name one of its columns: a"),
        (pl.DataFrame({"label": [1]}), None, {}, "no feature columns"),
        (pl.DataFrame({"a": [1.0]}).head(0), None, {}, "holds no rows"),
        (pl.DataFrame({"a": [1.0]}).lazy().select("nope"), None, {}, "cannot be read"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(features, labels, options, message):
    with pytest.raises(ae.AisecError) as caught:
        ae.scan(features, labels, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.parquet", "x.npy"])
def test_bad_files_are_one_line(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(ae.DatasetError, match="no such file"):
        ae.scan(path)
    for content in (b"", b"noise" * 50):
        path.write_bytes(content)
        with pytest.raises(ae.DatasetError) as caught:
            ae.scan(path)
        assert "\n" not in str(caught.value)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ae.DatasetError, match=r"\.parquet and \.npy"):
        ae.scan(tmp_path / "x.csv")


@pytest.mark.parametrize("name", ["x.parquet", "x.npy"])
def test_a_file_that_changes_between_the_passes(tmp_path, name):
    x, y = draw(n=300, d=4)
    path = tmp_path / name

    def write(x, y):
        if path.suffix == ".npy":
            np.save(path, x)
        else:
            pl.DataFrame({"f": x, "label": y}).write_parquet(path)

    for change in (lambda: write(x[:200], y[:200]), lambda: path.unlink()):
        write(x, y)

        def at_the_end_of_pass_one(done, _total, _note, change=change):
            if done == 300:
                change()

        with pytest.raises(ae.DatasetError) as caught:
            ae.scan(path, y if path.suffix == ".npy" else None, progress=at_the_end_of_pass_one)
        assert "\n" not in str(caught.value)


def test_progress():
    x, y = draw()
    calls = []
    ae.scan(x, y, progress=lambda *call: calls.append(call))
    assert calls[-1] == (1200, 1200, "scores")
    assert [call[0] for call in calls] == sorted(call[0] for call in calls)
    assert {call[2] for call in calls} == {"statistics", "scores"}


def test_ctrl_c_ends_a_scan():
    x = np.broadcast_to(np.arange(900, dtype=np.float32), (2_000_000, 900))
    timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
    gc.collect()
    started = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ae.scan(x)
    assert time.perf_counter() - started < 10
