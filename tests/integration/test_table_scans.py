"""Tables scanned in shards: the scores of one scan, whatever shards, workers and kills."""

import json
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

import aisec_eval as ae
from aisec_eval.errors import RunError, SuiteError, UnsafeArtifactError
from aisec_eval.leaderboard import bundle
from aisec_eval.suite import load_suite, run, scan_shards
from aisec_eval.suite.execute_shard import execute_shard
from aisec_eval.suite.plan import make_plan
from aisec_eval.suite.scan_shards import assemble
from aisec_eval.suite.shard import Shard
from aisec_eval.suite.store import Store
from helpers.tiny_suite import tree

ROWS, DIM = 530_000, 3
SUITE = """schema = 1
name = "tables"
version = "1.0.0"

[[data]]
id = "features"
source = "{source}"
labels = "kind"

[[task]]
kind = "scan"
{options}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three files of odd lengths and row groups; two classes, poison in one."""
    folder = tmp_path_factory.mktemp("tables")
    random = np.random.default_rng(5)
    y = random.integers(0, 2, ROWS)
    x = (random.normal(size=(ROWS, DIM)) + y[:, None]).astype(np.float32)
    x[(y == 1) & (random.random(ROWS) < 0.01)] += 6
    (folder / "parts").mkdir()
    for index, (first, stop) in enumerate(((0, 150_001), (150_001, 400_000), (400_000, ROWS))):
        frame = pl.DataFrame(x[first:stop], schema=["a", "b", "c"])
        frame = frame.with_columns(kind=pl.Series(y[first:stop]))
        frame.write_parquet(folder / "parts" / f"{index}.parquet", row_group_size=33_333)
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """The same by `scan`."""
    return ae.scan(folder / "parts", "kind", method="spectral", rate=0.01)


def suite_of(folder, options="", source="parts/*.parquet", name="suite.toml"):
    (folder / name).write_text(SUITE.format(options=options, source=source))
    return folder / name


def scores(folder):
    return next((folder / "scans").glob("*/scores.parquet")).read_bytes()


def same(result, alone):
    for name in ("score", "p_value", "flagged", "label", "eigenvalues"):
        np.testing.assert_array_equal(getattr(result, name), getattr(alone, name), err_msg=name)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """One shard, one worker."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return run(suite_of(folder, "rate = 0.01\nshard_rows = 10_000_000"), workers=1, out=out)


@pytest.mark.parametrize(("rows", "shards", "workers"), [(1, 3, 2), (262_145, 2, 1)])
def test_shards_and_workers_do_not_matter(folder, whole, alone, tmp_path, rows, shards, workers):
    suite = suite_of(folder, f"rate = 0.01\nshard_rows = {rows}", name=f"{shards}.toml")
    assert len(make_plan(load_suite(suite)).shards) == 2 * shards + 1
    found = run(suite, workers=workers, out=tmp_path / "run")
    assert scores(tmp_path / "run") == scores(whole.path)
    same(found.scans[0].result, alone)
    ours, theirs = found.scans[0].evidence, whole.scans[0].evidence
    for name in ("label", "row", "embedding", "top"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert found.scans[0].data == "features"
    assert str(folder) not in json.dumps(found.manifest)
    info = found.scans[0].result.info
    assert info["source"] == "features"
    assert {**info, "source": ""} == {**alone.info, "source": ""}


def test_killed_and_resumed(folder, whole, tmp_path):
    suite = suite_of(folder, "rate = 0.01\nshard_rows = 1", name="killed.toml")
    command = [sys.executable, "-m", "aisec_eval.cli", "run", str(suite), "--no-report"]
    command += ["--workers", "2", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("run/shards/*/shard.json"))) < 4:  # the sum is the fourth
        assert time.monotonic() < deadline
        if process.poll() is not None:
            break
        time.sleep(0.002)
    process.kill()
    process.communicate()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("run/shards/*/shard.json")}
    assert len(before) >= 4
    # One that was done is lost as well: it alone comes back of those.
    lost = min(before).parent
    kept = tree(lost)
    for file in lost.iterdir():
        file.unlink()
    lost.rmdir()
    run(suite, workers=2, out=tmp_path / "run")
    assert scores(tmp_path / "run") == scores(whole.path)
    assert tree(lost) == kept
    del before[lost / "shard.json"]
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_shard_that_fails_takes_along_what_needs_it(tmp_path):
    frame = pl.DataFrame({"a": [1.0, 2.0, np.nan], "kind": [0, 1, 0]})
    (tmp_path / "bad").mkdir()
    frame.write_parquet(tmp_path / "bad" / "0.parquet")
    suite = suite_of(tmp_path, source="bad/")
    found = run(suite, workers=1, out=tmp_path / "run")
    assert len(found.errors) == 3
    assert "row 2: feature 0 is not finite" in found.errors[0]
    assert "needs a shard that failed" in found.errors[1]
    assert found.scans == ()


def test_other_detectors_scan_in_one_shard(tmp_path):
    random = np.random.default_rng(0)
    frame = pl.DataFrame(random.normal(size=(600, 4)), schema=["a", "b", "c", "d"])
    frame.with_columns(kind=pl.Series(random.integers(0, 4, 600))).write_parquet(
        tmp_path / "one.parquet"
    )
    suite = suite_of(tmp_path, 'method = "neighbours"', source="one.parquet")
    found = run(suite, workers=1, out=tmp_path / "run").scans[0]
    again = ae.scan(tmp_path / "one.parquet", "kind", method="neighbours")
    np.testing.assert_array_equal(found.result.score, again.score)
    assert found.evidence is not None
    with pytest.raises(RunError, match="not bundled"):
        bundle(tmp_path / "run", suite, tmp_path / "b.zip")


@pytest.mark.parametrize(
    ("source", "extra", "error", "line"),
    [
        ("none/*.parquet", "", SuiteError, "matches no Parquet file"),
        ("../*.parquet", "", UnsafeArtifactError, "leaves the suite's folder"),
        ("/tmp/", "", UnsafeArtifactError, "leaves the suite's folder"),
        ("parts/", 'ids = [0, 3]\nlabels = "kind"', SuiteError, "not for tables"),
        ("parts/", 'labels = "missing"', SuiteError, "missing"),
    ],
)
def test_tables_that_cannot_be_scanned_are_one_line(folder, source, extra, error, line):
    text = SUITE.format(source=source, options="").replace('labels = "kind"', extra)
    (folder / "bad.toml").write_text(text)
    with pytest.raises(error) as raised:
        make_plan(load_suite(folder / "bad.toml"))
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_detectors_are_named_as_scan_names_them(folder):
    with pytest.raises(SuiteError, match="must be one of spectral"):
        load_suite(suite_of(folder, 'method = "guess"', name="guess.toml"))


def test_a_table_that_changed_is_not_scanned(tmp_path):
    frame = pl.DataFrame({"a": np.arange(9.0), "kind": [0, 1, 0] * 3})
    frame.write_parquet(tmp_path / "t.parquet")
    plan = make_plan(load_suite(suite_of(tmp_path, source="t.parquet")))
    from aisec_eval.suite.execute_shard import execute_shard

    frame.head(5).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(ae.errors.DatasetError, match="changed since the run was planned"):
        execute_shard(plan.shards[0])


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Two parts of rows in files and row groups of odd lengths; six classes."""
    folder = tmp_path_factory.mktemp("kinds")
    random = np.random.default_rng(6)
    y = random.integers(0, 6, 270_001)
    x = (random.normal(size=(len(y), 4)) + 2 * random.normal(size=(6, 4))[y]).astype(np.float32)
    (folder / "parts").mkdir()
    for index, part in enumerate((slice(0, 99_999), slice(99_999, None))):
        frame = pl.DataFrame(x[part], schema=list("abcd")).with_columns(kind=pl.Series(y[part]))
        frame.write_parquet(folder / "parts" / f"{index}.parquet", row_group_size=40_000)
    return folder


@pytest.mark.parametrize("method", ["lda", "scan"])
def test_detectors_with_statistics_are_sharded(kinds, tmp_path, method):
    suite = suite_of(kinds, f'method = "{method}"\nshard_rows = 1')
    plan = make_plan(load_suite(suite))
    shards = plan.cells[0].shards
    assert [shard.stage for shard in shards] == [0, 0, 1, 2]
    store = Store(tmp_path)
    store.prepare()
    # Whoever comes first: parts do not wait for each other.
    for shard in (shards[1], shards[0], *shards[2:]):
        store.write(shard, execute_shard(Shard.from_json(shard.to_json()), store))
    found = assemble(shards, store).result
    expected = ae.scan(kinds / "parts", "kind", method=method)
    for name in ("score", "p_value", "flagged", "label"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert found.info.get("dataset") == expected.info.get("dataset")


def test_statistics_that_do_not_fit_leave_the_scan_as_it_was(kinds, tmp_path, monkeypatch):
    monkeypatch.setattr(scan_shards, "_limit", lambda: 4096)
    shards = (
        make_plan(load_suite(suite_of(kinds, 'method = "lda"\nshard_rows = 1'))).cells[0].shards
    )
    store = Store(tmp_path)
    store.prepare()
    for shard in shards:
        store.write(shard, execute_shard(shard, store))
    assert store.read_part(shards[2].key).arrays["statistics"].size == 0
    expected = ae.scan(kinds / "parts", "kind", method="lda")
    np.testing.assert_array_equal(assemble(shards, store).result.score, expected.score)
