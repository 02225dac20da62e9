"""`aisec-eval verify`: the competition's result format, JSON, exit codes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aisec_eval import cli
from aisec_eval._cli import clock
from helpers.onnx_models import OnnxBuilder

DECLARED = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "(assert (>= X_0 0.1))(assert (<= X_0 1))(assert (>= X_1 0))(assert (<= X_1 1))\n"


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """y = (|x_0 - x_1|, x_0)."""
    build = OnnxBuilder(("n", 2))
    first = build.constant([[1, -1, 1], [-1, 1, 0]], np.float32)
    second = build.constant([[1, 0], [1, 0], [0, 1]], np.float32)
    hidden = build.op("Relu", build.op("MatMul", "input", first))
    output = build.op("MatMul", hidden, second)
    return build.save(tmp_path_factory.mktemp("net") / "net.onnx", output, ("n", 2))


@pytest.fixture
def verify(net, tmp_path):
    def run(text, *options):
        path = tmp_path / "p.vnnlib"
        path.write_text(DECLARED + BOX + text)
        return CliRunner().invoke(cli.app, ["verify", str(net), str(path), *options])

    return run


def test_unsat(verify):
    result = verify("(assert (>= Y_0 1.01))", "--timeout", "30")
    assert (result.exit_code, result.stdout) == (0, "unsat\n")


def test_sat_prints_the_counterexample(verify):
    result = verify("(assert (>= Y_0 0.875))")
    assert result.exit_code == 0
    first, *rest = result.stdout.splitlines()
    assert first == "sat"
    text = "\n".join(rest)
    assert text.startswith("((X_0 ")
    assert text.endswith("))")
    pairs = [line.strip("()").split() for line in rest]
    assert [name for name, _ in pairs] == ["X_0", "X_1", "Y_0", "Y_1"]
    x0, x1, y0, y1 = (float(value) for _, value in pairs)
    assert y0 == abs(x0 - x1) >= 0.875
    assert 0.1 <= x0 == y1 <= 1
    assert 0 <= x1 <= 1


def test_unknown_says_why_on_standard_error(verify):
    result = verify("(assert (<= X_0 Y_0))")
    assert (result.exit_code, result.stdout) == (0, "unknown\n")
    assert "relates inputs to outputs" in result.stderr


def test_timeout_is_a_word_of_its_own(verify):
    result = verify("(assert (>= Y_0 1.01))", "--timeout", "1e-9")
    assert (result.exit_code, result.stdout) == (0, "timeout\n")


def test_the_deadline_counts_from_the_start_of_the_process(verify, monkeypatch, tmp_path):
    # Called as a function, a command has no start of its own.
    assert clock.spent() == 0
    assert 0 < clock.since(Path("/proc/self/stat")) < 3600
    odd = tmp_path / "stat"
    odd.write_text("7 (a) b (c) R 1 2")
    assert clock.since(odd) == clock.since(tmp_path / "none") == 0
    monkeypatch.setattr(clock, "spent", lambda: 30.0)
    assert verify("(assert (>= Y_0 1.01))", "--timeout", "60").stdout == "unsat\n"
    assert verify("(assert (>= Y_0 1.01))", "--timeout", "30").stdout == "timeout\n"


def test_json(verify):
    result = verify("(assert (>= Y_0 0.875))", "--json", "--seed", "3")
    found = json.loads(result.stdout)
    assert found["status"] == "sat"
    assert len(found["counterexample"]["input"]) == len(found["counterexample"]["output"]) == 2
    found = json.loads(verify("(assert (>= Y_0 1.01))", "--json").stdout)
    assert (found["status"], found["counterexample"]) == ("unsat", None)


@pytest.mark.parametrize(
    ("text", "options", "code", "message"),
    [
        ("(assert (>= Y_0", (), 2, "p.vnnlib, line 2"),
        ("(declare-const Y_2 Real)(assert (>= Y_0 1))", (), 2, "declares 3 outputs"),
        ("(assert (>= Y_0 1))", ("--timeout", "0"), 2, "timeout"),
    ],
)
def test_bad_input_is_one_line(verify, text, options, code, message):
    result = verify(text, *options)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_that_is_no_network(tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no")
    text = tmp_path / "q.vnnlib"
    text.write_text(DECLARED + BOX + "(assert (>= Y_0 1))")
    result = CliRunner().invoke(cli.app, ["verify", str(bad), str(text)])
    assert result.exit_code == 5
    assert "bad.onnx" in result.stderr


def test_certificates_are_written_and_checked(verify, net, tmp_path):
    path = tmp_path / "p.cert.gz"
    assert verify("(assert (>= Y_0 1.01))", "--certificate", str(path)).output == "unsat\n"

    def check(*options, certificate=path):
        return CliRunner().invoke(cli.app, ["check", str(net), str(certificate), *options])

    held = check("--property", str(tmp_path / "p.vnnlib"))
    assert held.exit_code == 0
    assert "the certificate holds" in held.output
    assert check("--exact").exit_code == 0
    found = json.loads(check("--json").output)
    assert found["holds"]
    assert found["reason"] == ""
    assert found["cases"][0]["clauses"] == 1
    # Of another property, cut short, of nothing, and with options of other things.
    other = tmp_path / "q.vnnlib"
    other.write_text(DECLARED + BOX + "(assert (>= Y_0 1.0))")
    refused = check("--property", str(other))
    assert refused.exit_code == 1
    assert "not in the certificate" in refused.output
    text = tmp_path / "cut.cert"
    text.write_bytes(gzip.decompress(path.read_bytes())[:-20])
    cut = check(certificate=text)
    assert cut.exit_code == 1
    assert "not a certificate" in cut.output
    assert check(certificate=tmp_path / "none.cert").exit_code == 2
    assert check("--suite", "s.toml").exit_code == 2
    alone = CliRunner().invoke(cli.app, ["check", str(net), "--exact"])
    assert alone.exit_code == 2
    assert "--exact is for certificates" in alone.output
