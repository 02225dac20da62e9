"""The command line: verbs, exit codes, JSON, and output that cannot harm a terminal."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from aisec_eval import cli
from aisec_eval.suite import load_suite, local, plan
from helpers.tiny_suite import write_suite

VERBS = [
    *("run", "attack", "certify", "verify", "scan", "report"),
    *("bundle", "check", "leaderboard", "doctor"),
]


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return write_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def finished(suite, tmp_path_factory):
    """A finished run of the suite, and what the command printed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = aisec_eval("run", suite, "--out", folder, "--json", "--no-report")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


def aisec_eval(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches_by_example(verb):
    result = aisec_eval(verb, "--help")
    assert result.exit_code == 0
    assert f"aisec-eval {verb}" in result.stdout


def test_the_verbs_are_those():
    assert aisec_eval("--help").exit_code == 0
    assert [
        command.name or command.callback.__name__ for command in cli.app.registered_commands
    ] == VERBS


def test_usage_errors_are_2():
    assert aisec_eval("run").exit_code == 2
    assert aisec_eval("run", "--no-such-option").exit_code == 2
    assert aisec_eval("run", "s.toml", "--workers", "0").exit_code == 2
    assert aisec_eval("nothing").exit_code == 2


def test_a_run_as_json(finished):
    folder, printed = finished
    assert printed["exit_code"] == 0
    assert printed["run"] == str(folder)
    assert len(printed["evaluations"]) == 6
    for row in printed["evaluations"]:
        assert row["certified"] <= row["attacked"]
    assert printed["scans"][0]["true_positive_rate"] >= 0
    assert {gate["gate"] for gate in printed["gates"]} == {"clean_accuracy@wide", "errors"}


def test_a_run_as_a_table(suite, finished):
    folder, _ = finished
    result = aisec_eval("run", suite, "--out", folder, "--no-report")
    assert result.exit_code == 0
    assert result.stderr == ""
    for text in ("tiny 1.0.0", "wide", "Linf 0.0625", "<= robust <=", "95 %", "gradients"):
        assert text in result.stdout
    assert "scan of poisoned (spectral)" in result.stdout
    assert "gate passed: clean_accuracy@wide >= 0.5" in result.stdout


def test_the_report_is_written_and_named(suite, finished):
    folder, _ = finished
    result = aisec_eval("run", suite, "--out", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith(f"report: {folder / 'report.html'}")
    assert (folder / "report.html").stat().st_size > 10_000
    other = folder.parent / "other.html"
    assert aisec_eval("report", folder, "--out", other).exit_code == 0
    assert other.read_bytes() == (folder / "report.html").read_bytes()


def edited(suite, tmp_path, old, new):
    shutil.copytree(suite.parent, tmp_path / "suite")
    path = tmp_path / "suite" / suite.name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    return path


def test_a_failed_gate_is_1(suite, finished, tmp_path):
    path = edited(suite, tmp_path, '">= 0.5"', '">= 0.999"')
    shutil.copytree(finished[0], tmp_path / "run")
    result = aisec_eval("run", path, "--out", tmp_path / "run", "--no-report")
    assert result.exit_code == 1
    assert "gate FAILED: clean_accuracy@wide >= 0.999" in result.stdout


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ('"errors"', '"eros"', 2, 'unknown metric "eros"; did you mean "errors"?'),
        ("seed = 3", "sed = 3", 2, 'sed: unknown key; did you mean "seed"?'),
        ("wide.onnx", "../wide.onnx", 4, "leaves the suite's folder"),
        ("wide.onnx", "none.onnx", 2, 'no file "none.onnx"'),
        ("wide.onnx", "cut.onnx", 5, "model wide"),
        ("wide.onnx", "model.pkl", 4, "never opened"),
    ],
)
def test_refusals_are_one_line_and_a_code(suite, tmp_path, old, new, code, message):
    path = edited(suite, tmp_path, old, new)
    whole = (path.parent / "wide.onnx").read_bytes()
    (path.parent / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (path.parent / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    result = aisec_eval("run", path, "--out", tmp_path / "run", "--json")
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert json.loads(result.stdout)["exit_code"] == code


def test_failed_shards_are_3(suite, tmp_path, monkeypatch):
    victim = plan.make_plan(load_suite(suite)).cells[0].shards[0]
    give = local._Worker.give

    def give_and_kill(self, shard):
        if shard.key == victim.key:
            self.process.kill()
        give(self, shard)

    monkeypatch.setattr(local._Worker, "give", give_and_kill)
    result = aisec_eval("run", suite, "--out", tmp_path, "--no-report")
    assert result.exit_code == 3
    assert "failed: wide, linf 1/64, digits, rows 0-47: its worker died 3 times" in result.stdout


def test_check_confirms_a_run(suite, finished):
    folder, printed = finished
    result = aisec_eval("check", folder, "--suite", suite, "--json")
    checked = json.loads(result.stdout)
    assert result.exit_code == 0, checked
    assert checked["holds"] is True
    assert [row["confirmed"] for row in checked["evaluations"]] == [
        row["broken"] for row in checked["evaluations"]
    ]
    assert sum(row["broken"] for row in checked["evaluations"]) > 0
    assert checked["summary"] == printed["evaluations"]
    result = aisec_eval("check", folder, "--suite", suite)
    assert "everything checked holds" in result.stdout


def test_check_needs_the_models_that_were_evaluated(suite, finished):
    folder, _ = finished
    result = aisec_eval("check", folder)
    assert result.exit_code == 2
    assert "no model given for 'wide'" in result.stderr
    swapped = [
        f"--model={a}={suite.parent / b}.onnx" for a, b in (("wide", "narrow"), ("narrow", "wide"))
    ]
    result = aisec_eval("check", folder, *swapped)
    assert result.exit_code == 2
    assert "give the file that was evaluated" in result.stderr


@pytest.mark.parametrize("lie", ["not adversarial", "too far", "certified", "label", "gate"])
def test_check_finds_a_lie(suite, finished, tmp_path, lie):
    from dataclasses import replace

    from aisec_eval.results import VERDICTS
    from aisec_eval.runs import load_run, write_run

    run = load_run(finished[0])
    wrong = VERDICTS.index("misclassified")
    index = next(
        i for i, e in enumerate(run.evaluations) if len(e.x_adv) and (e.verdict == wrong).any()
    )
    e = run.evaluations[index]
    manifest = dict(run.manifest)
    if lie == "not adversarial":
        e = replace(e, x_adv=e.x_clean)
    elif lie == "too far":
        inside = np.where(e.x_adv > 0.5, e.x_adv - np.float32(0.1), e.x_adv + np.float32(0.1))
        e = replace(e, x_adv=inside)
    elif lie == "certified":
        verdict = e.verdict.copy()
        verdict[verdict == wrong] = VERDICTS.index("certified")
        e = replace(e, verdict=verdict, margin_lower=np.ones(len(verdict)))
    elif lie == "label":
        label = e.label.copy()
        label[0] = (label[0] + 1) % 10
        e = replace(e, label=label)
    else:
        manifest["gates"] = [dict(gate, passed=True, high=1.0) for gate in manifest["gates"]]
    evaluations = [*run.evaluations[:index], e, *run.evaluations[index + 1 :]]
    write_run(tmp_path / "run", manifest, evaluations, run.scans)
    result = aisec_eval("check", tmp_path / "run", "--suite", suite)
    assert result.exit_code == 1
    assert "does not hold" in result.stdout
    assert "NOT everything holds" in result.stdout


def test_attack_and_certify(suite):
    model = suite.parent / "wide.onnx"
    common = ["--data", "digits", "--ids", "0:20", "--threat", "linf 1/16"]
    result = aisec_eval("attack", model, *common, "--method", "apgd-ce", "--steps", 5, "--json")
    assert result.exit_code == 0, result.output
    attacked = json.loads(result.stdout)
    assert attacked["threat"] == "Linf 0.0625"
    assert len(attacked["samples"]) == 20
    result = aisec_eval("certify", model, *common, "--json")
    assert result.exit_code == 0, result.output
    certified = json.loads(result.stdout)
    assert certified["certified_accuracy"] <= attacked["robust_accuracy"]
    assert "certified" in aisec_eval("certify", model, *common, "--method", "ibp").stdout
    ball = [*common[:-1], "l2 0.05"]
    smoothed = ["--method", "smoothing", "--sigma", "0.1", "--copies", "300"]
    result = aisec_eval("certify", model, *ball, *smoothed, "--json")
    rows = json.loads(result.stdout)["samples"]
    assert all(row["certified"] == (row["radius"] >= 0.05) for row in rows)
    assert any(row["certified"] for row in rows)
    assert "median" in aisec_eval("certify", model, *ball, *smoothed).stdout
    rows = json.loads(aisec_eval("certify", model, *common, "--radius", "--json").stdout)["samples"]
    assert all(row["radius"] <= row["radius_upper"] for row in rows)
    assert any(row["radius"] > 0 for row in rows)
    assert "needs --sigma" in aisec_eval("certify", model, *ball, *smoothed[:2]).stderr
    assert "attacked" in aisec_eval("attack", model, *common, "--method", "apgd-ce").stdout


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--threat", "linf", "is not a norm and a radius"),
        ("--threat", "l7 0.1", "is not a norm and a radius"),
        ("--threat", "linf -1/8", "negative"),
        ("--threat", "linf 8", "larger than the input range"),
        ("--ids", "9:5", "ids"),
        ("--ids", "a:b", "is not a range"),
        ("--data", "mnist", "no dataset"),
        ("--method", "fgsm", "is unknown"),
    ],
)
def test_options_that_make_no_sense_are_2(suite, option, value, message):
    options = {"--data": "digits", "--threat": "linf 1/16", "--ids": "0:2"} | {option: value}
    flat = [text for pair in options.items() for text in pair]
    result = aisec_eval("attack", suite.parent / "wide.onnx", *flat)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_scan():
    result = aisec_eval("scan", "digits", "--rate", 0.05, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert len(printed["score"]) == len(printed["ids"]) == printed["samples"] == 1198
    assert 0.05 < len(printed["flagged"]) / 1198 < 0.08
    result = aisec_eval("scan", "digits", "--top", 3)
    assert "most suspicious samples" in result.stdout


def test_scan_into_a_folder(tmp_path):
    result = aisec_eval("scan", "digits", "--rate", 0.05, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["out"] == str(tmp_path / "out")
    kept = np.load(tmp_path / "out" / "kept.npy")
    flagged = {printed["ids"][row] for row in printed["flagged"]}
    assert set(kept.tolist()) == set(printed["ids"]) - flagged
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('alt="sample ') == 24
    assert aisec_eval("report", tmp_path / "out").exit_code == 0
    again = aisec_eval("scan", "digits", "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "not empty" in again.stderr


def test_scan_of_a_file(tmp_path):
    import polars as pl

    features = np.random.default_rng(0).normal(size=(50, 3))
    frame = pl.DataFrame(features, schema=["a", "b", "c"]).with_columns(kind=pl.lit(1))
    frame.write_parquet(tmp_path / "f.parquet")
    result = aisec_eval("scan", tmp_path / "f.parquet", "--labels", "kind", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["ids"] == list(range(50))
    assert aisec_eval("scan", "digits", "--labels", "kind").exit_code == 2
    assert aisec_eval("scan", tmp_path / "none.parquet").exit_code == 2


def test_doctor():
    result = aisec_eval("doctor", "--json")
    found = {line["what"]: line for line in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert found["engine"]["found"].startswith("0.")
    for what in ("python", "threads", "cores", "simd", "memory", "devices", "jax", "polars", "ray"):
        assert found[what]["found"]
    assert "devices" in aisec_eval("doctor").stdout


def test_doctor_knocks_at_the_cluster(monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert "reachable" in aisec_eval("doctor").stdout
    result = aisec_eval("doctor", "--json")
    assert result.exit_code == 2
    [ray] = [line for line in json.loads(result.stdout) if line["what"] == "ray"]
    assert "not reachable" in ray["found"]


def test_names_cannot_control_the_terminal(suite, tmp_path):
    hostile = tmp_path / "\x1b[31mred\x07\u202e\u200f[bold]x.onnx"
    shutil.copy(suite.parent / "wide.onnx", hostile)
    common = ["--data", "digits", "--ids", "0:4", "--threat", "linf 1/16"]
    result = aisec_eval("certify", hostile, *common)
    assert result.exit_code == 0
    assert "[bold]x" in result.stdout
    missing = aisec_eval("certify", tmp_path / "\x1b]0;title\x07.onnx", *common)
    assert missing.exit_code != 0
    for text in (result.stdout, missing.stderr):
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text
        )


def test_progress_is_drawn_on_a_terminal(tmp_path):
    suite = write_suite(tmp_path, models=1)
    command = [sys.executable, "-m", "aisec_eval.cli", "run", str(suite), "--no-report", "--out"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*command, str(tmp_path / "b")],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "150"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(ours)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert b"eta" in shown
    assert b"rows 0-" in shown
    assert "<= robust <=" in stdout.decode()
