"""The board and its pages: what is joined, what is ranked, and that links lead somewhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from aisec_eval.errors import RunError
from aisec_eval.leaderboard import build_site, check_bundle
from aisec_eval.leaderboard.board import Board
from aisec_eval.leaderboard.site import page_name
from helpers.tiny_bundle import forge

if TYPE_CHECKING:
    from pathlib import Path

    from aisec_eval.leaderboard import BundleCheck

    from .conftest import Bundled


@pytest.fixture(scope="module")
def checked(tiny: Bundled) -> BundleCheck:
    return check_bundle(tiny.path, data=tiny.data)


@pytest.fixture(scope="module")
def claimed(tiny: Bundled, tmp_path_factory: pytest.TempPathFactory) -> BundleCheck:
    """The same run, bundled on another machine, checked without its data."""
    path = tmp_path_factory.mktemp("claimed") / "claimed.zip"
    env = b'{"system":"another"}'
    forge(tiny.path, path, lambda members: members | {"env.json": env})
    return check_bundle(path)


def tree(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_pages_and_numbers(checked: BundleCheck, tmp_path: Path) -> None:
    index = build_site([checked], tmp_path)
    assert index == tmp_path / "index.html"
    report = page_name(checked.digest)
    assert sorted(tree(tmp_path)) == sorted(["index.html", "leaderboard.json", report])
    text = index.read_text()
    for target in re.findall(r'href="([^"#]+)"', text):
        assert (tmp_path / target).is_file()
    assert text.count('class="track"') == 3
    numbers = json.loads((tmp_path / "leaderboard.json").read_text())
    assert checked.run is not None
    expected = {(e.model, e.threat): e.bracket for e in checked.run.evaluations}
    rows = [row for found in numbers["tracks"] for row in found["models"]]
    assert len(rows) == len(expected) == 6
    for found in numbers["tracks"]:
        assert {row["model"] for row in found["models"]} == {"wide", "narrow"}
        for row in found["models"]:
            bracket = next(
                b
                for (model, threat), b in expected.items()
                if model == row["model"] and found["threat"]["norm"] in threat.lower()
                and b.certified == row["certified"] and b.attacked == row["attacked"]
            )  # fmt: skip
            assert row["interval"] == list(bracket.interval)
            assert row["level"] == "L2+"


def test_order_does_not_matter_and_twice_is_once(
    checked: BundleCheck, claimed: BundleCheck, tmp_path: Path
) -> None:
    build_site([checked, claimed], tmp_path / "a")
    build_site(iter([claimed, checked, claimed]), tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_claims_are_not_ranked(checked: BundleCheck, claimed: BundleCheck) -> None:
    assert (checked.level, claimed.level) == ("L2+", "L2")
    board = Board()
    for check in (claimed, checked):
        board.add(check)
    for found in board.tracks():
        assert [row.rank is not None for row in found.rows] == [True, True, False, False]
        assert [row.level for row in found.rows] == ["L2+", "L2+", "L2", "L2"]


def test_evidence_about_one_model_is_joined(checked: BundleCheck, claimed: BundleCheck) -> None:
    board = Board()
    for check in (checked, replace(claimed, level="L2+")):
        board.add(check)
    for found in board.tracks():
        assert [len(row.sources) for row in found.rows] == [2, 2]
        assert not any(row.conflict for row in found.rows)


def test_an_older_site_is_replaced(
    checked: BundleCheck, claimed: BundleCheck, tmp_path: Path
) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "mine.html").write_text("kept")
    build_site([checked, claimed], tmp_path)
    build_site([claimed], tmp_path)
    names = {p.name for p in (tmp_path / "bundles").iterdir()}
    assert names == {"mine.html", page_name(claimed.digest).removeprefix("bundles/")}


def test_only_what_holds(checked: BundleCheck, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not hold"):
        build_site([replace(checked, failures=("a lie",))], tmp_path)
    with pytest.raises(RunError, match="no bundles"):
        build_site([], tmp_path)
    assert not (tmp_path / "index.html").exists()
