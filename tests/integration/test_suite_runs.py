"""A run's bytes depend on the suite alone: not on workers, executor, kills, or block size."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aisec_eval import scan
from aisec_eval.errors import CapabilityError, InputError, RunError
from aisec_eval.runs import load_run
from aisec_eval.suite import Interrupted, load_suite, local, merge, plan, run, train_votes
from helpers.tiny_suite import tree, write_suite

BLOCK = 16
"""Samples of a shard in these tests, so that there are many shards."""

DRIVER = f"""
import sys
from aisec_eval.suite import plan
plan.SHARD_SAMPLES = ({BLOCK}, {BLOCK})
from aisec_eval.cli import main
sys.argv = ["aisec-eval", "run", *sys.argv[1:], "--no-report"]
main()
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return write_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SAMPLES", (BLOCK, BLOCK))


NOTES = []


@pytest.fixture(scope="module")
def first(suite, tmp_path_factory):
    """A run with one worker that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_SAMPLES", (BLOCK, BLOCK))
        folder = tmp_path_factory.mktemp("runs") / "undisturbed"
        return run(suite, workers=1, out=folder, progress=lambda *a: NOTES.append(a))


@pytest.fixture(scope="module")
def undisturbed(first):
    """Its files."""
    assert first.errors == ()
    files = tree(first.path)
    assert sum(name.endswith("shard.json") for name in files) == 6 * 3 + 1
    return files


def test_a_run_is_what_the_suite_says(first):
    result = first
    assert result.summary["model"].to_list() == ["wide"] * 3 + ["narrow"] * 3
    assert result.summary["threat"].to_list()[:3] == ["Linf 0.015625", "Linf 0.0625", "L2 0.125"]
    assert set(result.summary["samples"]) == {48}
    for row in result.summary.iter_rows(named=True):
        assert row["certified"] <= row["attacked"] <= row["clean"]
        assert row["gradients"] > 0
    counts = {verdict for e in result.evaluations for verdict in e.frame["verdict"].unique()}
    assert {"misclassified", "broken", "certified"} <= counts
    [scan] = result.scans
    assert scan.poison.sum() == 15
    assert [gate["passed"] for gate in result.manifest["gates"]] == [True] * 9
    done, totals, _ = zip(*NOTES, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1] == 6 * 48 + 300
    assert not (result.path / ".tmp").exists()


def test_complete_verification_closes_the_bracket(tmp_path):
    path = write_suite(tmp_path, models=1)
    text = path.read_text().split("[[task]]")[0]
    task = '[[task]]\nkind = "evaluate"\ndata = ["digits"]\nattacks = ["apgd-ce"]\n'
    methods = ['certify = "crown"', 'certify = "complete"\ncertify_seconds = 30']
    path.write_text(text + "".join(f"{task}{method}\n" for method in methods))
    found = run(path, out=tmp_path / "run").evaluations
    plain, complete = ({e.threat: e for e in found[half : half + 3]} for half in (0, 3))
    for threat in ("Linf 0.015625", "Linf 0.0625"):
        one, other = plain[threat].bracket, complete[threat].bracket
        assert other.certified == other.attacked
        assert other.certified >= one.certified
        assert complete[threat].info["certify"] == "Complete(timeout=30.0)"
    assert plain["Linf 0.0625"].bracket.certified < complete["Linf 0.0625"].bracket.certified


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_do_not_matter(suite, undisturbed, tmp_path, workers):
    run(suite, workers=workers, out=tmp_path / "run")
    assert tree(tmp_path / "run") == undisturbed


@pytest.mark.ray
def test_a_ray_worker_that_is_killed_loses_nothing(suite, undisturbed, tmp_path):
    """The executor starts its own Ray here, and ends it."""
    from aisec_eval.suite.ray_executor import import_ray

    killed = []

    def kill_once(done, _total, _note):
        if done and not killed:
            last = (tmp_path / "run" / "timings.jsonl").read_text().splitlines()[-1]
            killed.append(int(last.split('"worker": "ray-')[1].split('"')[0]))
            os.kill(killed[0], signal.SIGKILL)

    ray = import_ray()
    assert not ray.is_initialized()
    run(suite, executor="ray", workers=2, out=tmp_path / "run", progress=kill_once)
    assert not ray.is_initialized()
    assert killed
    assert tree(tmp_path / "run") == undisturbed


@pytest.fixture(scope="module")
def ray_cluster():
    from aisec_eval.suite.ray_executor import import_ray

    ray = import_ray()
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.usefixtures("ray_cluster")
def test_ray_gives_the_same_bytes(suite, undisturbed, tmp_path, workers):
    run(suite, executor="ray", workers=workers, out=tmp_path / "run")
    assert tree(tmp_path / "run") == undisturbed


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_trains_ensembles_alike(tmp_path):
    (tmp_path / "nearest_of_test.py").write_text(
        "import numpy as np\n"
        "def train(x, y, seed):\n"
        "    return lambda z: y[np.abs(z[:, None] - x[None]).sum(axis=2).argmin(axis=1)]\n"
    )
    random = np.random.default_rng(0)
    x, inputs = random.random((200, 3)), random.random((50, 3))
    options = {"models": 9, "d": 2, "workers": 2}
    train = f"{tmp_path / 'nearest_of_test.py'}:train"
    y = (x[:, 0] > 0.5).astype(np.int64)
    alone, ray = (
        train_votes(train, x, y, inputs, folder=tmp_path / name, executor=name, **options)
        for name in ("local", "ray")
    )
    np.testing.assert_array_equal(ray.votes, alone.votes)
    names = [sorted(f.name for f in (e.folder / "shards").iterdir()) for e in (alone, ray)]
    assert names[0] == names[1]
    assert "ray-" in (tmp_path / "ray" / "timings.jsonl").read_text()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_scans_tables_alike(tmp_path):
    random = np.random.default_rng(2)
    frame = pl.DataFrame(random.normal(size=(300_000, 2)), schema=["a", "b"])
    frame = frame.with_columns(kind=pl.Series(random.integers(0, 2, len(frame))))
    for index, part in enumerate((frame[:100_000], frame[100_000:])):
        part.write_parquet(tmp_path / f"{index}.parquet", row_group_size=30_000)
    (tmp_path / "suite.toml").write_text(
        'schema = 1\nname = "t"\nversion = "1"\n[[task]]\nkind = "scan"\nshard_rows = 1\n'
        '[[data]]\nid = "t"\nsource = "*.parquet"\nlabels = "kind"\n'
    )
    found = run(tmp_path / "suite.toml", executor="ray", workers=2, out=tmp_path / "run")
    assert found.manifest["plan"]["shards"] == 5
    alone = scan(tmp_path / "*.parquet", "kind")
    np.testing.assert_array_equal(found.scans[0].result.score, alone.score)
    np.testing.assert_array_equal(found.scans[0].result.flagged, alone.flagged)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ctrl_c_on_ray_keeps_what_is_done(suite, undisturbed, tmp_path):
    def interrupt(done, _total, _note):
        if done == BLOCK:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        run(suite, executor="ray", workers=1, out=tmp_path, progress=interrupt)
    assert 1 <= caught.value.done < 19
    assert load_run(tmp_path).manifest["plan"]["missing"] == 19 - caught.value.done
    run(suite, executor="ray", workers=1, out=tmp_path)
    assert tree(tmp_path) == undisturbed


def test_without_ray_one_line_says_how_to_get_it(suite, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CapabilityError, match=r"pip install 'aisec-eval\[ray\]'"):
        run(suite, executor="ray", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
def test_a_cluster_that_is_not_there_is_one_line(suite, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")

    def refuse(**options):
        raise ConnectionError(f"no cluster\nat {options['address']}")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(RunError, match="cannot reach the Ray cluster at nowhere: no cluster at"):
        run(suite, executor="ray", out=tmp_path)


def test_block_size_does_not_matter_on_native_graphs(suite, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SAMPLES", (2048, 2048))
    run(suite, workers=1, out=tmp_path / "run")
    results = [tree(tmp_path / "run", without=("timings.jsonl", "shards", "manifest.json"))]
    results.append({k: v for k, v in undisturbed.items() if k in results[0]})
    assert results[0] == results[1]
    assert sum(name.startswith("evaluations/") for name in results[0]) == 6 * 3


def start(suite: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(suite), "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def shards_done(out: Path) -> int:
    return len(list(out.glob("shards/*/shard.json")))


def wait_for_shards(process: subprocess.Popen[str], out: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while shards_done(out) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def slow_suite(tmp_path_factory):
    """The same models, and shards that take long enough to be interrupted."""
    return write_suite(tmp_path_factory.mktemp("slow"), models=1, queries=20_000)


@pytest.fixture(scope="module")
def slow_undisturbed(slow_suite, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_SAMPLES", (BLOCK, BLOCK))
        folder = tmp_path_factory.mktemp("runs") / "slow"
        run(slow_suite, workers=2, out=folder)
    return tree(folder)


def test_killed_twice_and_resumed_is_as_if_undisturbed(slow_suite, slow_undisturbed, tmp_path):
    for count in (1, 5):
        process = start(slow_suite, tmp_path, "--workers", "2")
        wait_for_shards(process, tmp_path, count)
        process.kill()
        process.communicate()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("shards/*/shard.json")}
    assert 5 <= len(before) < 10
    run(slow_suite, workers=2, out=tmp_path)
    assert tree(tmp_path) == slow_undisturbed
    assert {p: p.stat().st_mtime_ns for p in before} == before  # resumed, not done again


@pytest.mark.parametrize("step", ["evaluations", "scans", "errors.json", "manifest.json"])
def test_killed_while_merging(suite, first, undisturbed, tmp_path, monkeypatch, step):
    """Wherever the results were being moved into place, the shards bring them back."""
    shutil.copytree(first.path, tmp_path / "run")
    replace = os.replace

    def stop(source, target):
        if Path(source).name == step:
            raise SystemExit
        replace(source, target)

    monkeypatch.setattr(merge.os, "replace", stop)
    with pytest.raises(SystemExit):
        run(suite, workers=1, out=tmp_path / "run")
    monkeypatch.setattr(merge.os, "replace", replace)
    run(suite, workers=1, out=tmp_path / "run")
    assert tree(tmp_path / "run") == undisturbed


def test_ctrl_c_keeps_what_is_done_and_says_how_to_resume(slow_suite, slow_undisturbed, tmp_path):
    process = start(slow_suite, tmp_path / "my run", "--workers", "1")
    wait_for_shards(process, tmp_path / "my run", 2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.count("\n") == 1
    assert "interrupted with" in stderr
    assert f"to resume: aisec-eval run {slow_suite} --out '{tmp_path}/my run'" in stderr
    partial = load_run(tmp_path / "my run")
    missing = partial.manifest["plan"]["missing"]
    assert 0 < missing == 10 - shards_done(tmp_path / "my run")
    assert sum(len(e.sample) for e in partial.evaluations) == BLOCK * (9 - missing + 1)
    run(slow_suite, workers=1, out=tmp_path / "my run")
    assert tree(tmp_path / "my run") == slow_undisturbed


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers through /proc")
def test_a_worker_that_dies_is_replaced(slow_suite, slow_undisturbed, tmp_path):
    process = start(slow_suite, tmp_path, "--workers", "2", "--json")
    wait_for_shards(process, tmp_path, 1)
    for worker in children(process.pid)[:1]:
        os.kill(worker, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stdout + stderr
    assert tree(tmp_path) == slow_undisturbed


def test_a_shard_that_kills_its_workers_becomes_error_rows(
    suite, undisturbed, tmp_path, monkeypatch
):
    victim = plan.make_plan(load_suite(suite)).cells[1].shards[2]
    give = local._Worker.give

    def give_and_kill(self, shard):
        if shard.key == victim.key:
            self.process.kill()
        give(self, shard)

    monkeypatch.setattr(local._Worker, "give", give_and_kill)
    result = run(suite, workers=2, out=tmp_path)
    assert result.errors == (
        "wide, linf 1/16, digits, rows 32-47: its worker died 3 times (SIGKILL)",
    )
    rows = result.evaluations[1].frame["verdict"].to_list()
    assert [i for i, verdict in enumerate(rows) if verdict == "error"] == list(range(32, 48))
    assert result.evaluations[1].bracket.attacked <= 32 / 48
    assert result.manifest["plan"]["failed"] == 1
    failed = [g for g in result.manifest["gates"] if not g["passed"]]
    assert [(g["gate"], g["where"]) for g in failed] == [("errors", "wide, Linf 0.0625, digits")]
    monkeypatch.undo()
    monkeypatch.setattr(plan, "SHARD_SAMPLES", (BLOCK, BLOCK))
    run(suite, workers=2, out=tmp_path)
    assert tree(tmp_path) == undisturbed


def test_workers_that_cannot_start_are_one_line(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(local.sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match=r"worker processes do not start \(exit code 1\)"):
        run(suite, workers=2, out=tmp_path)


def test_a_damaged_shard_is_computed_again(suite, undisturbed, tmp_path):
    run(suite, workers=1, out=tmp_path)
    shard = next(iter(sorted(tmp_path.glob("shards/*"))))
    for file in shard.glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-9])
    notes = []
    run(suite, workers=1, out=tmp_path, progress=lambda _d, _t, note: notes.append(note))
    assert "damaged; computed again" in notes[0]
    assert tree(tmp_path) == undisturbed


def test_a_model_that_changes_under_a_run_is_an_error_not_a_result(suite, tmp_path, monkeypatch):
    shutil.copytree(suite.parent, tmp_path / "suite")
    start_worker = local._Worker.__init__

    def swap(self, *args):
        shutil.copy(suite.parent / "wide.onnx", tmp_path / "suite" / "narrow.onnx")
        start_worker(self, *args)

    monkeypatch.setattr(local._Worker, "__init__", swap)
    result = run(tmp_path / "suite" / "tiny.toml", workers=1, out=tmp_path / "run")
    assert len(result.errors) == 9
    assert all("changed since the run was planned" in line for line in result.errors)


def test_folders_that_are_not_the_runs(suite, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is not a folder"):
        run(suite, out=tmp_path / "file")
    with pytest.raises(RunError, match="cannot write"):
        run(suite, out=tmp_path / "file" / "below")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="holds something that is no suite's run"):
        run(suite, out=tmp_path / "home")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.txt"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "suite.json").write_text('{"name": "other"}')
    with pytest.raises(RunError, match='holds a run of suite "other"'):
        run(suite, out=tmp_path / "other")
    with pytest.raises(RunError, match="is not empty"):
        run(suite, out=tmp_path / "other", resume=False)


def test_two_runs_do_not_share_a_folder(suite, tmp_path):
    from aisec_eval.suite.runner import locked

    (tmp_path / "suite.json").write_text('{"name": "tiny"}')
    with locked(tmp_path), pytest.raises(RunError, match="another run is using it"):
        run(suite, out=tmp_path)


def test_a_read_only_folder_is_one_line(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_a, **_k: False)
    with pytest.raises(RunError, match="read-only"):
        run(suite, out=tmp_path)


def test_options_out_of_range(suite, tmp_path):
    with pytest.raises(InputError, match="executor='slurm' is not known"):
        run(suite, executor="slurm", out=tmp_path / "run")
    with pytest.raises(InputError, match="workers=0"):
        run(suite, workers=0, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_interruption_before_anything_is_done(suite, tmp_path, monkeypatch):
    """The signal comes while workers start: nothing is lost because nothing is there yet."""
    ask = local._Pool.start

    def interrupt(self, *args):
        signal.raise_signal(signal.SIGTERM)
        ask(self, *args)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(local._Pool, "start", interrupt)
    with pytest.raises(Interrupted) as caught:
        run(suite, workers=1, out=tmp_path)
    assert caught.value.done == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert load_run(tmp_path).evaluations == ()
