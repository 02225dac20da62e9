"""The report by class: counts by hand, the target first, any detector."""

from __future__ import annotations

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.detectors import class_report, strip
from helpers.backdoored import digits


def made(label, p, flagged=None, info=None):
    p = np.asarray(p, float)
    return ae.ScanResult(
        score=-np.log(p),
        flagged=np.zeros(len(p), bool) if flagged is None else np.asarray(flagged),
        p_value=p,
        label=np.asarray(label),
        method="made",
        classes=np.unique(label),
        eigenvalues=np.empty(0),
        info=info or {},
    )


def test_counts_by_hand():
    label = [7, 7, 7, 7, 2, 2]
    result = made(
        label,
        [0.001, 0.005, 0.5, 1.0, 0.5, 0.2],
        [True, True, False, False, False, False],
        {"class_tests": [{"class": 7, "p": 1e-4}], "target_classes": [7]},
    )
    first, second = class_report(result).iter_rows(named=True)
    assert first["class"] == 7
    assert first["suspected"]
    assert (first["samples"], first["flagged"], first["low_p"]) == (4, 2, 2)
    assert first["flagged_share"] == 0.5
    assert first["expected"] == pytest.approx(0.04)
    assert first["median_score"] == pytest.approx(-np.log([0.005, 0.5]).mean())
    assert first["p"] == 1e-4
    assert second["p"] is None
    assert not second["suspected"]


def test_the_index_is_of_the_share_of_low_p_values():
    random = np.random.default_rng(0)
    label = np.repeat(np.arange(9), 400)
    p = random.random(3600)
    p[label == 5] = np.concatenate([np.full(80, 1e-4), random.random(320)])
    frame = class_report(made(label, p))
    assert frame["class"][0] == 5
    share = np.array([(p[label == c] <= 0.01).mean() for c in range(9)])
    centre = np.median(share)
    spread = 1.4826 * np.median(np.abs(share - centre))
    expected = (share[5] - centre) / max(spread, np.sqrt(0.01 * 0.99 / 400))
    assert frame["anomaly_index"][0] == pytest.approx(expected)
    assert frame["anomaly_index"][1:].abs().max() < 5


def test_classes_that_are_all_alike_are_no_anomalies():
    frame = class_report(made(np.repeat(np.arange(4), 10), np.ones(40)))
    assert frame["anomaly_index"].to_list() == [0.0] * 4


def test_any_scan_has_a_report_and_the_target_comes_first():
    case = digits()
    found = strip(case.model, case.x, case.y, clean=case.clean_x, clean_labels=case.clean_y)
    frame = class_report(found)
    assert frame["class"][0] == case.target
    assert frame["suspected"].to_list() == [True] + [False] * 9
    assert frame["anomaly_index"][0] > 3
    other = class_report(ae.scan(case.x, case.y, model=case.model, method="neighbours"))
    assert other["samples"].sum() == len(case.y)
