"""The report in a real browser: quiet, self-contained, usable, and deaf to hostile names."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aisec_eval.report import write_report
from aisec_eval.report.html import visible
from aisec_eval.results import Run
from aisec_eval.threats import L2, Linf
from helpers.browser import Browser, find
from helpers.hostile import AUDIT, PAYLOADS, assert_quiet
from helpers.make_run import make_evaluation, make_run, make_scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason="no Chromium (install the package chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(find() or "") as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(make_run(folder / "run"), folder / "report.html")


def hostile(folder: Path) -> Run:
    """A run with a payload in every text: each payload is in each field once."""
    threats = (Linf("0.1"), L2("0.5"))
    evaluations = []
    for index, text in enumerate(PAYLOADS):
        made = make_evaluation("m", threats[index % 2], samples=6, seed=index)
        info = {
            "threat": {"norm": threats[index % 2].norm, "eps": "1/10", "bounds": [0, 1]},
            text: {text: [text]},
        }
        if index % 5 == 0:
            info["threat"] = {"norm": text, "eps": "0.1", "bounds": [0, 1]}
        if index % 5 == 1:
            info["threat"] = {"norm": "linf", "eps": text, "bounds": [text, 1]}
        evaluations.append(
            replace(
                made,
                model=text,
                model_digest=text,
                threat=text,
                found_by=tuple(text for _ in made.found_by),
                flags=(text, f"again: {text}"),
                info=info,
            )
        )
    scan = make_scan()
    scans = tuple(
        replace(scan, data=text, result=replace(scan.result, method=text, info={text: text}))
        for text in PAYLOADS[:12]
    )
    everything = " ".join(PAYLOADS)
    record = [{"id": t, "path": t, "digest": t, "source": t, "samples": t} for t in PAYLOADS]
    manifest = {
        "kind": everything,
        "suite": {
            "name": everything, "version": everything, "seed": everything,
            "description": everything,
        },
        "engine": {text: text for text in PAYLOADS},
        "plan": {"digest": everything, "shards": everything},
        "models": record,
        "data": record,
        "evaluations": [f"{i:03d}-x" for i in range(len(PAYLOADS))],
        "cells": [
            {"entry": f"{i:03d}-x", "data": t, "task": t} for i, t in enumerate(PAYLOADS)
        ],
        "gates": [
            {"gate": t, "claim": t, "where": t, "value": t, "low": t, "high": 1, "passed": t}
            for t in PAYLOADS
        ],
        "warnings": list(PAYLOADS),
    }  # fmt: skip
    return Run(folder, manifest, tuple(evaluations), scans, PAYLOADS)


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    return write_report(hostile(folder), folder / "hostile.html")


def test_the_harness_hears_an_injected_page(browser: Browser, tmp_path: Path) -> None:
    """What the tests below look for is seen when it is there."""
    page = tmp_path / "naive.html"
    page.write_text(
        "<!doctype html><body>"
        "<script>alert('heard')</script><img src='missing.png' onerror='console.error(1)'>"
    )
    seen = browser.open(page)
    assert seen.dialogs == ["heard"]
    assert any("1" in line for line in seen.console)
    assert any(url.endswith("missing.png") for url in seen.requests)
    assert json.loads(browser.run(AUDIT))["handlers"] != []
    with pytest.raises(AssertionError):
        assert_quiet(seen, page)


def test_report_is_quiet_and_draws(browser: Browser, report: Path) -> None:
    assert_quiet(browser.open(report), report)
    drawn = browser.run("document.querySelectorAll('.plot svg.main-svg').length")
    assert drawn >= 3
    kinds = browser.run("[...document.querySelectorAll('.plot')].map((p) => p.id)")
    assert kinds == ["curve-0", "curve-1", "scan-0-scores", "scan-0-roc"]
    assert browser.run("document.querySelectorAll('.plot .main-svg').length") >= len(kinds)
    assert browser.run("[...document.images].every((i) => i.complete && i.naturalWidth === 8)")
    audit = json.loads(browser.run(AUDIT))
    assert sorted(audit["scripts"]) == ["", "", "application/json"]
    assert audit["handlers"] == []


def test_hostile_names_stay_text(browser: Browser, hostile_report: Path) -> None:
    assert_quiet(browser.open(hostile_report), hostile_report)
    audit = json.loads(browser.run(AUDIT))
    assert sorted(audit["scripts"]) == ["", "", "application/json"]
    assert audit["handlers"] == []
    assert audit["links"] == []
    assert audit["foreign"] == []
    assert audit["outside"] == 0
    for text in PAYLOADS:
        assert visible(text[:100]) in audit["text"], text[:60]
    # Hovering a curve and sorting by a hostile head touch the scripted paths.
    browser.run(
        "for (const plot of document.querySelectorAll('.plot'))"
        " Plotly.Fx.hover(plot, [{curveNumber: 1, pointNumber: 0}]);"
        "document.querySelectorAll('th button').forEach((b) => b.click())"
    )
    browser.run("new Promise((done) => setTimeout(done, 200))")
    assert browser.seen.dialogs == []
    assert browser.seen.console == []
    assert json.loads(browser.run(AUDIT))["foreign"] == []


def test_policy_stops_what_would_slip_through(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    """Were markup ever injected, the page's own policy keeps it from running or loading."""
    text = report.read_text()
    bad = "<img src=https://attacker.example/x onerror=alert(1)><script>alert(2)</script>"
    page = tmp_path / "injected.html"
    page.write_text(text.replace("<main>", f"<main>{bad}", 1))
    seen = browser.open(page)
    assert seen.dialogs == []
    assert any("Content Security Policy" in line for line in seen.console)


def test_tables_sort_by_value(browser: Browser, report: Path) -> None:
    browser.open(report)
    read = (
        "[...document.querySelectorAll('#brackets tbody tr')].map((r) => r.cells[%d].dataset.value)"
    )
    column = browser.run(
        "[...document.querySelectorAll('#brackets thead th')]"
        ".findIndex((h) => h.textContent.startsWith('Gradients'))"
    )
    click = f"document.querySelectorAll('#brackets thead button')[{column}].click()"
    browser.run(click)
    rising = [float(value) for value in browser.run(read % column)]
    assert rising == sorted(rising)
    assert len(set(rising)) > 3
    sort = f"document.querySelectorAll('#brackets thead th')[{column}].getAttribute('aria-sort')"
    assert browser.run(sort) == "ascending"
    browser.run(click)
    assert [float(v) for v in browser.run(read % column)] == rising[::-1]
    assert browser.run(sort) == "descending"
    browser.run("document.querySelectorAll('#brackets thead button')[0].click()")
    names = browser.run(read % 0)
    assert names == sorted(names)


def test_page_never_scrolls_sideways(browser: Browser, report: Path, hostile_report: Path) -> None:
    try:
        for page in (report, hostile_report):
            browser.open(page)
            for width in (1280, 360):
                browser.call(
                    "Emulation.setDeviceMetricsOverride",
                    width=width,
                    height=800,
                    deviceScaleFactor=1,
                    mobile=False,
                )
                browser.run("new Promise((done) => setTimeout(done, 300))")
                assert browser.run("document.documentElement.clientWidth") == width
                assert browser.run("document.documentElement.scrollWidth") <= width
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def test_figures_follow_the_colour_scheme_and_paper(browser: Browser, report: Path) -> None:
    browser.open(report)
    colour = "document.querySelector('.plot .scatterlayer path.js-line').style.stroke"

    def ground() -> str:
        return str(browser.run("getComputedStyle(document.documentElement).backgroundColor"))

    def scheme(value: str, media: str = "") -> None:
        browser.call(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": value}],
        )
        browser.run("new Promise((done) => setTimeout(done, 300))")

    try:
        scheme("light")
        light, light_ground = browser.run(colour), ground()
        scheme("dark")
        dark, dark_ground = browser.run(colour), ground()
        assert light != dark
        assert light_ground != dark_ground
        printed = browser.call("Page.printToPDF", printBackground=True)["data"]
        assert len(printed) > 20_000
    finally:
        browser.call("Emulation.setEmulatedMedia", media="", features=[])


def test_every_picture_and_control_has_a_name(browser: Browser, report: Path) -> None:
    browser.open(report)
    unnamed = browser.run(
        "[...document.querySelectorAll('img, [role=img], [role=region], button, nav')]"
        ".filter((e) => !(e.getAttribute('alt') || e.getAttribute('aria-label')"
        " || e.textContent.trim() || e.querySelector('title'))).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    levels = browser.run(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert np.count_nonzero(np.array(levels) == 1) == 1
