"""What the report says agrees with the run, and says the same every time."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aisec_eval.bracket import wilson
from aisec_eval.errors import RunError
from aisec_eval.report import (
    figures,
    gallery,
    html,
    provenance,
    scans,
    select,
    tables,
    write_report,
)
from aisec_eval.report.page import page
from aisec_eval.report.words import between, count, number, percent
from aisec_eval.results import VERDICTS, Run
from aisec_eval.threats import L2, Box, Linf
from helpers.make_run import make_evaluation, make_run, make_scan

if TYPE_CHECKING:
    from aisec_eval.results import Evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("report") / "run")


def entry(evaluation: Evaluation) -> select.Entry:
    return select.Entry(evaluation, "", "")


def body(text: str) -> str:
    """The page without scripts and style."""
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)


def cells(markup: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", markup, flags=re.DOTALL)
    return [
        [
            re.sub(r"<[^>]+>", "", c).replace("\u00a0", " ").strip()
            for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL)
        ]
        for row in rows
    ]


def test_same_run_same_bytes(run: Run, tmp_path: Path) -> None:
    first = write_report(run, tmp_path / "a" / "one.html")
    second = write_report(run, tmp_path / "two.html")
    assert first.read_bytes() == second.read_bytes()
    assert write_report(run, first) == first
    assert [p.name for p in first.parent.iterdir()] == ["one.html"]


def test_nothing_outside_is_named(run: Run) -> None:
    text = body(page(run))
    for attribute in ("href", "src"):
        for value in re.findall(rf'\b{attribute}="([^"]*)"', text):
            assert value.startswith(("#", "data:image/png;base64,"))
    assert "http" not in re.sub(r"http-equiv", "", text)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src &#x27;none&#x27;; script-src &#x27;sha256-")
    assert "unsafe-eval" not in policy[1]
    assert re.search(r"script-src[^;]*unsafe", policy[1]) is None


def test_every_link_has_its_target(run: Run) -> None:
    text = body(page(run))
    targets = set(re.findall(r'\bid="([^"]*)"', text))
    links = {value[1:] for value in re.findall(r'href="(#[^"]*)"', text)}
    assert links <= targets
    assert {"answer", "brackets", "curves", "attacks", "examples", "scans", "provenance"} <= links


def test_bracket_table_is_the_summary(run: Run) -> None:
    _, *rows = cells(tables.brackets(select.entries(run)).render())
    summary = run.summary
    assert len(rows) == summary.height == 12
    for row, expected in zip(rows, summary.iter_rows(named=True), strict=True):
        assert row[0] == expected["model"]
        assert row[1] == expected["threat"]
        shown = [text.replace("\u202f", "") for text in row[3:]]
        assert shown == [
            text.replace("\u00a0", " ").replace("\u202f", "")
            for text in (
                between(expected["certified"], expected["attacked"]),
                between(expected["ci_low"], expected["ci_high"]),
                percent(expected["clean"]),
                percent(expected["open"]),
                count(expected["samples"]),
                count(expected["gradients"]),
                count(expected["queries"]),
            )
        ]


def test_bar_is_drawn_to_scale(run: Run) -> None:
    for evaluation in run.evaluations:
        found = tables.shares(evaluation)
        assert sum(found.values()) == pytest.approx(1)
        markup = tables.bar(evaluation).render()
        widths = dict(re.findall(r'class="part ([a-z]+)" style="--w:([0-9.]+);"', markup))
        assert {k: float(v) for k, v in widths.items()} == pytest.approx(
            {k: v for k, v in found.items() if v}, abs=1e-6
        )
        start, width = (float(v) for v in re.findall(r"--[ab]:([0-9.]+);", markup))
        low, high = evaluation.bracket.interval
        assert (start, start + width) == pytest.approx((low, high), abs=2e-6)


def test_attack_table_counts_every_broken_sample_once(run: Run) -> None:
    found = select.entries(run)
    table = tables.attacks(found)
    assert table is not None
    head, *rows, foot = cells(table.render())
    assert head == ["Model", "Threat", "APGD-CE", "Square", "All"]
    for row, one in zip(rows, found, strict=True):
        broken = one.evaluation.verdict == VERDICTS.index("broken")
        for text, method in zip(row[2:4], ("APGD-CE", "Square"), strict=True):
            by = np.array([name == method for name in one.evaluation.found_by])
            assert int(text.split()[0]) == int(np.sum(broken & by))
        assert int(row[4]) == int(broken.sum())
    assert int(foot[-1]) == sum(len(one.evaluation.x_adv) for one in found)
    untouched = replace(run.evaluations[0], **nothing(run.evaluations[0]))
    assert tables.attacks([entry(untouched)]) is None
    assert gallery.gallery([entry(untouched)]) is None


def nothing(evaluation: Evaluation) -> dict[str, object]:
    """The fields of an evaluation in which every sample is open."""
    n = len(evaluation.verdict)
    return {
        "verdict": np.full(n, VERDICTS.index("open"), np.int8),
        "x_adv": evaluation.x_adv[:0],
        "x_clean": evaluation.x_clean[:0],
        "found_by": ("",) * n,
    }


def test_curves_start_at_clean_accuracy_and_run_by_radius(run: Run) -> None:
    found = list(reversed(select.entries(run)))
    by_norm = select.curves(found)
    assert set(by_norm) == {"linf", "l2"}
    band, attacked, certified, *_ = figures.curve(by_norm["linf"])
    members = next(iter(by_norm["linf"].values()))
    assert attacked["x"] == [0.0, 0.02, 0.05, 0.1, 0.2]
    clean = members[0].evaluation.clean_accuracy
    assert attacked["y"] == [clean, *(m.bracket.attacked for m in members)]
    assert certified["y"] == [clean, *(m.bracket.certified for m in members)]
    n = members[0].bracket.total
    assert band["y"][0] == wilson(round(clean * n), n)[1]
    assert band["y"][1:5] == [m.bracket.interval[1] for m in members]
    assert band["y"][5:9] == [m.bracket.interval[0] for m in members[::-1]]
    assert certified["line"]["dash"] == "dash"


def test_threats_without_a_radius_are_listed_but_not_drawn() -> None:
    made = make_evaluation("m", Linf("0.1"))
    box = Box([0.0], [1.0])
    info = {"threat": {"norm": "box", "lower": [0], "upper": [1]}}
    boxed = replace(made, threat=str(box), info=info)
    bare = replace(made, info={})
    assert select.curves([entry(boxed), entry(bare)]) == {}
    assert entry(bare).bounds == (0.0, 1.0)
    text = body(page(Run(Path("somewhere"), {}, (boxed, bare))))
    assert 'id="brackets"' in text
    assert 'id="curves"' not in text


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), ("0.3", 0.3), ("2", 2.0), (str(Fraction(0.1)), 0.1), ("1/0", None),
     ("-1", None), ("1e9", None), ("x", None), (None, None), ("9" * 40, None), ({}, None)],
)  # fmt: skip
def test_radius(text: object, value: float | None) -> None:
    assert select.radius(text) == (pytest.approx(value) if value is not None else None)


def test_headline_picks_what_separates_models_most(run: Run) -> None:
    found = select.entries(run)
    chosen = select.headline(found)
    assert [one.evaluation.model for one in chosen] == ["standard", "robust"]
    threat = chosen[0].evaluation.threat
    assert chosen[1].evaluation.threat == threat

    def gap(name: str) -> float:
        values = [one.bracket.attacked for one in found if one.evaluation.threat == name]
        return max(values) - min(values)

    assert gap(threat) == max(gap(one.evaluation.threat) for one in found)


def test_headline_of_one_model_is_where_half_is_lost(run: Run) -> None:
    found = [one for one in select.entries(run) if one.evaluation.model == "standard"]
    (chosen,) = select.headline(found)
    assert chosen.bracket.attacked <= chosen.evaluation.clean_accuracy / 2
    earlier = found[: [one is chosen for one in found].index(True)]
    assert earlier
    assert all(one.bracket.attacked > one.evaluation.clean_accuracy / 2 for one in earlier)
    mild = [one for one in found if one.bracket.attacked > one.evaluation.clean_accuracy / 2]
    (chosen,) = select.headline(mild)
    assert chosen.bracket.attacked == min(one.bracket.attacked for one in mild)
    assert select.headline([]) == []


def test_models_under_different_threats_each_show_their_own() -> None:
    a, b = make_evaluation("a", Linf("0.1")), make_evaluation("b", L2("0.5"))
    chosen = select.headline([entry(a), entry(b)])
    assert [one.evaluation.model for one in chosen] == ["a", "b"]


def test_gallery_shows_the_clearest_of_different_labels(run: Run) -> None:
    one = max(select.entries(run), key=lambda e: len(e.evaluation.x_adv))
    e = one.evaluation
    rows = np.flatnonzero(e.verdict == VERDICTS.index("broken"))
    chosen = gallery.choose(one, 4)
    labels = e.label[rows[chosen]]
    assert len(set(labels.tolist())) == 4
    assert e.margin[rows[chosen[0]]] == e.margin[rows].min()
    for index in chosen:
        same = rows[e.label[rows] == e.label[rows[index]]]
        assert e.margin[rows[index]] == e.margin[same].min()
    assert sorted(gallery.choose(one, 10**6)) == list(range(len(rows)))


def test_scan_numbers() -> None:
    scan = make_scan()
    text = re.sub(r"<[^>]+>", "", scans.section(scan, "scan-0", {}).render()).replace("\u00a0", " ")
    flagged, poison = scan.result.flagged, scan.poison
    assert poison is not None
    caught, alarms = int((flagged & poison).sum()), int((flagged & ~poison).sum())
    assert f"{int(flagged.sum())} samples of 200 flagged" in text
    assert f"{percent(caught / poison.sum())} caught".replace("\u00a0", " ") in text
    assert f"{percent(alarms / (~poison).sum())} false alarms".replace("\u00a0", " ") in text
    total = sum(sum(trace["y"]) for trace in figures.histogram(scan))
    assert total == 200
    missed = int(poison.sum()) - caught
    assert [sum(trace["y"]) for trace in figures.histogram(scan)][2:] == [caught, missed]
    blind = replace(scan, poison=None)
    assert len(figures.histogram(blind)) == 2
    assert "not known here" in scans.section(blind, "scan-0", {}).render()


def test_scores_that_are_not_finite_are_not_drawn() -> None:
    scan = make_scan()
    score = scan.result.score.copy()
    score[:3] = [np.nan, np.inf, -np.inf]
    traces = figures.histogram(replace(scan, result=replace(scan.result, score=score)))
    assert sum(sum(trace["y"]) for trace in traces) == 197
    nothing = replace(scan.result, score=np.full(200, np.nan))
    assert figures.histogram(replace(scan, result=nothing)) == []
    html.data("plots", traces)


def test_gates_show_failures_one_by_one_and_passes_together() -> None:
    gate = {"gate": "clean", "claim": ">= 0.9", "value": 0.95, "low": 0.93, "high": 0.97}
    found = [{**gate, "where": f"m{i}", "passed": True, "value": 0.95 + i / 100} for i in range(3)]
    other = {"gate": "open", "claim": "<= 0.1", "value": 0.5, "low": 0.4, "high": 0.6}
    bad = [{**other, "where": f"n{i}", "passed": i == 0} for i in range(3)]
    table = tables.gates([*found, *bad, "junk"])
    assert table is not None
    _, *rows = cells(table.render())
    assert [row[0] for row in rows] == ["passed", "failed", "failed"]
    assert rows[0][3:5] == ["all 3 in its scope", "0.95 \u2013 0.97"]
    assert [row[3] for row in rows[1:]] == ["n1", "n2"]
    assert tables.gates([]) is None


def test_errors_and_flags_are_told(run: Run) -> None:
    text = body(page(replace(run, errors=("shard 7 failed: out of <memory>",))))
    assert "This run is incomplete" in text
    assert "shard 7 failed: out of &lt;memory&gt;" in text
    assert "every evaluation" in text
    assert text.count("fabricated: for tests of the report") == 1


def test_shards_that_never_ran_are_told(run: Run) -> None:
    assert "incomplete" not in body(page(run))
    text = body(page(replace(run, manifest={**run.manifest, "plan": {"missing": 2}})))
    assert "This run is incomplete" in text
    assert "2 shards never ran" in text
    assert "These parts failed" not in text


@pytest.mark.parametrize(
    ("second", "label", "told"), [(True, "good", "2 of 2 gates"), (False, "bad", "1 of 2 gates")]
)
def test_gates_are_told_at_the_top(run: Run, second: bool, label: str, told: str) -> None:
    gates = [{"gate": "a", "claim": "> 0", "passed": True}] * 3
    gates += [{"gate": "b", "claim": "> 0", "passed": second}]
    text = body(page(replace(run, manifest={**run.manifest, "gates": gates})))
    head = text[: text.index("<main>")]
    assert f'class="badge {label}"' in head
    assert told in head


def test_gallery_of_many_evaluations_stays_readable(run: Run) -> None:
    one = max(select.entries(run), key=lambda e: len(e.evaluation.x_adv))
    for copies, each in ((1, 4), (60, 4), (80, 3), (400, 1)):
        drawn = gallery.gallery([one] * copies)
        assert drawn is not None
        assert drawn.render().count("<figure>") == copies * each


def test_manifest_of_any_shape_is_drawn(run: Run) -> None:
    for junk in (None, 3, "text", [1, None, {"id": {}}], {"name": [1], "digest": None}):
        keys = ("suite", "plan", "engine", "models", "data", "cells", "gates", "warnings")
        manifest = dict.fromkeys((*keys, "evaluations", "versions", "kind", "name", "schema"), junk)
        assert "Provenance" in page(replace(run, manifest=manifest))
    assert 'id="provenance"' in page(replace(run, evaluations=(), scans=(), manifest={}))
    assert len(provenance.pretty("x" * 10**6)) < provenance.MAX_TEXT + 100


def test_unwritable_target_is_one_line(run: Run, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(RunError, match=r"cannot write .*choose a folder") as caught:
        write_report(run, blocker / "report.html")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.12345, "12.3 %"), (0.99999, "99.9 %"), (1e-9, "0.1 %"),
     (float("nan"), "\u2013")],
)  # fmt: skip
def test_percent(value: float, text: str) -> None:
    assert percent(value).replace("\u00a0", " ") == text


def test_numbers() -> None:
    assert between(0.5, 0.5001) == percent(0.5)
    assert between(0.0, 0.5).replace("\u00a0", " ") == "0 \u2013 50.0 %"
    assert count(1234567) == "1\u202f234\u202f567"
    assert count(12_345_678) == "12.3 M"
    assert count(98_765_432_100) == "98.8 G"
    assert number(-0.123456) == "\u22120.1235"
    assert number(float("inf")) == "\u2013"
