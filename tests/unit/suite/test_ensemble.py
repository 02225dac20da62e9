"""Ensembles for certificates against poisoning: the same votes as one loop, resumed, re-checked."""

import hashlib
import os
import signal

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers import check_votes, partition, save_radii, spread
from aisec_eval.errors import DatasetError, IncompleteRunError, InputError, RunError
from aisec_eval.suite import Interrupted, load_votes, train_votes

CENTROIDS = """
import os
import numpy as np

def train(x, y, seed):
    log = os.environ.get("ENSEMBLE_LOG")
    if log:
        with open(log, "a") as file:
            file.write(f"{len(x)}\\n")
    centres = np.stack([
        x[y == c].mean(axis=0) if (y == c).any() else np.full(x.shape[1], np.inf) for c in range(10)
    ])
    return lambda inputs: (2 * inputs @ np.nan_to_num(centres, posinf=0).T
                           - (centres**2).sum(axis=1)).astype(np.float32)

def fails(x, y, seed):
    if os.path.exists(os.environ["ENSEMBLE_FLAG"]) and seed % 3 == 0:
        raise ArithmeticError("diverged")
    return train(x, y, seed)

calls = 0

def forgets(x, y, seed):
    global calls
    calls += 1
    return lambda inputs: np.full(len(inputs), calls % 10)

def strange(x, y, seed):
    return lambda inputs: np.full(len(inputs), 0.5)

def outside(x, y, seed):
    return lambda inputs: np.full(len(inputs), 10)
"""


def softmax_regression(x, y, steps=60):
    """Ten classes by gradient descent on the cross-entropy, in numpy."""
    weights = np.zeros((x.shape[1], 10), dtype=np.float64)
    for _ in range(steps):
        p = np.exp(x @ weights)
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        weights -= 0.5 * x.T @ p / len(x)
    return weights


LOGISTIC = '''
import numpy as np

def train(x, y, seed):
    """Softmax regression by gradient descent."""
    x = x.astype(np.float64)
    weights = np.zeros((x.shape[1], 10))
    for _ in range(60):
        p = np.exp(x @ weights)
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        weights -= 0.5 * x.T @ p / len(x)
    return lambda inputs: (inputs @ weights).argmax(axis=1)
'''


@pytest.fixture(scope="module")
def digits():
    train, test = (ae.load_dataset("digits", split=split) for split in ("train", "test"))
    flat = [data.x.reshape(len(data.x), -1) for data in (train, test)]
    return flat[0], train.y, flat[1], test.y


@pytest.fixture
def code(tmp_path):
    file = tmp_path / "centroids_of_test.py"
    file.write_text(CENTROIDS)
    return file


def test_fifty_models_of_digits(digits, tmp_path):
    x, y, inputs, labels = digits
    (tmp_path / "logistic_of_test.py").write_text(LOGISTIC)
    ensemble = train_votes(
        f"{tmp_path / 'logistic_of_test.py'}:train", x, y, inputs, folder=tmp_path / "run",
        models=50, workers=2,
    )  # fmt: skip
    # The definition, in one loop: a hash of the input says which model sees a sample.
    bucket = np.array([
        int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=16, key=bytes(8)).digest()[:8],
                       "little") % 50
        for row in x
    ])  # fmt: skip
    assert ensemble.bucket_sizes.tolist() == np.bincount(bucket, minlength=50).tolist()
    for model in (0, 17, 49):
        mine = bucket == model
        weights = softmax_regression(x[mine].astype(np.float64), y[mine])
        agree = ensemble.votes[:, model] == (inputs @ weights).argmax(axis=1)
        assert agree.mean() > 0.999  # sums in another order
    certified = ensemble.certify(labels)
    assert certified.certified_accuracy(0) > 0.8
    assert certified.certified_accuracy(5) > 0.6
    assert certified.certified_accuracy(10) > 0.4
    assert check_votes(ensemble.votes, certified) == []
    file = save_radii(certified, ensemble.votes, tmp_path / "radii.json")
    assert check_votes(tmp_path / "run" / "votes.npy", file) == []
    again = load_votes(tmp_path / "run")
    np.testing.assert_array_equal(again.certify().radius, certified.radius)


def test_votes_do_not_depend_on_rows_workers_or_kills(digits, code, tmp_path, monkeypatch):
    x, y, inputs, _ = (part[:200] for part in digits)
    train = f"{code}:train"
    options = {"models": 12, "d": 3, "logits": True, "seed": 5}
    whole = train_votes(train, x, y, inputs, folder=tmp_path / "a", workers=1, **options)

    log = tmp_path / "log"
    monkeypatch.setenv("ENSEMBLE_LOG", str(log))
    stopped = []

    def stop(done, _total, _note):
        if done and not stopped:
            stopped.append(done)
            os.kill(os.getpid(), signal.SIGINT)

    rows = np.random.default_rng(0).permutation(len(x))
    again = {"folder": tmp_path / "b", "workers": 2, "shard_models": 2, **options}
    with pytest.raises(Interrupted):
        train_votes(train, x[rows], y[rows], inputs, progress=stop, **again)
    assert not (tmp_path / "b" / "votes.npy").exists()
    before = len(list((tmp_path / "b" / "shards").iterdir()))
    assert 0 < before < 6
    log.write_text("")
    resumed = train_votes(train, x[rows], y[rows], inputs, **again)
    # Of each shard one model is trained twice.
    assert len(log.read_text().split()) == 3 * (6 - before)
    np.testing.assert_array_equal(resumed.votes, whole.votes)
    np.testing.assert_array_equal(resumed.logits, whole.logits)
    np.testing.assert_array_equal(whole.feeds, spread(12, 3, seed=5))
    np.testing.assert_array_equal(whole.votes, whole.logits.argmax(axis=2))
    for method in ("finite-aggregation", "run-off"):
        certified = whole.certify(method=method)
        votes = whole.votes if method == "finite-aggregation" else whole.logits
        assert check_votes(votes, certified) == []
    for method in ("dpa", "bagging"):
        with pytest.raises(InputError, match=r"finite-aggregation|does not fit"):
            whole.certify(method=method)
    with pytest.raises(RunError, match="another digest"):
        train_votes(train, x + 1, y, inputs, **again)


def test_what_failed_is_trained_again(digits, code, tmp_path, monkeypatch):
    x, y, inputs, _ = (part[:100] for part in digits)
    flag = tmp_path / "flag"
    flag.touch()
    monkeypatch.setenv("ENSEMBLE_FLAG", str(flag))
    options = {"folder": tmp_path / "run", "models": 6, "shard_models": 1, "workers": 1}
    with pytest.raises(IncompleteRunError, match=r"shards failed .*diverged") as error:
        train_votes(f"{code}:fails", x, y, inputs, **options)
    assert "\n" not in str(error.value)
    with pytest.raises(RunError, match="missing"):
        load_votes(tmp_path / "run")
    flag.unlink()
    assert train_votes(f"{code}:fails", x, y, inputs, **options).votes.shape == (100, 6)


def test_functions_that_do_not_fit_are_named(digits, code, tmp_path):
    x, y, inputs, _ = (part[:50] for part in digits)
    for name, message in [
        ("forgets", "trained twice, votes differently"),
        ("strange", r"predict must return integer labels \[50\]"),
        ("outside", "outside 0..9"),
    ]:
        options = {"folder": tmp_path / name, "models": 2, "shard_models": 2, "workers": 1}
        with pytest.raises(IncompleteRunError, match=message):
            train_votes(f"{code}:{name}", x, y, inputs, num_classes=10, **options)


def test_options_that_do_not_fit_are_named(digits, code, tmp_path):
    x, y, inputs, _ = (part[:20] for part in digits)
    train = f"{code}:train"

    def local(x, y, seed):
        del x, y, seed

    for bad, options, message in [
        ("train", {}, "module:function"),
        ("no_such_module:train", {}, "no_such_module"),
        (f"{code}:missing", {}, "no function"),
        (f"{tmp_path / 'nothing.py'}:train", {}, "No such file"),
        (local, {}, "top of a file"),
        (train, {"models": 0}, "models"),
        (train, {"d": 5}, "d=5"),
        (train, {"num_classes": 3}, "labels up to 9"),
        (train, {"executor": "slurm"}, "local"),
        (train, {"seed": -1}, "seed"),
        (train, {"shard_models": 0}, "shard_models"),
    ]:
        with pytest.raises(InputError, match=message):
            train_votes(bad, x, y, inputs, **{"folder": tmp_path / "r", "models": 4, **options})
    for arrays, message in [
        ((x[0], y, inputs), "x must be"),
        ((x, y[:-1], inputs), "y must be"),
        ((x, y - 1, inputs), "from 0"),
        ((x, y, inputs[:, 1:]), "inputs have shape"),
    ]:
        with pytest.raises(InputError, match=message):
            train_votes(train, *arrays, folder=tmp_path / "r", models=4)
    assert not (tmp_path / "r").exists()
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "thesis.tex").touch()
    with pytest.raises(RunError, match="no ensemble"):
        train_votes(train, x, y, inputs, folder=tmp_path / "r", models=4)


def test_a_model_without_samples_votes_for_class_0(digits, code, tmp_path):
    x, y, inputs, _ = (part[:3] for part in digits)
    options = {"folder": tmp_path / "r", "models": 8, "num_classes": 10, "workers": 1}
    found = train_votes(f"{code}:train", x, y, inputs, **options)
    empty = found.bucket_sizes == 0
    assert empty.sum() >= 5
    assert (found.votes[:, empty] == 0).all()
    cut = partition(x, y, 8)
    for model in np.flatnonzero(~empty):
        [first, *_] = cut.rows([model])
        if found.bucket_sizes[model] == 1:
            assert (found.votes[:, model] == y[first]).all()


def test_damaged_files_are_named(digits, code, tmp_path):
    x, y, inputs, _ = (part[:20] for part in digits)
    options = {"models": 2, "num_classes": 10, "workers": 1}
    train_votes(f"{code}:train", x, y, inputs, folder=tmp_path / "r", **options)
    np.save(tmp_path / "r" / "votes.npy", np.zeros((1, 2), np.uint8))
    with pytest.raises(RunError, match="has shape"):
        load_votes(tmp_path / "r")
    (tmp_path / "r" / "votes.npy").write_bytes(b"\x80\x04]q\x00.")
    with pytest.raises(RunError, match="not a readable"):
        load_votes(tmp_path / "r")
    with pytest.raises(DatasetError):
        check_votes(tmp_path / "r" / "votes.npy", tmp_path / "none.json")
