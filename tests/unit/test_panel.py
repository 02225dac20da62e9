"""The panel: told nothing, it finds backdoors and wrong labels, and is quiet on clean data."""

import json

import numpy as np
import polars as pl
import pytest

import aisec_eval as ae
from aisec_eval.results import Scan
from aisec_eval.runs import read_scan, write_scan


def draw(classes=8, n=2400, d=20, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    return 2 * random.normal(size=(classes, d))[y] + random.normal(size=(n, d)), y


def backdoor(x, y, target, count, seed=1):
    random = np.random.default_rng(seed)
    rows = random.choice(np.flatnonzero(y != target), count, replace=False)
    trigger = random.normal(size=x.shape[1])
    x, y, poison = x.copy(), y.copy(), np.zeros(len(y), bool)
    x[rows] += 0.7 * (x[y == target].mean(0) - x[rows]) + 6 * trigger / np.linalg.norm(trigger)
    y[rows], poison[rows] = target, True
    return x, y, poison


def wrong(y, rows, seed=2):
    given = y.copy()
    given[rows] = (y[rows] + np.random.default_rng(seed).integers(1, 8, len(rows))) % 8
    return given


def test_a_backdoor_is_found_by_the_split_alone(tmp_path):
    x, y, poison = backdoor(*draw(), 5, 80)
    result = ae.scan(x, y, method="auto")
    assert result.info["dataset"]["poisoned"]
    assert result.info["alarming"] == ["split"]
    assert result.info["target_classes"] == [5]
    assert np.mean(result.flagged[poison]) > 0.95
    assert np.mean(poison[result.flagged]) > 0.95
    assert result.info["rate"] == pytest.approx(poison.mean(), rel=0.15)
    np.testing.assert_array_equal(result.clean, np.flatnonzero(~result.flagged))
    for row in result.info["evidence"]:
        assert poison[row["sample"]]
        assert row["neighbour_labels"] == [int(y[i]) for i in row["neighbours"]]
    again = read_scan(write_scan(Scan("planted", result), tmp_path / "scan")).result
    np.testing.assert_array_equal(again.flagged, result.flagged)
    assert again.info == json.loads(json.dumps(result.info))


def test_wrong_labels_are_found_by_the_neighbours():
    x, y = draw()
    rows = np.random.default_rng(0).choice(len(y), 60, replace=False)
    result = ae.scan(x, wrong(y, rows), method="auto")
    assert "neighbours" in result.info["alarming"]
    assert np.mean(result.flagged[rows]) > 0.95
    assert set(np.argsort(-result.score)[:50]) <= set(rows.tolist())


def test_clean_data_is_left_alone():
    p = []
    for seed in range(4):
        result = ae.scan(*draw(seed=seed), method="auto")
        assert not result.info["dataset"]["poisoned"]
        assert not result.flagged.any()
        assert "evidence" not in result.info
        assert len(result.clean) == len(result.score)
        # Ranks, as there is nothing else to say.
        assert np.mean(result.p_value <= 0.05) == pytest.approx(0.05, abs=1e-3)
        p.append(result.info["dataset"]["p"])
    assert np.median(p) > 0.05


def test_what_a_detector_cannot_do_is_said(monkeypatch):
    import importlib

    def refuse(*_):
        raise ae.InputError("memory_limit is too small")

    x, y, poison = backdoor(*draw(), 5, 80)
    panel = importlib.import_module("aisec_eval.detectors.panel")
    with monkeypatch.context() as patch:
        patch.setattr(panel, "find_neighbours", refuse)
        result = ae.scan(x, y, method="auto")
    assert result.info["alarming"] == ["split"]
    assert any("neighbours did not run: memory_limit" in note for note in result.info["notes"])
    assert "neighbours" not in result.info["evidence"][0]
    assert np.mean(result.flagged[poison]) > 0.95
    alone = ae.scan(x[:300], method="auto")
    assert alone.info["dataset"]["p"] is None
    assert any("cannot be calibrated" in note for note in alone.info["notes"])


def test_streams_and_files_are_scanned(tmp_path):
    x, y, _ = backdoor(*draw(), 5, 80)
    x = x.astype(np.float32)
    frame = pl.DataFrame({f"f{i}": x[:, i] for i in range(20)} | {"label": y})
    frame.write_parquet(tmp_path / "x.parquet")
    told = []
    result = ae.scan(
        tmp_path / "x.parquet",
        method="auto",
        progress=lambda done, total, note: told.append((done, total, note)),
    )
    assert {"statistics", "scores", "pairs of blocks compared"} <= {note for *_, note in told}
    assert result.info["target_classes"] == [5]
    np.testing.assert_array_equal(result.score, ae.scan(x, y, method="auto").score)
    once = ae.scan(iter([frame]), method="auto")
    np.testing.assert_array_equal(once.flagged, result.flagged)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["badnets_5", "wanet_5", "flip_5"])
def test_poison_of_the_reference_data(reference, name):
    with np.load(reference / "poison" / f"mnist_{name}.npz") as data:
        x, y, poison = data["features"], data["labels"].astype(np.int64), data["poison"]
    result = ae.scan(x, y, method="auto")
    assert result.info["dataset"]["poisoned"]
    line = np.quantile(result.score[~poison], 0.99)
    assert np.mean(result.score[poison] > line) >= 0.95
    assert np.mean(poison[result.flagged]) > 0.9
    assert np.mean(result.p_value[~poison] <= 0.01) < 0.02
    assert result.info["rate"] == pytest.approx(poison.mean(), rel=0.1)
    assert result.info["target_classes"] == ([] if name == "flip_5" else [0])


@pytest.mark.reference
def test_resamples_of_clean_reference_data_raise_no_alarm(reference):
    with np.load(reference / "poison" / "mnist_clean_0.npz") as data:
        x, y = data["features"], data["labels"].astype(np.int64)
    assert not ae.scan(x, y, method="auto").info["dataset"]["poisoned"]
    random = np.random.default_rng(100)
    for draw_number in range(8):
        rows = (
            random.permutation(len(y))[: len(y) // 2]
            if draw_number % 2
            else random.integers(0, len(y), len(y))
        )
        assert not ae.scan(x[rows], y[rows], method="auto").info["dataset"]["poisoned"]


def test_the_patch_that_flagged_images_share_is_shown():
    from aisec_eval.attacks.poisoning import BadNets, Blended
    from aisec_eval.detectors.patch import frequent_patches

    random = np.random.default_rng(0)
    x = random.random((400, 1, 10, 10), dtype=np.float32)
    y = np.arange(400) % 5
    done = BadNets(target=2, size=2, pattern="solid").poison(x, y, rate=0.1)
    told = ae.results.ScanResult(
        score=done.poison.astype(float),
        flagged=done.poison,
        p_value=np.ones(400),
        label=done.y,
        method="auto",
        classes=np.arange(5),
        eigenvalues=np.empty(0),
        info={"target_classes": [2]},
    )
    (patch,) = frequent_patches(done.x, told)
    assert patch["class"] == 2
    assert sorted(patch["positions"]) == [[0, 8, 8], [0, 8, 9], [0, 9, 8], [0, 9, 9]]
    np.testing.assert_array_equal(patch["values"], 1)
    assert patch["share_flagged"] == 1
    assert patch["share_others"] < 0.02
    faint = Blended(target=2, alpha=0.1).poison(x, y, rate=0.1)
    assert frequent_patches(faint.x, told) == []
