"""The leaderboard in a real browser: quiet, usable, and deaf to hostile names."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from aisec_eval.leaderboard import site
from aisec_eval.leaderboard.board import Row, Source, Track
from aisec_eval.leaderboard.lock import LockedCell, LockedThreat
from aisec_eval.report.html import visible
from aisec_eval.threats import Linf
from helpers.browser import Browser, find
from helpers.hostile import AUDIT, PAYLOADS, assert_quiet
from helpers.make_run import make_evaluation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason="no Chromium (install the package chromium)"),
]

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(find() or "") as running:
        yield running


def made_track(radius: str, data: str, rows: Sequence[Row]) -> Track:
    """A track whose names no lock would let through."""
    threat = LockedThreat(id="t", norm="linf", eps="1/10", bounds=[0.0, 1.0])
    cell = LockedCell.model_construct(data=data, threat=threat, ids=[[0, 30]], entry="000-x")
    return Track(radius, cell, tuple(rows))


def row(model: str, radius: str, *, rank: int | None, **others: object) -> Row:
    e = replace(make_evaluation("net", Linf(radius), samples=30), model=model, **others)
    return Row(e, (Source(DIGEST, "L2" if rank is None else "L2+", "suite 1.0.0"),), rank)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = {
        radius: [row("robust", radius, rank=1), row("plain", radius, rank=2),
                 row("claimed", radius, rank=None)]
        for radius in ("0.05", "0.1", "0.2")
    }  # fmt: skip
    tracks = [made_track(radius, "digits", found) for radius, found in rows.items()]
    path = tmp_path_factory.mktemp("board") / "index.html"
    path.write_text(site.page(tracks), encoding="utf-8")
    return path


SHOWN = """[...document.querySelectorAll("section.track")].filter((t) => t.offsetHeight > 0)
  .map((t) => t.querySelector("h2").textContent)"""


def test_one_threat_model_at_a_time(browser: Browser, board: Path) -> None:
    assert_quiet(browser.open(board), board)
    assert browser.run(SHOWN) == ["Linf 0.05 on digits, 30 samples"]
    options = browser.run("[...document.querySelector('select').options].map((o) => o.text)")
    assert options == [*(f"Linf {r} on digits, 30 samples" for r in ("0.05", "0.1", "0.2")), "all"]
    choose = "const list = document.querySelector('select'); list.value = {};"
    choose = f"(() => {{ {choose} list.dispatchEvent(new Event('change')); }})()"
    browser.run(choose.replace("{}", "'track-2'"))
    assert browser.run(SHOWN) == ["Linf 0.2 on digits, 30 samples"]
    assert browser.run("location.hash") == "#track-2"
    browser.run(choose.replace("{}", "''"))
    assert len(browser.run(SHOWN)) == 3
    assert browser.seen.console == []


def test_the_address_keeps_the_choice(browser: Browser, board: Path) -> None:
    browser.open(board)
    browser.run("(() => { location.hash = 'track-1'; })()")
    browser.run("new Promise((done) => setTimeout(done, 100))")
    assert browser.run(SHOWN) == ["Linf 0.1 on digits, 30 samples"]
    assert browser.run("document.querySelector('select').value") == "track-1"


def test_rows_sort_and_claims_have_no_class(browser: Browser, board: Path) -> None:
    browser.open(board)
    models = """[...document.querySelectorAll("#track-0 tbody tr")]
      .map((r) => [r.cells[0].textContent, r.cells[1].textContent, r.cells[3].textContent])"""
    assert browser.run(models) == [
        ["1", "robust", "L2+"], ["2", "plain", "L2+"], ["\u2013", "claimed", "L2"],
    ]  # fmt: skip
    browser.run("document.querySelectorAll('#track-0 thead button')[1].click()")
    assert [name for _, name, _ in browser.run(models)] == ["claimed", "plain", "robust"]


def test_narrow_screens_do_not_scroll_sideways(browser: Browser, board: Path) -> None:
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1,
        mobile=True,
    )  # fmt: skip
    try:
        browser.open(board)
        assert browser.run("document.documentElement.scrollWidth") <= 360
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def test_hostile_names_stay_texts(browser: Browser, tmp_path: Path) -> None:
    rows = [
        replace(
            row(text, "0.1", rank=index % 3 or None, threat=text, flags=(text,)),
            sources=(Source(DIGEST, "L2+", text), Source(DIGEST[::-1], "L2+", text)),
            conflict=index % 4 == 0,
        )
        for index, text in enumerate(PAYLOADS)
    ]
    tracks = [made_track(str(i), PAYLOADS[i], rows[i::4]) for i in range(4)]
    path = tmp_path / "index.html"
    path.write_bytes(site.page(tracks).encode())
    (tmp_path / "leaderboard.json").write_text(json.dumps(site.as_json(tracks)))
    assert_quiet(browser.open(path), path)
    found = json.loads(browser.run(AUDIT))
    assert found["scripts"] == [""]
    assert found["handlers"] == []
    assert found["foreign"] == []
    allowed = {"leaderboard.json", site.page_name(DIGEST), site.page_name(DIGEST[::-1])}
    assert {value for _, _, value in found["links"]} <= allowed
    for text in PAYLOADS:
        assert visible(text).strip()[:100] in found["text"]
    browser.run("document.querySelector('select').value = ''")
    for link in range(3):
        browser.run(f"document.querySelectorAll('th button')[{link}].click()")
    assert browser.seen.dialogs == []
    assert browser.seen.console == []
