"""`bundle`, `check` of a bundle and `leaderboard` on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from aisec_eval import cli
from aisec_eval.leaderboard.archive import unpack
from helpers.tiny_bundle import edit_rows, forge, run_here
from helpers.tiny_suite import write_suite

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def aisec_eval(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    suite = write_suite(folder, models=1)
    run_here(suite, folder / "run")
    out = folder / "tiny.zip"
    result = aisec_eval("bundle", folder / "run", "--suite", suite, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"bundle": str(out), "bytes": out.stat().st_size}
    return out


def test_check_of_a_bundle(packed: Path) -> None:
    result = aisec_eval("check", packed)
    assert result.exit_code == 0
    assert "level L2 (adversarial examples replayed)" in result.stdout
    assert "not checked: data digits (digits.npz)" in result.stdout
    assert result.stdout.rstrip().endswith("everything checked holds")
    file = packed.parent / "digits.npz"
    data = ("--data", f"digits={file}", "--data", f"poisoned={file}")
    found = json.loads(aisec_eval("check", packed, *data, "--json").stdout)
    assert (found["level"], found["holds"], found["not_checked"]) == ("L2+", True, [])
    assert len(found["evaluations"]) == 3


def test_a_lie_is_1_and_a_hostile_file_4(packed: Path, tmp_path: Path) -> None:
    forged = forge(
        packed,
        tmp_path / "forged.zip",
        lambda members: edit_rows(members, lambda f: f.with_columns(f["margin"] - 1e9)),
    )
    result = aisec_eval("check", forged)
    assert result.exit_code == 1
    assert "does not hold: wide, " in result.stdout
    assert "NOT everything holds" in result.stdout
    hostile = tmp_path / "hostile.zip"
    hostile.write_bytes(packed.read_bytes() + b"\0")
    result = aisec_eval("check", hostile, "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["exit_code"] == 4
    site = aisec_eval("leaderboard", forged, packed, hostile, "--out", tmp_path / "site", "--json")
    found = json.loads(site.stdout)
    assert site.exit_code == found["exit_code"] == 4
    assert found["bundles"] == [{"bundle": str(packed), "level": "L2"}]
    assert [r["bundle"] for r in found["refused"]] == [str(forged), str(hostile)]
    assert (tmp_path / "site" / "index.html").is_file()
    assert aisec_eval("leaderboard", forged, "--out", tmp_path / "none").exit_code == 1
    assert not (tmp_path / "none").exists()


def test_options_that_do_not_fit(packed: Path, tmp_path: Path) -> None:
    result = aisec_eval("check", packed, "--suite", packed.parent / "tiny.toml")
    assert result.exit_code == 2
    assert "--suite is for run folders" in result.stderr
    result = aisec_eval("check", packed.parent / "run", "--data", "digits=x.npz")
    assert result.exit_code == 2
    assert "--data is for bundles" in result.stderr
    assert aisec_eval("check", packed, "--data", "digits").exit_code == 2
    missing = aisec_eval("leaderboard", tmp_path / "none.zip")
    assert missing.exit_code == 2
    assert "no such bundle" in missing.stderr


def test_a_bundle_holds_what_it_says(packed: Path) -> None:
    assert "model/000-wide.onnx" in unpack(packed)
