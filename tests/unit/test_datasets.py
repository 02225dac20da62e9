"""Datasets: what loads, what it knows about itself, and one line for everything that does not."""

import io
import zipfile
from fractions import Fraction

import numpy as np
import polars as pl
import pytest

import aisec_eval as ae
from aisec_eval.datasets.poison import plant_patch

X = np.arange(60, dtype=np.uint8).reshape(5, 3, 4) * 4
Y = np.array([0, 1, 2, 1, 0])


@pytest.fixture
def npz(tmp_path):
    def write(name="data.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def refusal(*args, **options):
    with pytest.raises(ae.DatasetError) as caught:
        ae.load_dataset(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_digits():
    x, y = data = ae.load_dataset("digits")
    assert x.shape == (599, 1, 8, 8)
    assert x.dtype == np.float32
    assert y.dtype == data.ids.dtype == np.int64
    assert data.lattice == Fraction(1, 16)
    assert data.bounds == (0, 1)
    assert data.num_classes == 10
    assert set(np.unique(x * 16)) == set(range(17))
    counts = np.bincount(y)
    assert counts.max() - counts.min() <= 3


def test_digits_splits_are_fixed_and_disjoint():
    train, test, both = (ae.load_dataset("digits", split=s) for s in ("train", "test", "all"))
    assert sorted([*train.ids, *test.ids]) == list(both.ids) == list(range(1797))
    assert np.array_equal(both.x[test.ids], test.x)
    assert np.array_equal(both.y[train.ids], train.y)
    assert list(test.ids[:6]) == [8, 10, 11, 13, 16, 19]
    assert len({train.digest, test.digest, both.digest}) == 3
    assert "train, test, all" in refusal("digits", split="valid")


def test_ids_keep_their_number_in_any_part():
    whole, part = ae.load_dataset("digits"), ae.load_dataset("digits", ids=(10, 20))
    assert np.array_equal(part.ids, whole.ids[10:20])
    assert np.array_equal(part.x, whole.x[10:20])
    assert part.num_classes == 10
    for ids in [(5, 5), (-1, 3), (0, 600), (3,), "ab", 7]:
        refusal("digits", ids=ids)


def test_npz_integers_know_their_lattice(npz):
    data = ae.load_dataset(npz(x=X, y=Y))
    assert data.lattice == Fraction(1, 255)
    exact = [Fraction(int(v), 255) for v in X.flat]
    assert [
        abs(Fraction(float(v)) - e) <= e / 2**24 for v, e in zip(data.x.flat, exact, strict=True)
    ]
    assert np.array_equal(data.x, (X.astype(np.float32) / np.float32(255)))
    assert ae.load_dataset(npz(x=X // 20, y=Y)).lattice == Fraction(1, 16)
    assert ae.load_dataset(npz(x=X > 100, y=Y)).lattice == 1
    assert ae.load_dataset(npz(x=X // 20, y=Y), scale=255).lattice == Fraction(1, 255)
    assert "scale" in refusal(npz(x=X.astype(int) - 1, y=Y))
    assert "scale" in refusal(npz(x=X.astype(int) * 9, y=Y))
    assert "scale" in refusal(npz(x=X.astype(float), y=Y), scale=255)
    assert "scale" in refusal(npz(x=X, y=Y), scale=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats(npz, dtype):
    x = (X / 256).astype(dtype)
    data = ae.load_dataset(npz(x=x, y=Y.astype(np.uint8)))
    assert data.x.dtype == np.float32
    assert np.array_equal(data.x, x)
    assert data.lattice is None
    assert data.bounds == (0, 1)
    assert ae.load_dataset(npz(x=x - 1, y=Y)).bounds == (-1, (x - 1).max())
    assert ae.load_dataset(npz(x=x - 1, y=Y), bounds=(-1, 1)).bounds == (-1, 1)
    assert "do not hold" in refusal(npz(x=x - 1, y=Y), bounds=(-0.5, 1))


def test_npz_splits_and_names(npz):
    path = npz(x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3], other=Y)
    assert len(ae.load_dataset(path).x) == 3
    assert len(ae.load_dataset(path, split="train").x) == 5
    assert len(ae.load_dataset(path, split="train", labels="other").x) == 5
    assert "no array 'x' or 'x_all'" in refusal(path, split="all")
    assert "holds x_train" in refusal(path, labels="absent")


def test_npy(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    np.save(tmp_path / "y.npy", Y)
    by_path = ae.load_dataset(tmp_path / "x.npy", labels=tmp_path / "y.npy")
    by_array = ae.load_dataset(str(tmp_path / "x.npy"), labels=Y)
    assert by_path.digest == by_array.digest
    assert by_path.x.flags.c_contiguous
    assert "labels" in refusal(tmp_path / "x.npy")


def test_parquet_columns_and_arrays(tmp_path, npz):
    flat = X.reshape(5, 12)
    columns = pl.DataFrame({f"p{i}": flat[:, i] for i in range(12)} | {"label": Y})
    lists = pl.DataFrame({"image": flat.tolist(), "label": Y}).with_columns(
        pl.col("image").cast(pl.List(pl.UInt8))
    )
    arrays = pl.DataFrame({"image": flat, "label": Y})
    expected = ae.load_dataset(npz(x=X, y=Y)).digest
    for frame in (columns, lists, arrays):
        frame.write_parquet(tmp_path / "d[0].parquet")
        data = ae.load_dataset(tmp_path / "d[0].parquet", shape=(3, 4))
        assert data.digest == expected
        assert data.lattice == Fraction(1, 255)
    nested = pl.DataFrame({"image": X, "label": Y})
    nested.write_parquet(tmp_path / "d.parquet")
    assert ae.load_dataset(tmp_path / "d.parquet").digest == expected
    assert "does not fill" in refusal(tmp_path / "d.parquet", shape=(5, 4))
    assert "label column 'klass'" in refusal(tmp_path / "d.parquet", labels="klass")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, None], "label": [0, 1]}, "null in row 1"),
        ({"a": [[1.0], [1.0, 2.0]], "label": [0, 1]}, "1 values in row 0 and 2 in row 1"),
        ({"a": [[1.0, 2.0], [1.0, None]], "label": [0, 1]}, "nan in row 1"),
        ({"a": [["x"], ["y"]], "label": [0, 1]}, "plain numbers"),
        ({"a": ["x", "y"], "label": [0, 1]}, "column 'a' has type String"),
        ({"label": [0, 1]}, "no feature columns"),
        ({"a": [1.0, 2.0], "label": ["0", "1"]}, "labels have dtype"),
        ({"a": [1.0, 2.0], "label": [0, None]}, "labels have dtype"),
        ({"a": [1.0, float("nan")], "label": [0, 1]}, "nan in row 1"),
    ],
)  # fmt: skip
def test_bad_parquet(tmp_path, columns, message):
    pl.DataFrame(columns).write_parquet(tmp_path / "d.parquet")
    assert message in refusal(tmp_path / "d.parquet")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_missing_noise_empty_and_truncated_files(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    options = {"labels": Y} if suffix == ".npy" else {}
    assert "no such file" in refusal(path, **options)
    path.mkdir()
    refusal(path, **options)
    path.rmdir()
    whole = io.BytesIO()
    if suffix == ".npz":
        np.savez_compressed(whole, x=X, y=Y)
    elif suffix == ".npy":
        np.save(whole, X)
    else:
        pl.DataFrame({"a": X[:, 0, 0], "label": Y}).write_parquet(whole)
    data = whole.getvalue()
    for content in (b"", b"noise" * 100, data[: len(data) // 2], data[:-1]):
        path.write_bytes(content)
        assert str(path) in refusal(path, **options)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:0], Y[:0], "no samples"),
        (X[:, :0], Y, "no samples"),
        (np.arange(5), Y, "expected [samples, ...]"),
        (np.float32(3), Y, "expected [samples, ...]"),
        (X, Y[:4], "5 samples need labels of shape [5], got [4]"),
        (X, Y[:, None], "labels of shape [5]"),
        (X, Y.astype(str), "np.unique"),
        (X, Y.astype(float), "np.unique"),
        (X, Y - 1, "label -1 in row 0"),
        (X, Y * 2, "no sample has label 1"),
        (X, Y + 1, "no sample has label 0"),
        (np.where(X == 236, np.nan, X), Y, "nan in row 4"),
        (np.where(X == 40, np.inf, X), Y, "inf in row 0"),
        (np.where(X == 40, 1e300, X), Y, "1e+300 in row 0"),
        (X.astype(complex), Y, "dtype complex128"),
        (X.astype(str), Y, "expected floats or integers"),
    ],
)
def test_bad_arrays(npz, x, y, message):
    assert message in refusal(npz(x=x, y=y))


def test_absent_classes_can_be_declared(npz):
    path = npz(x=X, y=Y * 2)
    assert ae.load_dataset(path, num_classes=10).num_classes == 10
    assert "label 4 in row 2; expected 0..3" in refusal(path, num_classes=4)


def test_nothing_is_unpickled(tmp_path, npz):
    objects = np.array([{}, {}], dtype=object)
    assert "Python objects" in refusal(npz(x=objects, y=Y))
    np.save(tmp_path / "o.npy", objects)
    assert "Python objects" in refusal(tmp_path / "o.npy", labels=Y)


def test_declared_sizes_are_checked_before_allocation(tmp_path):
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 8), }\n"
    huge = np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text
    (tmp_path / "x.npy").write_bytes(huge)
    refusal(tmp_path / "x.npy", labels=Y)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", huge)
        archive.writestr("y.npy", huge)
    assert "declares" in refusal(tmp_path / "d.npz")


@pytest.mark.parametrize("source", ["cifar", "data.csv", "", "digits.txt"])
def test_unknown_source(source):
    assert "'digits' or a path that ends in .npz" in refusal(source)


def test_planted_patch():
    train = ae.load_dataset("digits", split="train")
    x, y, mask = plant_patch(train.x, train.y, rate=0.05, target=3, seed=1)
    assert mask.sum() == round(0.05 * len(train.y))
    assert (y[mask] == 3).all()
    assert (train.y[mask] != 3).all()
    assert np.array_equal(x[~mask], train.x[~mask])
    assert np.array_equal(y[~mask], train.y[~mask])
    corner = x[mask][:, 0, -3:, -3:]
    assert (corner == np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])).all()
    assert np.array_equal(x[mask][..., :5, :], train.x[mask][..., :5, :])
    again = plant_patch(train.x, train.y, rate=0.05, target=3, seed=1)
    assert np.array_equal(again[2], mask)
    other = plant_patch(train.x, train.y, rate=0.05, target=3, seed=2)
    assert not np.array_equal(other[2], mask)
    assert list(np.flatnonzero(mask)[:4]) == [5, 24, 54, 66]


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0},
        {"rate": 1},
        {"rate": 0.999},
        {"rate": 1e-9},
        {"rate": float("nan")},
        {"size": 9},
    ],
)
def test_bad_plants(options):
    train = ae.load_dataset("digits", split="train")
    with pytest.raises(ae.InputError):
        plant_patch(train.x, train.y, **{"rate": 0.1, "target": 3, **options})
