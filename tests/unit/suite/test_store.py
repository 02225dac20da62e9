"""Shards are whole or absent, checked when read, and never silently replaced."""

import errno
import os
from dataclasses import replace

import numpy as np
import pytest

from aisec_eval import _files
from aisec_eval.errors import RunError
from aisec_eval.suite.inputs import DataSource, ModelSource
from aisec_eval.suite.shard import Shard
from aisec_eval.suite.store import Store, check
from aisec_eval.threats import Linf
from helpers.make_run import make_evaluation, make_scan

EVALUATION = make_evaluation("net", Linf("0.1"), samples=20)


def shard(seed=0, kind="evaluate"):
    return Shard(
        {"kind": kind, "seed": seed}, ModelSource("net", "net.onnx"), DataSource("d", "d"), (0, 20)
    )


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "run")
    store.prepare()
    return store


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_results_come_back_as_they_were(store):
    store.write(shard(), EVALUATION)
    assert store.missing([shard()]) == ([], [])
    back = store.read(shard())
    assert back.frame.equals(EVALUATION.frame, null_equal=True)
    assert np.array_equal(back.x_adv, EVALUATION.x_adv)
    store.write(shard(kind="scan"), make_scan())
    assert store.read(shard(kind="scan")).result.frame.equals(make_scan().result.frame)
    assert list(store.temporary.iterdir()) == []


def test_the_same_result_twice_is_one(store):
    path = store.write(shard(), EVALUATION)
    before = files(path)
    assert store.write(shard(), EVALUATION) == path
    assert files(store.shards) == {path.name / k: v for k, v in before.items()}


def test_a_differing_duplicate_is_an_alarm_and_both_are_kept(store):
    path = store.write(shard(), EVALUATION)
    before = files(path)
    other = replace(EVALUATION, margin=EVALUATION.margin + 1e-9)
    with pytest.raises(RunError, match="computed twice with different results"):
        store.write(shard(), other)
    assert files(path) == before
    [rival] = [p for p in store.shards.iterdir() if p != path]
    assert rival.name.startswith(f"{shard().key}.differs-")
    check(rival, shard().key)


@pytest.mark.parametrize(
    "name", ["verdicts.parquet", "evidence.npz", "evaluation.json", "shard.json"]
)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_any_damage_is_found_and_computed_again(store, name, damage):
    path = store.write(shard(), EVALUATION)
    before = files(path)
    file = path / name
    data = file.read_bytes()
    if damage == "flip":
        # Not in white space, which JSON does not care about: the last letter or digit.
        at = max(i for i, byte in enumerate(data) if bytes([byte]).isalnum())
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif damage == "truncate":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    with pytest.raises(RunError):
        check(path, shard().key)
    todo, damaged = store.missing([shard()])
    assert [s.key for s in todo] == [shard().key]
    assert len(damaged) == 1
    assert str(path) in damaged[0]
    store.write(shard(), EVALUATION)
    assert files(path) == before


def test_a_damaged_shard_in_the_way_is_replaced(store):
    path = store.write(shard(), EVALUATION)
    before = files(path)
    (path / "verdicts.parquet").write_bytes(b"x")
    store.write(shard(), EVALUATION)
    assert files(path) == before


def test_a_shard_under_another_name_is_refused(store):
    path = store.write(shard(), EVALUATION)
    path.rename(store.shards / shard(seed=1).key)
    assert [s.identity["seed"] for s in store.missing([shard(seed=1)])[0]] == [1]


def test_a_link_out_of_the_folder_is_damage(store, tmp_path):
    path = store.write(shard(), EVALUATION)
    (path / "evidence.npz").rename(tmp_path / "elsewhere.npz")
    (path / "evidence.npz").symlink_to(tmp_path / "elsewhere.npz")
    assert len(store.missing([shard()])[0]) == 1


@pytest.mark.parametrize("step", range(8))
def test_a_full_disk_leaves_nothing_half_written(store, monkeypatch, step):
    """Whichever write fails: one line, no shard, no litter, and it works once there is room."""
    calls = iter(range(100))
    real = os.fsync

    def full(handle):
        if next(calls) == step:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*No space left on device"):
        store.write(shard(), EVALUATION)
    monkeypatch.setattr(_files.os, "fsync", real)
    assert list(store.shards.iterdir()) == []
    assert list(store.temporary.iterdir()) == []
    store.write(shard(), EVALUATION)
    assert store.missing([shard()]) == ([], [])


def test_what_a_killed_writer_left_is_removed(store):
    (store.temporary / "0123-abc").mkdir()
    (store.temporary / "0123-abc" / "verdicts.parquet").write_bytes(b"PAR1")
    store.prepare()
    assert list(store.temporary.iterdir()) == []
