"""The page of a scan: verdict, figures, the worst samples; and what a run folder keeps of them."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

import aisec_eval as ae
from aisec_eval.datasets.poison import plant_patch
from aisec_eval.detectors.evidence import look, stride, worst
from aisec_eval.detectors.source import open_source
from aisec_eval.errors import RunError
from aisec_eval.report import scan_figures, scans
from aisec_eval.results import Scan
from aisec_eval.runs import load_run, read_scan, save_scan, write_scan


@pytest.fixture(scope="module")
def planted():
    x, y = ae.load_dataset("digits", split="train")
    x, y, poison = plant_patch(x, y, rate=0.05, target=3)
    flat = x.reshape(len(x), -1)
    result = ae.scan(flat, y, method="spectral", rate=0.1)
    evidence = look(open_source(flat, y), result, x)
    return Scan("digits", result, poison, evidence), x, y


def text(element):
    return re.sub(r"<[^>]+>", " ", element.render()).replace("\u00a0", " ")


def test_worst_and_stride():
    score = np.array([1.0, 5.0, np.nan, 5.0, 2.0])
    assert worst(score, 3).tolist() == [1, 3, 4]
    assert worst(score, 9).tolist() == [1, 3, 4, 0, 2]
    assert stride(100, 10) == 1
    assert stride(10**6, 10) == 334
    assert -(-(10**6) // stride(10**6, 4000)) <= 1000


def test_the_class_is_drawn_along_its_leading_directions(planted):
    scan, x, y = planted
    evidence = scan.evidence
    flags = [scan.result.flagged[y == c].sum() for c in range(10)]
    assert evidence.label == int(np.argmax(flags))
    assert np.all(y[evidence.row] == evidence.label)
    rows = x.reshape(len(x), -1)[evidence.row].astype(np.float64)
    left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    for axis in range(2):
        expected = left[:, axis] * values[axis]
        sign = np.sign(expected @ evidence.embedding[:, axis])
        np.testing.assert_allclose(sign * evidence.embedding[:, axis], expected, atol=1e-3)
    assert evidence.top.tolist() == np.argsort(-scan.result.score, kind="stable")[:24].tolist()
    np.testing.assert_array_equal(evidence.inputs, x[evidence.top])


def test_the_roc(planted):
    scan, _, _ = planted
    fpr, tpr = scan_figures.roc(scan)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    ranks = rankdata(scan.result.score)
    n, clean = scan.poison.sum(), (~scan.poison).sum()
    expected = (ranks[scan.poison].sum() - n * (n + 1) / 2) / (n * clean)
    assert scan_figures.area(fpr, tpr) == pytest.approx(expected)
    cut = np.quantile(scan.result.score[~scan.poison], 0.99, method="higher")
    assert scan_figures.caught_at(fpr, tpr) >= np.mean(scan.result.score[scan.poison] > cut)
    same = replace(scan, result=replace(scan.result, score=np.ones(len(scan.poison))))
    assert scan_figures.area(*scan_figures.roc(same)) == 0.5
    assert scan_figures.roc(replace(scan, poison=np.zeros(len(scan.poison), bool))) is None
    assert len(scan_figures.roc_traces(fpr, tpr)[1]["x"]) <= scan_figures.POINTS + 2


def test_the_section(planted):
    scan, _, _ = planted
    plots = {}
    drawn = scans.section(scan, "scan-0", plots)
    assert set(plots) == {"scan-0-scores", "scan-0-class", "scan-0-roc"}
    assert all(f'id="{name}"' in drawn.render() for name in plots)
    points = sum(len(trace["x"]) for trace in plots["scan-0-class"]["traces"])
    assert points == len(scan.evidence.row)
    said = text(drawn)
    assert "No verdict on the dataset" in said
    assert "p-values assume" in said
    assert "By rank alone" in said
    assert drawn.render().count("data:image/png") == 24
    json.dumps(plots, allow_nan=False)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"poisoned": True, "p": 1e-9, "level": 0.01}, "The dataset looks poisoned : p = 1e"),
        (
            {"poisoned": False, "p": 0.4, "level": 0.01},
            "No sign of poison : p = 0.4, with",
        ),
        ({"poisoned": False, "p": None, "level": 0.01}, "No verdict"),
        ("yes", "No verdict"),
    ],
)
def test_the_verdict(planted, found, said):
    scan, _, _ = planted
    info = {"dataset": found, "target_classes": [3], "rate": 0.05}
    told = text(scans.verdict(replace(scan, result=replace(scan.result, info=info))))
    assert said in told.replace("  ", " ")
    assert ("Suspected target class: 3" in told) == ("looks poisoned" in told)


def test_without_evidence_or_truth_there_is_less(planted):
    scan, _, _ = planted
    plots = {}
    drawn = scans.section(replace(scan, poison=None, evidence=None), "scan-0", plots)
    assert set(plots) == {"scan-0-scores"}
    assert "Highest scores" in text(drawn)


def test_text_from_outside_is_escaped(planted):
    scan, _, _ = planted
    evil = "<script>alert(1)</script>"
    info = {"null": evil, "rule": evil, "notes": [evil], "dataset": {"p": evil}}
    drawn = scans.section(
        replace(scan, data=evil, result=replace(scan.result, info=info)), "scan-0", {}
    )
    assert "<script" not in drawn.render()


def test_evidence_is_kept_and_checked(planted, tmp_path):
    scan, _, _ = planted
    write_scan(scan, tmp_path / "scan")
    back = read_scan(tmp_path / "scan")
    for name in ("label", "row", "embedding", "top", "inputs", "bounds"):
        np.testing.assert_array_equal(getattr(back.evidence, name), getattr(scan.evidence, name))
    for change in (
        {"row": scan.evidence.row + 10**6},
        {"embedding": scan.evidence.embedding[:-1]},
        {"embedding": np.full_like(scan.evidence.embedding, np.nan)},
        {"inputs": scan.evidence.inputs[:1]},
        {"bounds": (1.0, 0.0)},
    ):
        write_scan(replace(scan, evidence=replace(scan.evidence, **change)), tmp_path / "bad")
        with pytest.raises(RunError):
            read_scan(tmp_path / "bad")


def test_a_scan_is_saved_with_what_to_keep(planted, tmp_path):
    scan, _, _ = planted
    ids = np.arange(len(scan.poison)) * 2
    folder = save_scan(scan, tmp_path / "run", ids)
    kept = np.load(folder / "kept.npy", allow_pickle=False)
    assert kept.tolist() == ids[~scan.result.flagged].tolist()
    run = load_run(folder)
    np.testing.assert_array_equal(run.scans[0].result.score, scan.result.score)
    with pytest.raises(RunError, match="not empty"):
        save_scan(scan, folder)
