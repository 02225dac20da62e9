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
from helpers.browser import Browser, Seen, find
from helpers.make_run import make_evaluation, make_run, make_scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason="no Chromium (install the package chromium)"),
]

PAYLOADS = (
    "<script>alert('P0')</script>",
    "</script><script>alert('P1')</script>",
    "</SCRIPT ><script>alert('P2')</script>",
    '"><img src=x onerror=alert(3)>',
    "'><img src=x onerror=alert(4)>",
    "<img src=x onerror=alert(5)>",
    "<svg onload=alert(6)>",
    "<svg><script>alert(7)</script></svg>",
    "<svg><animate onbegin=alert(8) attributeName=x dur=1s>",
    "<iframe src=javascript:alert(9)>",
    '<iframe srcdoc="<script>parent.alert(10)</script>">',
    "<a href=javascript:alert(11)>click</a>",
    "javascript:alert(12)",
    "<body onload=alert(13)>",
    "<details open ontoggle=alert(14)>",
    "<video><source onerror=alert(15)></video>",
    "<math><mi xlink:href=javascript:alert(16)>x</mi></math>",
    "<base href=https://attacker.example/>",
    "<link rel=stylesheet href=https://attacker.example/p18.css>",
    "<style>@import 'https://attacker.example/p19.css';</style>",
    "<meta http-equiv=refresh content='0;url=https://attacker.example/p20'>",
    "<form action=https://attacker.example/p21><button>go</button></form>",
    "<object data=https://attacker.example/p22></object>",
    "<embed src=https://attacker.example/p23>",
    "<!--<script>alert('P24')",
    "--><script>alert('P25')</script>",
    "]]><script>alert('P26')</script>",
    "</title><script>alert('P27')</script>",
    "</style><script>alert('P28')</script>",
    "</textarea></noscript><script>alert('P29')</script>",
    '" onmouseover="alert(30)" x="',
    "' autofocus onfocus='alert(31)' x='",
    "` onerror=`alert(32)`",
    "&lt;script&gt;alert('P33')&lt;/script&gt;",
    "&#60;img src=x onerror=alert(34)&#62;",
    "{{constructor.constructor('alert(35)')()}}",
    "${alert(36)} #{7*7} <%= 7*7 %> {% print(7*7) %}",
    "\u2028alert(37)\u2029//</script>",
    "\u202egnp.exe\u202c \u2066\u2069 \u200b\ufeff",
    "\x00<scr\x00ipt>alert(39)</scr\x00ipt>\x1b[31m",
    "+ADw-script+AD4-alert(40)+ADw-/script+AD4-",
    "<b onclick=alert(41)>%{x} <extra>%{customdata}</extra> <a href='https://attacker.example'>x</a>",
    "$\\href{javascript:alert(42)}{x}$",
    "__proto__",
    "\ud800<img src=x onerror=alert(44)>",
    "; --w: url(https://attacker.example/p45); } body { background: url(//attacker.example) }",
    "W" * 3000,
)


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


def assert_quiet(seen: Seen, path: Path) -> None:
    assert seen.dialogs == []
    assert seen.console == []
    assert seen.targets == []
    outside = [url for url in seen.requests if not url.startswith("data:image/png;base64,")]
    assert outside == [path.resolve().as_uri()]


AUDIT = """
(() => {
  const elements = [...document.querySelectorAll("*")];
  const attributes = elements.flatMap((e) =>
    [...e.attributes].map((a) => [e.tagName, a.name, a.value]));
  return JSON.stringify({
    scripts: [...document.scripts].map((s) => s.type + (s.src || "")),
    handlers: attributes.filter(([, name]) => name.toLowerCase().startsWith("on")),
    links: attributes.filter(([, name, value]) =>
      /^(href|src|srcdoc|action|data|xlink:href|formaction)$/i.test(name)
      && !/^#[a-z0-9-]+$/.test(value) && !value.startsWith("data:image/png;base64,")),
    foreign: elements.map((e) => e.tagName.toLowerCase()).filter((tag) =>
      /^(iframe|object|embed|base|link|form|video|audio|source|math|animate|template|b|extra)$/
        .test(tag)),
    outside: elements.filter((e) => e.namespaceURI === "http://www.w3.org/2000/svg")
      .filter((e) => e.tagName === "a").length,
    text: document.body.textContent,
    title: document.title,
  });
})()
"""


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
    assert browser.run("document.querySelectorAll('.plot').length") == 3
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
