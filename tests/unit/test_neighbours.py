"""Neighbour disagreement: wrong labels found, none invented where features say little."""

import numpy as np
import pytest
from scipy.stats import binom

import aisec_eval as ae
from aisec_eval.detectors import knn, neighbours
from aisec_eval.detectors.calibrate import binomial_tail
from aisec_eval.runs import read_scan, write_scan


def blobs(n=1500, classes=6, d=16, spread=0.35, seed=0):
    random = np.random.default_rng(seed)
    centre = random.normal(size=(classes, d))
    y = random.integers(0, classes, n)
    return (centre[y] + spread * random.normal(size=(n, d))).astype(np.float32), y


def flip(y, rate, seed=1):
    random = np.random.default_rng(seed)
    wrong = random.random(len(y)) < rate
    other = (y + random.integers(1, y.max() + 1, len(y))) % (y.max() + 1)
    return np.where(wrong, other, y), wrong


def test_wrong_labels_raise_the_alarm_and_are_named():
    x, y = blobs()
    given, wrong = flip(y, 0.05)
    result = ae.scan(x, given, method="neighbours")
    assert result.info["dataset"]["poisoned"]
    assert result.info["dataset"]["p"] < 1e-6
    assert np.mean(result.flagged[wrong]) > 0.95
    assert np.mean(wrong[result.flagged]) > 0.95
    assert abs(result.info["rate"] - wrong.mean()) < 0.01
    right = [s["label"] == y[s["sample"]] for s in result.info["suggested_labels"]]
    assert len(right) > 50
    assert np.mean(right) > 0.95
    # Calibrated on the correct samples, all the same.
    assert np.mean(result.p_value[~wrong] <= 0.1) <= 0.11


@pytest.mark.parametrize("seed", range(4))
def test_overlapping_classes_raise_no_alarm(seed):
    x, y = blobs(spread=1.2, seed=seed)
    result = ae.scan(x, y, method="neighbours")
    assert sum(result.info["agreement"][:8]) > 10  # there is disagreement
    assert not result.info["dataset"]["poisoned"]
    assert not result.flagged.any()
    assert abs(np.mean(result.p_value <= 0.1) - 0.1) < 1e-2  # ranks


@pytest.mark.parametrize("classes", [2, 5, 50])
def test_labels_that_features_do_not_tell_are_no_alarm(classes):
    random = np.random.default_rng(3)
    share = 1 / np.arange(1, classes + 1)
    y = random.choice(classes, 1500, p=share / share.sum())
    result = ae.scan(random.normal(size=(1500, 8)), y, method="neighbours")
    assert not result.info["dataset"]["poisoned"]


def test_votes_are_those_of_counting():
    random = np.random.default_rng(5)
    code = random.integers(0, 4, 60)
    ids = np.array([random.permutation(np.delete(np.arange(60), i))[:7] for i in range(60)])
    distance = np.sort(random.random((60, 7)), axis=1).astype(np.float32)
    agree, rival, suggested, margin = neighbours._votes(code, ids, distance)
    for i in range(60):
        votes = np.bincount(code[ids[i]], minlength=4)
        assert agree[i] == votes[code[i]]
        votes[code[i]] = 0
        assert rival[i] == votes.max() == votes[suggested[i]]
        assert -1 - 1e-9 <= margin[i] <= 1 + 1e-9
        if agree[i] == 7:
            assert margin[i] == pytest.approx(-1)


@pytest.mark.parametrize(("heads", "throws"), [(0, 5), (5, 5), (3, 9), (30, 62), (900, 1000)])
def test_binomial_tail(heads, throws):
    assert binomial_tail(heads, throws) == pytest.approx(binom.sf(heads - 1, throws, 0.5), rel=1e-9)


def test_duplicates_and_outliers_are_reported(tmp_path):
    x, y = blobs(400)
    x[7], y[7] = x[3], (y[3] + 1) % 6
    x[9] = x[8]
    y[9] = y[8]
    result = ae.scan(x, y, method="neighbours")
    assert result.info["near_duplicates"] == 4
    assert {frozenset(pair) for pair in result.info["near_duplicate_pairs"][:2]} == {
        frozenset((3, 7))
    }
    from aisec_eval.results import Scan

    again = read_scan(write_scan(Scan("blobs", result), tmp_path / "scan"))
    np.testing.assert_array_equal(again.result.score, result.score)
    assert again.result.info["dataset"] == result.info["dataset"]
    assert len(again.result.eigenvalues) == 0


def test_copies_are_counted_once():
    x, y = blobs(1200, spread=1.2)
    single = ae.scan(x, y, method="neighbours").info
    given, _ = flip(y, 0.004)
    whole = np.concatenate([x] + [x[given != y]] * 5)
    copies = ae.scan(whole, np.concatenate([given] + [given[given != y]] * 5), method="neighbours")
    once = ae.scan(x, given, method="neighbours")
    assert not single["dataset"]["poisoned"]
    assert copies.info["dataset"]["p"] >= once.info["dataset"]["p"]


def test_what_cannot_be_scanned_is_refused_in_one_line():
    x, y = blobs(200)
    with pytest.raises(ae.InputError, match="two classes"):
        ae.scan(x, method="neighbours")
    with pytest.raises(ae.InputError, match=r"50000 samples .* need .* memory_limit is 4 MiB: .*"):
        ae.scan(np.zeros((50_000, 64), np.float32), method="neighbours", memory_limit=4 << 20)
    for bad in (np.nan, np.inf, -np.inf):
        x[5, 2] = bad
        with pytest.raises(ae.InputError, match=r"row 5: feature 2 is not finite") as error:
            ae.scan(x, y, method="neighbours")
        assert "\n" not in str(error.value)
    with pytest.raises(ae.InputError, match="one sample"):
        ae.scan(x[:1], y[:1], method="neighbours")


def test_too_many_samples_are_searched_by_a_graph(monkeypatch):
    x, y = blobs(3000)
    given, wrong = flip(y, 0.05)
    exact = ae.scan(x, given, method="neighbours")
    assert exact.info["index"] == {"kind": "exact"}
    monkeypatch.setattr(knn, "EXACT", 1000)
    graph = ae.scan(x, given, method="neighbours")
    index = graph.info["index"]
    assert index["kind"] == "graph"
    assert index["recall"] > 0.99
    assert 0.95 < index["recall_at_least"] < index["recall"]
    assert graph.info["dataset"]["poisoned"]
    assert np.mean(graph.flagged[wrong]) > 0.95
    assert np.mean(graph.flagged == exact.flagged) > 0.999
    # Points of many dimensions without structure have no neighbourhoods to go through.
    noise = np.random.default_rng(0).normal(size=(6000, 128)).astype(np.float32)
    index = ae.scan(noise, y.repeat(2), method="neighbours").info
    assert index["index"]["recall"] < 0.95
    assert any("the graph found" in note for note in index["notes"])


def test_few_samples_give_scores_and_no_verdict():
    x, y = blobs(12, classes=2)
    result = ae.scan(x, y, method="neighbours")
    assert len(result.score) == 12
    assert not result.flagged.any()
    assert any("no verdict" in note for note in result.info["notes"])


@pytest.mark.reference
def test_a_graph_of_the_reference_data(reference, monkeypatch):
    monkeypatch.setattr(knn, "EXACT", 1000)
    for name in ("clean_0", "badnets_5"):
        with np.load(reference / "poison" / f"mnist_{name}.npz") as data:
            x, y = data["features"], data["labels"].astype(np.int64)
        index = ae.scan(x, y, method="neighbours").info["index"]
        assert index["kind"] == "graph"
        assert index["recall_at_least"] > 0.95


@pytest.mark.reference
def test_flips_of_the_reference_data(reference):
    for name, alarm in (("clean_0", False), ("flip_5", True)):
        with np.load(reference / "poison" / f"mnist_{name}.npz") as data:
            x, y, poison = data["features"], data["labels"].astype(np.int64), data["poison"]
        result = ae.scan(x, y, method="neighbours")
        assert result.info["dataset"]["poisoned"] is alarm
        if alarm:
            line = np.quantile(result.score[~poison], 0.99)
            assert np.mean(result.score[poison] > line) >= 0.97
            assert np.mean(poison[result.flagged]) > 0.9
