"""The README's Python runs as printed; what it points to exists."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import aisec_eval as ae

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BRACKET = re.compile(r"([0-9.]+)% <= robust <= ([0-9.]+)%")


def test_the_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    shutil.copytree(ROOT / "suites" / "models", tmp_path / "suites" / "models")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    promised, printed = BRACKET.search(code), BRACKET.search(capsys.readouterr().out)
    assert promised is not None
    assert printed is not None
    for said, got in zip(promised.groups(), printed.groups(), strict=True):
        assert abs(float(said) - float(got)) <= 3
    (evaluation,) = ae.load_run(tmp_path / "runs" / "first").evaluations
    assert f"{evaluation.bracket}" == printed[0]


def test_links_lead_somewhere() -> None:
    for file in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / file).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / target).exists(), f"{file}: {target}"
    for path in re.findall(r"`((?:rust|tests|python)/[\w./]+)`", README):
        assert (ROOT / path).exists(), path


def test_every_verb_is_listed() -> None:
    from aisec_eval.cli import app

    listed = set(re.findall(r"^\| `aisec-eval (\w+)", README, flags=re.MULTILINE))
    assert listed == {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback is not None
    }


def test_the_picture_is_small() -> None:
    picture = ROOT / "docs" / "report.png"
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size < 300_000
