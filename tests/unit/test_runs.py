"""Run folders: same bytes for the same results, all or nothing, and nothing trusted on reading."""

import json
import os
import shutil
import zipfile
from dataclasses import fields, is_dataclass

import numpy as np
import polars as pl
import pytest

from aisec_eval import RunError, _files, load_run
from aisec_eval.runs import (
    entry_name,
    read_evaluation,
    read_scan,
    save_evaluation,
    write_evaluation,
    write_run,
    write_scan,
)
from aisec_eval.threats import Linf
from helpers.make_run import make_evaluation, make_run, make_scan


def same(a, b):
    if is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)
        )
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return a == b


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def evaluation():
    return make_evaluation("net", Linf("0.1"))


@pytest.fixture
def saved(tmp_path, evaluation):
    return save_evaluation(evaluation, tmp_path / "run")


def entry(folder):
    return next((folder / "evaluations").iterdir())


def test_round_trip_is_exact(saved, evaluation):
    run = load_run(saved)
    assert len(run.evaluations) == 1
    assert same(run.evaluations[0], evaluation)
    assert run.evaluations[0].frame.equals(evaluation.frame)
    assert run.manifest["kind"] == "evaluation"
    assert set(evaluation.frame["verdict"]) == {"misclassified", "broken", "certified", "open"}


def test_scan_round_trip(tmp_path):
    scan = make_scan()
    assert same(read_scan(write_scan(scan, tmp_path)), scan)


def test_an_evaluation_without_broken_samples(tmp_path):
    safe = make_evaluation("net", Linf(0))
    assert safe.x_adv.shape == (0, 1, 8, 8)
    assert same(read_evaluation(write_evaluation(safe, tmp_path)), safe)


def test_suite_run_and_summary(tmp_path):
    run = make_run(tmp_path / "r", errors=["shard 3 failed"])
    assert len(run.evaluations) == 12
    assert run.errors == ("shard 3 failed",)
    assert run.summary.height == 12
    assert (run.summary["certified"] <= run.summary["attacked"]).all()
    assert run.scans[0].poison.sum() == 10


def test_bytes_are_deterministic(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    make_run(tmp_path / "a")
    assert first == contents(tmp_path / "a")
    assert not [name for name in first if name.endswith(".tmp")]


def test_an_existing_folder_is_not_overwritten(saved, evaluation):
    before = contents(saved)
    with pytest.raises(RunError, match="not empty; choose a new folder"):
        save_evaluation(evaluation, saved)
    assert contents(saved) == before


@pytest.mark.parametrize("name", ["a[0]", "b*c", "d?", "é f", "{g}"])
def test_any_folder_name_works(tmp_path, evaluation, name):
    assert same(load_run(save_evaluation(evaluation, tmp_path / name)).evaluations[0], evaluation)


def test_an_empty_folder_is_used(tmp_path, evaluation):
    assert load_run(save_evaluation(evaluation, tmp_path)).evaluations


def test_unwritable_target_is_one_line(tmp_path, evaluation):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "run", tmp_path / "file"):
        with pytest.raises(RunError) as caught:
            save_evaluation(evaluation, target)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path, evaluation):
    tmp_path.chmod(0o555)
    with pytest.raises(RunError, match="choose a folder that can be written"):
        save_evaluation(evaluation, tmp_path / "run")


def test_a_refused_write_leaves_nothing(tmp_path, evaluation, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, "replace", refuse)
    with pytest.raises(RunError, match="No space left on device"):
        save_evaluation(evaluation, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = _files.write_bytes(tmp_path / "f", b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    "name", ["manifest.json", "errors.json", "evaluation.json", "verdicts.parquet", "evidence.npz"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "noise", "link", "folder"])
def test_damaged_files_are_one_line(saved, tmp_path, name, damage):
    path = next(saved.rglob(name))
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(500))
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(RunError) as caught:
        load_run(saved)
    assert "\n" not in str(caught.value)
    assert (name if damage != "missing" else "") in str(caught.value)


def test_flipped_bytes_never_go_unnoticed_or_crash(saved, evaluation):
    folder = entry(saved)
    refusals = []
    for name in ("evidence.npz", "verdicts.parquet"):
        data = bytearray((folder / name).read_bytes())
        for at in range(0, len(data), max(1, len(data) // 150)):
            data[at] ^= 0x10
            (folder / name).write_bytes(data)
            try:
                read = read_evaluation(folder)
            except RunError as error:
                refusals.append(str(error))
            else:
                # A flip in padding or in a value that still fits; the evidence is checksummed.
                assert same(read.x_adv, evaluation.x_adv)
            data[at] ^= 0x10
        (folder / name).write_bytes(data)
    assert len(refusals) > 100
    assert not [line for line in refusals if "\n" in line]
    assert same(read_evaluation(folder), evaluation)


def tamper_npz(folder, **changes):
    arrays = _files.read_npz(folder / "evidence.npz", ("row", "x_clean", "x_adv"))
    _files.write_npz(folder / "evidence.npz", {**arrays, **changes})
    return arrays


def test_tampered_evidence(saved):
    folder = entry(saved)
    arrays = tamper_npz(folder)
    cases = {
        "not the broken rows": {"row": arrays["row"] + 1},
        "expected float32": {"x_adv": arrays["x_adv"][:, 0]},
        "x_clean is float64": {"x_clean": arrays["x_clean"].astype(np.float64)},
        "not finite": {"x_adv": np.full_like(arrays["x_adv"], np.nan)},
    }
    for message, changes in cases.items():
        tamper_npz(folder, **changes)
        with pytest.raises(RunError, match=message):
            load_run(saved)
        tamper_npz(folder, **{name: arrays[name] for name in changes})
    load_run(saved)


def test_no_pickles_no_bombs(saved):
    path = entry(saved) / "evidence.npz"
    np.savez(path, row=np.array([{}], dtype=object), x_clean=np.zeros(1), x_adv=np.zeros(1))
    with pytest.raises(RunError, match="dtype object"):
        load_run(saved)
    np.savez_compressed(path, row=np.zeros(10**6), x_clean=np.zeros(1), x_adv=np.zeros(1))
    with pytest.raises(RunError, match="compressed"):
        load_run(saved)
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("row", "x_clean", "x_adv"):
            archive.writestr(f"{name}.npy", header + len(text).to_bytes(2, "little") + text)
    with pytest.raises(RunError, match="does not hold"):
        load_run(saved)


def test_tampered_tables(saved):
    path = entry(saved) / "verdicts.parquet"
    frame = pl.read_parquet(path)
    cases = {
        "3 rows, expected 40": frame.head(3),
        "expected columns": frame.drop("margin"),
        "types": frame.with_columns(pl.col("verdict").cast(pl.String)),
        "null": frame.with_columns(margin=pl.lit(None, dtype=pl.Float64)),
        "negative": frame.with_columns(queries=pl.lit(-1, dtype=pl.Int64)),
        "not the broken rows": frame.with_columns(
            verdict=pl.lit("open").cast(frame["verdict"].dtype)
        ),
    }
    for message, tampered in cases.items():
        _files.write_parquet(path, tampered)
        with pytest.raises(RunError, match=message):
            load_run(saved)


@pytest.mark.parametrize(
    "name", ["../x", "000-a/../../x", "/etc", "000-..", "000-\n", "", 3, "000-A"]
)
def test_entries_stay_in_the_folder(saved, name):
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["evaluations"] = [name]
    _files.write_json(saved / "manifest.json", manifest)
    with pytest.raises(RunError):
        load_run(saved)


def test_a_linked_entry_is_refused(saved, tmp_path):
    folder = entry(saved)
    shutil.move(folder, tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="leaves the run folder"):
        load_run(saved)


def test_other_schema_and_missing_manifest(saved, tmp_path):
    _files.write_json(saved / "manifest.json", {"schema": 2})
    with pytest.raises(RunError, match="schema 2, this version reads 1"):
        load_run(saved)
    (saved / "manifest.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        load_run(saved)
    with pytest.raises(RunError, match="no such run folder"):
        load_run(tmp_path / "absent")


def test_manifest_keeps_no_time_and_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(RunError, match="not plain JSON"):
        write_run(tmp_path / "r", {"kind": "suite", "gate": float("nan")})
    with pytest.raises(RunError, match="not plain JSON"):
        write_run(tmp_path / "r", {"kind": object()})
    assert not (tmp_path / "r" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("net.onnx", "Linf 8/255"), "007-net.onnx-linf-8-255"),
        (("../../etc/passwd", ""), "007-etc-passwd"),
        (("<script>", "ünïcode"), "007-script-n-code"),
        (("",), "007-entry"),
        (("a" * 500,), "007-" + "a" * 80),
    ],
)
def test_entry_names_are_safe(parts, name):
    assert entry_name(7, *parts) == name
