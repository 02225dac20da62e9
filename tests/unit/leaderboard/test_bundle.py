"""Packing a run: what goes in, what is refused, and that the same run gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import polars as pl
import pytest

from aisec_eval import _files, load_run
from aisec_eval.errors import IncompleteRunError, RunError
from aisec_eval.leaderboard import bundle
from aisec_eval.leaderboard.archive import unpack
from aisec_eval.leaderboard.private import refuse_private
from helpers.tiny_bundle import run_here
from helpers.tiny_suite import write_suite

if TYPE_CHECKING:
    from .conftest import Bundled


def test_what_is_inside(tiny: Bundled) -> None:
    members = unpack(tiny.path)
    run = load_run(tiny.run)
    names = run.manifest["evaluations"]
    assert sorted(members) == sorted(
        [
            *("statement.json", "suite.lock.json", "results.parquet"),
            *("aggregate.json", "flags.json", "env.json"),
            *("model/000-wide.onnx", "model/001-narrow.onnx"),
            *(f"evidence/{name}.npz" for name in names),
            *(f"scans/{run.manifest['scans'][0]}/{n}" for n in ("scores.parquet", "scan.json")),
        ]
    )
    assert members["model/000-wide.onnx"] == (tiny.suite.parent / "wide.onnx").read_bytes()
    for name in names:
        source = tiny.run / "evaluations" / name / "evidence.npz"
        assert members[f"evidence/{name}.npz"] == source.read_bytes()
    numbers = json.loads(members["aggregate.json"])
    for stated, row in zip(numbers["evaluations"], run.summary.to_dicts(), strict=True):
        assert stated["interval"] == [row["ci_low"], row["ci_high"]]
        assert {k: stated[k] for k in ("clean", "certified", "attacked", "open", "queries")} == {
            k: row[k] for k in ("clean", "certified", "attacked", "open", "queries")
        }
    assert numbers["gates"] == run.manifest["gates"]


def test_the_statement_is_in_totos(tiny: Bundled) -> None:
    members = unpack(tiny.path)
    stated = json.loads(members["statement.json"])
    assert stated["_type"] == "https://in-toto.io/Statement/v1"
    assert {s["name"]: s["digest"]["sha256"] for s in stated["subject"]} == {
        name: hashlib.sha256(data).hexdigest()
        for name, data in members.items()
        if name != "statement.json"
    }
    lock = hashlib.sha256(members["suite.lock.json"]).hexdigest()
    assert stated["predicate"]["suite"] == {"name": "tiny", "version": "1.0.0", "id": lock}
    assert stated["predicate"]["samples"]["leaves"] == 6 * 48
    gate = stated["predicate"]["gates"][0]
    assert (gate["comparator"], gate["threshold"], gate["sampleSize"]) == (">=", "1/2", 48)


def test_the_same_run_gives_the_same_bytes(tiny: Bundled, tmp_path: Path) -> None:
    shutil.copytree(tiny.suite.parent, tmp_path / "elsewhere")
    again = bundle(
        tmp_path / "elsewhere" / "run", tmp_path / "elsewhere" / "tiny.toml", tmp_path / "b.zip"
    )
    assert again.read_bytes() == tiny.path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zip", "elsewhere"]


def test_any_zip_reader_reads_it(tiny: Bundled) -> None:
    with zipfile.ZipFile(tiny.path) as archive:
        assert archive.testzip() is None
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_nothing_names_this_machine(tiny: Bundled) -> None:
    data = tiny.path.read_bytes()
    for name in (str(tiny.run.parent), str(Path.home()) + "/", str(Path.cwd())):
        assert name.encode() not in data


@pytest.mark.parametrize(
    "text",
    [
        "/home/somebody/net.py", "/Users/somebody/net.py", "C:\\Users\\somebody\\net.py",
        "-----BEGIN OPENSSH PRIVATE KEY-----", "AKIA" + "A" * 16, "ghp_" + "a" * 36,
        str(Path.cwd()), "sk-" + "a" * 40,
    ],
)  # fmt: skip
def test_private_texts_are_found(text: str) -> None:
    with pytest.raises(RunError, match=r"not bundled: flags.json holds a") as refused:
        refuse_private({"env.json": b"{}", "flags.json": f'{{"x": "{text}"}}'.encode()})
    if "KEY" in text or "_" in text:
        assert text not in str(refused.value)


def broken_copy(tiny: Bundled, tmp_path: Path) -> Path:
    shutil.copytree(tiny.run, tmp_path / "run")
    return tmp_path / "run"


def refusal(tiny: Bundled, run: Path, error: type[Exception], match: str) -> None:
    out = run.parent / "out.zip"
    with pytest.raises(error, match=match) as refused:
        bundle(run, tiny.suite, out)
    assert "\n" not in str(refused.value)
    assert [p.name for p in run.parent.iterdir() if p.is_file()] == []


def test_an_incomplete_run(tiny: Bundled, tmp_path: Path) -> None:
    run = broken_copy(tiny, tmp_path)
    (run / "errors.json").write_text('["a shard failed"]')
    refusal(tiny, run, IncompleteRunError, "1 shards failed, 0 never ran")
    (run / "errors.json").write_text("[]")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["plan"]["missing"] = 2
    (run / "manifest.json").write_text(json.dumps(manifest))
    refusal(tiny, run, IncompleteRunError, "0 shards failed, 2 never ran")


def test_evidence_that_does_not_hold(tiny: Bundled, tmp_path: Path) -> None:
    run = broken_copy(tiny, tmp_path)
    path = max(run.glob("evaluations/*/evidence.npz"), key=lambda p: p.stat().st_size)
    with np.load(path) as archive:
        arrays = dict(archive)
    _files.write_npz(path, arrays | {"x_adv": arrays["x_clean"]})
    refusal(tiny, run, RunError, "not bundled: .*adversarial example refused")


def test_a_gate_that_was_edited(tiny: Bundled, tmp_path: Path) -> None:
    run = broken_copy(tiny, tmp_path)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["gates"][0]["value"] = 0.75
    (run / "manifest.json").write_text(json.dumps(manifest))
    refusal(tiny, run, RunError, "the gates are not what the run states")


def test_a_scan_that_was_edited(tiny: Bundled, tmp_path: Path) -> None:
    """Scans are no evidence of the re-check; the check of the bundle itself finds them."""
    run = broken_copy(tiny, tmp_path)
    (path,) = run.glob("scans/*/scores.parquet")
    frame = pl.read_parquet(path)
    _files.write_parquet(path, frame.with_columns(~pl.col("flagged")))
    refusal(tiny, run, RunError, "other samples are flagged")


def test_a_run_of_another_suite(tiny: Bundled, tmp_path: Path) -> None:
    suite = shutil.copytree(tiny.suite.parent, tmp_path / "suite") / "tiny.toml"
    suite.write_text(suite.read_text().replace('"1/64", ', ""))
    with pytest.raises(RunError, match="is not a run of"):
        bundle(tiny.run, suite, tmp_path / "out.zip")


def test_a_model_that_says_where_it_was_made(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, models=1)
    model = onnx.load(tmp_path / "wide.onnx")
    model.doc_string = "exported by /home/somebody/secret/train.py"
    onnx.save(model, tmp_path / "wide.onnx")
    suite.write_text(suite.read_text().replace('"1/64", ', ""))
    run_here(suite, tmp_path / "run")
    with pytest.raises(RunError, match=r"model/000-wide.onnx holds a path .*doc strings"):
        bundle(tmp_path / "run", suite, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_folder_in_the_way(tiny: Bundled, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a folder"):
        bundle(tiny.run, tiny.suite, tmp_path)
