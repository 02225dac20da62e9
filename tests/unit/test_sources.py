"""Every way to store the same rows gives the same rows; what cannot be read is one line."""

import io

import numpy as np
import polars as pl
import pytest

import aisec_eval as ae
from aisec_eval._core import Spectral, Statistics, Table
from aisec_eval.detectors.source import MIB, open_source


def read(source, rows=100, first=0):
    batches = [(x.copy(), y) for x, y in source.batches(rows, first)]
    assert all(len(x) == len(y) <= rows for x, y in batches)
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def frame(n=1000, d=5, seed=0):
    random = np.random.default_rng(seed)
    columns = {f"f{i}": random.normal(size=n).astype(np.float32) for i in range(d)}
    return pl.DataFrame(columns | {"label": random.integers(-3, 3, n)})


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "gzip", "lz4", "zstd"])
@pytest.mark.parametrize("page", [None, 300])
def test_parquet_of_every_codec(tmp_path, compression, page):
    data = frame()
    path = tmp_path / "x.parquet"
    data.write_parquet(path, compression=compression, row_group_size=400, data_page_size=page)
    for first in (0, 1, 399, 400, 777, 999):
        x, y = read(open_source(path, None), first=first)
        assert np.array_equal(x, data.drop("label").to_numpy()[first:])
        assert np.array_equal(y, data["label"].to_numpy()[first:])


TYPES = [
    pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
    pl.Float16, pl.Float32, pl.Float64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("few", [False, True], ids=["plain", "dictionary"])
def test_parquet_of_every_type(tmp_path, dtype, few):
    random = np.random.default_rng(1)
    whole = random.integers(0, 2 if dtype == pl.Boolean else 3 if few else 100, (700, 3))
    values = pl.DataFrame(whole, schema=["a", "b", "c"]).cast(dtype)
    path = tmp_path / "x.parquet"
    values.write_parquet(path, row_group_size=300, data_page_size=200)
    x, y = read(open_source(path, None), rows=64)
    expected = values.cast(pl.Float64).to_numpy()
    wide = dtype in (pl.Int32, pl.Int64, pl.UInt32, pl.UInt64, pl.Float64)
    assert x.dtype == (np.float64 if wide else np.float32)
    assert np.array_equal(x, expected)
    assert not y.any()


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
@pytest.mark.parametrize("dtype", [pl.Float32, pl.Int64, pl.UInt8])
def test_parquet_of_lists(tmp_path, shape, dtype):
    random = np.random.default_rng(2)
    values = random.integers(0, 50, (900, *shape))
    data = pl.DataFrame({"x": values, "y": random.integers(0, 9, 900)})
    data = data.with_columns(pl.col("x").cast(pl.Array(dtype, shape)))
    path = tmp_path / "x.parquet"
    data.write_parquet(path, row_group_size=500, data_page_size=400)
    for first in (0, 499, 650):
        x, y = read(open_source(path, "y"), first=first)
        assert np.array_equal(x, values.reshape(900, -1)[first:])
        assert np.array_equal(y, data["y"].to_numpy()[first:])


def test_windows_smaller_than_a_row_group_and_batches_over_groups(tmp_path):
    data = frame(n=5000, d=9)
    path = tmp_path / "x.parquet"
    for page in (None, 1000):
        data.write_parquet(path, row_group_size=1700, data_page_size=page)
        for window in (1, 9 * 4 * 600, MIB):
            rows = Table(str(path)).scan(3, memory_limit=window)
            x, y = np.empty((1111, 9), np.float32), np.empty(1111, np.int64)
            found = []
            while count := rows.read(x, y):
                found.append(np.column_stack([x[:count], y[:count]]))
            assert [len(part) for part in found] == [1111, 1111, 1111, 1111, 553]
            assert np.array_equal(np.concatenate(found), data.to_numpy()[3:])


def test_many_files_are_one_table(tmp_path):
    data = frame()
    for i, size in enumerate([300, 1, 450, 249]):
        first = [0, 300, 301, 751][i]
        data.slice(first, size).write_parquet(tmp_path / f"part-{i}.parquet")
    files = sorted(tmp_path.iterdir())
    expected = ae.scan(data)
    for features in (tmp_path, files, str(tmp_path / "part-?.parquet"), f"file://{tmp_path}"):
        source = open_source(features, None)
        assert source.rows == 1000
        x, y = read(source, first=300)
        assert np.array_equal(x, data.drop("label").to_numpy()[300:])
        assert np.array_equal(y, data["label"].to_numpy()[300:])
        assert np.array_equal(ae.scan(features).score, expected.score)


def test_stores_and_open_files(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    data = frame()
    path = tmp_path / "x.parquet"
    data.write_parquet(path, row_group_size=300)
    store = fsspec.filesystem("memory")
    store.pipe_file("/bucket/a/x.parquet", path.read_bytes())
    expected = ae.scan(data)
    for features in ("memory://bucket/a/x.parquet", "memory://bucket", "memory://bucket/a/*"):
        assert np.array_equal(ae.scan(features).score, expected.score)
    assert np.array_equal(ae.scan(io.BytesIO(path.read_bytes())).score, expected.score)
    with path.open("rb") as file:
        assert np.array_equal(ae.scan(file).score, expected.score)
    with pytest.raises(ae.DatasetError, match=r"memory://bucket/none\.parquet: no such file"):
        ae.scan("memory://bucket/none.parquet")

    def replaced(done, _total, _note):
        if done == 1000:
            store.pipe_file("/bucket/a/x.parquet", path.read_bytes())

    with pytest.raises(ae.DatasetError, match="changed since it was opened"):
        ae.scan("memory://bucket/a/x.parquet", progress=replaced)
    with pytest.raises(ae.AisecError) as caught:
        ae.scan("nosuch://bucket/x.parquet")
    assert "\n" not in str(caught.value)


class Batch:
    """What any library's record batch looks like from outside."""

    def __init__(self, data):
        self.data = data

    def __arrow_c_stream__(self, requested_schema=None):
        return self.data.__arrow_c_stream__(requested_schema)


def batches(data):
    yield data.head(0)
    for part in data.iter_slices(130):
        yield Batch(part)


def test_arrow_streams():
    data = frame()
    expected = ae.scan(data)
    for features in (
        batches(data),
        lambda: batches(data),
        Batch(data),
        lambda: Batch(data),
        iter([data.head(400), data.tail(600)]),
    ):
        result = ae.scan(features)
        assert np.array_equal(result.score, expected.score)
        assert np.array_equal(result.label, expected.label)
    nested = data.select(pl.concat_list(pl.exclude("label")).alias("x"), "label")
    assert np.array_equal(ae.scan(batches(nested)).score, expected.score)


def ragged(data):
    yield data.head(3)
    yield data.head(3).drop("f0")


@pytest.mark.parametrize(
    ("stream", "labels", "message"),
    [
        (lambda: iter([]), None, "holds no rows"),
        (lambda: iter([np.zeros((3, 2))]), None, "expected Arrow record batches"),
        (lambda: 5, None, "no Arrow stream"),
        (lambda: batches(frame()), "nope", "must name one of its columns"),
        (lambda: ragged(frame()), None, "4 features"),
        (lambda: batches(frame().with_columns(f1=None)), None, "f1"),
        (lambda: iter([pl.DataFrame({"a": ["x"]})]), None, "type String"),
    ],
)
def test_streams_that_do_not_fit(stream, labels, message):
    for features in (stream, stream()):
        if not hasattr(features, "__next__") and not callable(features):
            continue
        with pytest.raises(ae.AisecError, match=message) as caught:
            ae.scan(features, labels)
        assert "\n" not in str(caught.value)


def with_null(row):
    values = [float(i) for i in range(900)]
    values[row] = None
    return pl.DataFrame({"a": [1.0] * 900, "b": values, "label": [0] * 900})


LISTS = pl.DataFrame({"x": [[1.0, 2.0]] * 700})


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (with_null(0), None, "column 'b' is null in row 0"),
        (with_null(777), None, "column 'b' is null in row 777"),
        (with_null(5).rename({"label": "c", "b": "label"}), None, "label.*expected integers"),
        (frame().with_columns(label=None), None, "label"),
        (frame().with_columns(label=pl.col("label").replace(2, None)), None, "'label' is null in"),
        (frame().with_columns(f1=pl.lit("x")), None, "column 'f1' has type string; drop it"),
        (frame().with_columns(f1=pl.date(2020, 1, 1)), None, "column 'f1' has type date"),
        (frame().with_columns(f1=pl.struct("f0", "f2")), None, "column 'f1' has type nested"),
        (frame().with_columns(f1=pl.concat_list("f0")), None, "column 'f1' has type list"),
        (frame(), "f0", "expected integers"),
        (frame(), "nope", "must name one of its columns: f0, f1"),
        (frame().select("label"), None, "no feature columns"),
        (frame().head(0), None, "holds no rows"),
        (LISTS.head(0), None, "holds no rows"),
        (pl.concat([LISTS, pl.DataFrame({"x": [[1.0]]})]), None, "1 values in row 700"),
        (pl.concat([LISTS, pl.DataFrame({"x": [[1.0, None]]})]), None, "null in row 700"),
        (pl.concat([LISTS, pl.DataFrame({"x": [None]})]), None, "null in row 700"),
        (pl.DataFrame({"x": [["a"]]}), None, "list of string"),
        (pl.DataFrame({"x": [1.0, float("nan")]}), None, "row 1: feature 0 is not finite"),
    ],
)
def test_parquet_that_cannot_be_scanned(tmp_path, data, labels, message):
    data.write_parquet(tmp_path / "x.parquet", row_group_size=500)
    with pytest.raises(ae.AisecError, match=message) as caught:
        ae.scan(tmp_path / "x.parquet", labels)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (frame().drop("f2"), "column 'f2' is missing in .*a.parquet"),
        (frame().with_columns(extra=1.0), "column 'extra' is not in"),
        (frame().select("f1", "f0", "f2", "f3", "f4", "label"), "another order"),
        (frame().cast({"f1": pl.Float64}), "other types"),
        (frame().with_columns(f1=pl.lit("x")), "drop it"),
    ],
)
def test_files_of_another_schema(tmp_path, second, message):
    frame().write_parquet(tmp_path / "a.parquet")
    second.write_parquet(tmp_path / "b.parquet")
    with pytest.raises(ae.DatasetError, match=message) as caught:
        ae.scan(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "b.parquet"))
    assert "\n" not in str(caught.value)


def test_a_file_of_many_that_disappears_or_changes(tmp_path):
    for change in ("unlink", "rewrite"):
        for name in "ab":
            frame().write_parquet(tmp_path / f"{name}.parquet")

        def between(done, _total, _note, change=change):
            path = tmp_path / "b.parquet"
            if done == 2000 and change == "unlink":
                path.unlink()
            elif done == 2000:
                frame(seed=1).write_parquet(path)

        with pytest.raises(ae.DatasetError) as caught:
            ae.scan(tmp_path, progress=between)
        assert str(caught.value).startswith(str(tmp_path / "b.parquet"))
        assert "\n" not in str(caught.value)


def test_damaged_parquet_is_refused_or_read(tmp_path):
    """Bytes changed anywhere: an error of ours or other numbers, never a crash."""
    path = tmp_path / "x.parquet"
    frame(n=300, d=2).write_parquet(path, compression="snappy", row_group_size=100)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        damaged = bytearray(data)
        for at in random.integers(0, len(data), random.integers(1, 4)):
            damaged[at] = random.integers(0, 256)
        if random.random() < 0.1:
            damaged = damaged[: random.integers(0, len(data))]
        path.write_bytes(damaged)
        try:
            ae.scan(path)
        except ae.AisecError as error:
            errors.append(str(error))
    assert len(errors) > 100
    assert not any("\n" in error for error in errors)


def test_npy_that_was_cut_or_boasts(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((100, 3)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ae.DatasetError, match="shorter than its header says"):
        ae.scan(path)
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**13, 3)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ae.DatasetError, match="shorter than its header says"):
        ae.scan(path)


def test_shards_of_a_file_give_the_same_scores(tmp_path):
    """Each shard opens the file for itself; only bytes go between them."""
    data = frame(n=3000, d=20)
    path = tmp_path / "x.parquet"
    data.write_parquet(path, row_group_size=700)
    part = 512

    def shard(first, end):
        source, left = open_source(path, None), end - first
        statistics = Statistics(20, 1 << 30, first=first, part_rows=part)
        for x, y in source.batches(333, first):
            statistics.update(x[:left], y[:left])
            left -= min(left, len(y))
        return statistics.to_bytes()

    whole = Statistics.from_bytes(shard(0, 3000), 1 << 30)
    merged = Statistics.from_bytes(shard(0, 1024), 1 << 30)
    for first, end in ((1024, 1536), (1536, 3000)):
        merged.merge(Statistics.from_bytes(shard(first, end), 1 << 30))
    assert merged.to_bytes() == whole.to_bytes()
    for ours, theirs in zip(merged.classes(), whole.classes(), strict=True):
        assert np.array_equal(ours, theirs)
    x, y = data.drop("label").to_numpy(order="c"), data["label"].to_numpy()
    labels, counts, means = whole.classes()
    assert np.array_equal(labels, np.unique(y))
    for label, count, mean in zip(labels, counts, means, strict=True):
        own = x[y == label].astype(float)
        assert len(own) == count
        np.testing.assert_allclose(mean, own.mean(axis=0), atol=1e-13)
        expected = np.cov(own.T, bias=True)
        np.testing.assert_allclose(whole.covariance(int(label)), expected, atol=1e-13)
    assert np.array_equal(Spectral(merged).score(x, y), Spectral(whole).score(x, y))
    with pytest.raises(KeyError):
        whole.covariance(99)
    with pytest.raises(ValueError, match="do not meet"):
        merged.merge(Statistics.from_bytes(shard(0, 512), 1 << 30))
    with pytest.raises(ValueError, match="with themselves"):
        merged.merge(merged)
    with pytest.raises(ValueError, match="damaged"):
        Statistics.from_bytes(b"noise", 1 << 30)
