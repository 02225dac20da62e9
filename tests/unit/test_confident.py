"""Confident learning: cleanlab's mask, by its definition and by its answers."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aisec_eval as ae
from aisec_eval.detectors import confident_learning
from aisec_eval.detectors.joint import round_to_total
from aisec_eval.errors import InputError
from helpers.label_noise import FILTERS, draw, mask, qualities

GOLDEN = Path(__file__).parents[1] / "golden" / "confident.json"


def test_the_masks_of_cleanlab():
    cases = json.loads(GOLDEN.read_text())
    assert len(cases) > 50
    flagged = 0
    for case in cases:
        p, y = draw(case["seed"])
        for name in FILTERS:
            found = confident_learning(p, y, filter_by=name).flagged
            assert np.flatnonzero(found).tolist() == case[name], (case["seed"], name)
            flagged += found.sum()
        for name in qualities(p, y):
            score = confident_learning(p, y, rank_by=name).score
            np.testing.assert_allclose(-score[:20], case[name], rtol=2e-5, atol=1e-8)
    assert flagged > 1000


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.sampled_from([None, 2, 5, 20]),
    st.integers(1, 200),
    st.integers(2, 9),
)
def test_the_definition_with_ties_and_rare_classes(seed, levels, n, k):
    p, y = draw(seed, levels=levels, n=n, k=k)
    if not y.any():
        y[0] = 1
    for name in FILTERS:
        found = confident_learning(p, y, filter_by=name)
        np.testing.assert_array_equal(found.flagged, mask(p, y, name))
    for name, quality in qualities(p, y).items():
        found = confident_learning(p, y, rank_by=name)
        np.testing.assert_allclose(-found.score, quality, rtol=2e-5, atol=1e-7)


def test_wide_and_streamed_the_same(tmp_path):
    p, y = draw(7, n=3000, k=300)
    whole = confident_learning(p, y)
    assert whole.flagged.sum() > 50
    np.testing.assert_array_equal(whole.flagged, mask(p, y, "prune_by_noise_rate"))
    np.save(tmp_path / "p.npy", p)
    streamed = confident_learning(tmp_path / "p.npy", y, memory_limit=4 << 20)
    frame = pl.DataFrame({"p": p, "label": y}, schema_overrides={"p": pl.Array(pl.Float64, 300)})
    frame.write_parquet(tmp_path / "p.parquet", row_group_size=700)
    parquet = ae.scan(tmp_path / "p.parquet", method="confident", memory_limit=8 << 20)
    for other in (streamed, parquet):
        np.testing.assert_array_equal(other.flagged, whole.flagged)
        np.testing.assert_array_equal(other.score, whole.score)
        np.testing.assert_array_equal(other.p_value, whole.p_value)
        assert other.info["confusions"] == whole.info["confusions"]


def test_p_values_are_exact_where_probabilities_are_true():
    p, _ = draw(11, n=40_000, k=6)
    u = np.random.default_rng(0).random(len(p))
    y = np.minimum((np.cumsum(p, axis=1) < u[:, None]).sum(axis=1), 5)
    tail = ae.scan(p, y, method="confident").p_value
    for level in (0.001, 0.01, 0.1, 0.5):
        bound = level + 4 * np.sqrt(level / len(p))
        assert np.mean(tail <= level) <= bound
    assert np.mean(tail <= 0.1) > 0.03
    row = confident_learning(np.array([[0.5, 0.3, 0.2]] * 3), [1, 2, 0]).p_value
    np.testing.assert_allclose(row, [0.5, 0.2, 1.0])


def test_what_is_said_of_the_labels():
    p, y = draw(5, n=1500, k=4)
    found = ae.scan(p, y, method="confident")
    info = found.info
    assert info["rule"]
    assert "drawn" in info["null"]
    assert 0 < info["rate"] < 0.5
    top = info["confusions"][0]
    assert top["given"] != top["likely"]
    np.testing.assert_allclose(info["thresholds"], [p[y == c, c].mean() for c in range(4)])
    ordered = [entry["count"] for entry in info["confusions"]]
    assert ordered == sorted(ordered, reverse=True)


def test_ties_at_a_cut_are_told():
    # Three are confidently wrong of the thirteen confident ones: 5.3 of the 23 with this label.
    rows = [[0.95, 0.05]] * 10 + [[0.05, 0.95]] * 3 + [[0.45, 0.55]] * 10 + [[0.05, 0.95]] * 20
    found = confident_learning(np.array(rows), np.array([0] * 23 + [1] * 20))
    assert np.flatnonzero(found.flagged).tolist() == [10, 11, 12, 13, 14]
    assert found.info["confusions"] == [{"given": 0, "likely": 1, "count": 5}]
    assert "for 1 pairs of classes samples of equal margin" in found.info["notes"][0]


@pytest.mark.parametrize(
    ("p", "y", "options", "line"),
    [
        ([[0.5, 0.5], [2.0, 0.1]], [0, 1], {}, "row 1: 2 for class 0 is no probability"),
        ([[0.5, 0.5], [np.nan, 0.1]], [0, 1], {}, "row 1: NaN for class 0"),
        ([[0.5, 0.5], [0.9, 0.1]], [0, 2], {}, "row 1: label 2 is none of 0 to 1"),
        ([[0.5, 0.5], [0.9, 0.1]], [0, -1], {}, "row 1: label -1 is none of 0 to 1"),
        ([[0.5, 0.5], [0.9, 0.1]], None, {}, "at least two classes"),
        ([[1.0], [1.0]], [0, 0], {}, "at least two classes"),
        ([[0.5, 0.5]], [1], {"filter_by": "best"}, "filter_by='best' must be one of"),
        ([[0.5, 0.5]], [1], {"rank_by": "luck"}, "rank_by='luck' must be one of"),
    ],
)
def test_refusals_in_one_line(p, y, options, line):
    with pytest.raises(InputError) as error:
        confident_learning(np.array(p), y, **options)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_rate_is_refused():
    with pytest.raises(InputError, match="estimates the share"):
        ae.scan(np.eye(3), [0, 1, 2], method="confident", rate=0.1)


def test_a_joint_that_does_not_fit_is_refused():
    p = np.full((10, 600), 1 / 600, dtype=np.float32)
    with pytest.raises(InputError, match="600 classes need 10 MiB for their joint"):
        confident_learning(p, np.arange(10), memory_limit=6 << 20)


@given(st.lists(st.floats(0, 50, allow_nan=False), min_size=1, max_size=30))
def test_rounding_keeps_the_total(values):
    rounded = round_to_total(np.array(values))
    assert rounded.sum() == np.round(np.sum(values))
    assert np.all(np.abs(rounded - values) <= 1.5)


def average_precision(score, truth):
    order = np.argsort(-score, kind="stable")
    hits = truth[order]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def test_human_verified_label_errors(reference):
    folder = reference / "label_errors"
    with np.load(reference / "images" / "mnist_test.npz") as stored:
        y = stored["y"].astype(np.int64)
    p = np.load(folder / "mnist_test_set_pyx.npy")
    truth = np.zeros(len(y), dtype=bool)
    for entry in json.loads((folder / "mnist_mturk.json").read_text()):
        votes = entry["mturk"]
        truth[entry["id"]] = votes["given"] < 3
    found = {name: confident_learning(p, y, rank_by=name) for name in qualities(p[:1], y[:1])}
    theirs = qualities(p, y)
    # As cleanlab has it, the surest labels come last.
    entropy = theirs["confidence_weighted_entropy"]
    weighted = -np.where(p > 0, p * np.log(p.clip(1e-300)), 0).sum(axis=1) / np.log(10)
    weighted /= theirs["self_confidence"].clip(1e-6)
    theirs["confidence_weighted_entropy"] = np.log1p(weighted) / weighted.clip(1e-6)
    for name, quality in theirs.items():
        ours, other = (average_precision(s, truth) for s in (found[name].score, -quality))
        assert ours >= other - 1e-9, name
    assert average_precision(-entropy, truth) > 0.2
    assert average_precision(found["self_confidence"].score, truth) > 0.5
    np.testing.assert_array_equal(
        found["self_confidence"].flagged, mask(p, y, "prune_by_noise_rate")
    )


def test_flipped_labels_are_found_as_well_as_cleanlab_does(reference):
    with (
        np.load(reference / "poison" / "mnist_flip_5.npz") as stored,
        np.load(reference / "poison" / "peers_flip_5.npz") as peers,
    ):
        p, y, truth = (stored[name] for name in ("oof_probs", "labels", "poison"))
        theirs = max(average_precision(s, truth) for s in (peers["cleanlab"], -peers["cleanlab"]))
    found = ae.scan(p, y, method="confident")
    # What is stored is rounded to float16, the probabilities before the score: ties differ.
    assert average_precision(found.score, truth) >= theirs - 1e-4
    assert np.mean(truth[found.flagged]) > 0.8
    assert np.mean(found.flagged[truth]) > 0.9
