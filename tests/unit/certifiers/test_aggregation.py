"""Radii of voting ensembles: closed forms, what counts as a vote, refusals.

That no poison within a radius changes a prediction is shown by enumeration beside the Rust code.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers import certify_votes, spread
from aisec_eval.certifiers.aggregation import _bagging_radius


def dpa_by_the_formula(votes: np.ndarray, classes: int) -> tuple[list[int], list[int]]:
    predictions, radii = [], []
    for row in votes:
        counts = [int((row == c).sum()) for c in range(classes)]
        winner = max(range(classes), key=lambda c: (counts[c], -c))
        rivals = [counts[c] + (c < winner) for c in range(classes) if c != winner]
        predictions.append(winner)
        radii.append((counts[winner] - max(rivals)) // 2)
    return predictions, radii


def test_dpa_is_the_published_formula():
    votes = np.random.default_rng(0).choice(5, size=(300, 23), p=[0.4, 0.3, 0.1, 0.1, 0.1])
    labels = np.zeros(300, dtype=int)
    result = certify_votes(votes, labels)
    predictions, radii = dpa_by_the_formula(votes, 5)
    assert result.prediction.tolist() == predictions
    assert result.radius.tolist() == radii
    for poison in range(5):
        expected = np.mean(
            [p == 0 and r >= poison for p, r in zip(predictions, radii, strict=True)]
        )
        assert result.certified_accuracy(poison) == pytest.approx(expected)
    assert result.frame.columns == ["sample", "label", "prediction", "radius"]


def test_finite_aggregation_with_one_model_a_bucket_is_at_least_dpa():
    votes = np.random.default_rng(1).integers(0, 4, size=(200, 30))
    plain = certify_votes(votes)
    finite = certify_votes(votes, method="finite-aggregation")
    np.testing.assert_array_equal(plain.prediction, finite.prediction)
    assert (finite.radius >= plain.radius).all()


def test_a_bucket_that_feeds_every_model_leaves_no_radius():
    votes = np.zeros((3, 6), dtype=np.uint8)
    everything = np.arange(6)[None]
    result = certify_votes(votes, method="finite-aggregation", num_classes=2, feeds=everything)
    assert result.radius.tolist() == [0, 0, 0]


def test_a_unanimous_run_off_survives_almost_half():
    logits = np.zeros((1, 11, 3), dtype=np.float32)
    logits[..., 1] = 1
    result = certify_votes(logits, [1], method="run-off")
    assert result.prediction.tolist() == [1]
    # Ties go to class 0, so half rounded up is one model too many.
    assert result.radius.tolist() == [5]
    assert result.certified_accuracy(5) == 1


def test_spread_feeds_every_model_by_d_buckets():
    feeds = spread(12, 4, seed=3)
    assert feeds.shape == (12, 4)
    assert (np.bincount(feeds.ravel()) == 4).all()
    assert (np.sort(feeds, axis=1)[:, 1:] != np.sort(feeds, axis=1)[:, :-1]).all()
    np.testing.assert_array_equal(feeds, spread(12, 4, seed=3))
    assert (feeds != spread(12, 4, seed=4)).any()


def test_bagging_gives_what_the_theorem_gives_in_exact_arithmetic():
    n, k = 200, 5
    for low, high in ((0.9, 0.05), (0.6, 0.3), (0.999, 0.001)):
        gap = Fraction(low) - Fraction(high) - 2 * Fraction(1, n**k)

        def holds(r: int, gap: Fraction = gap) -> bool:
            worst = max(
                Fraction(size, n) ** k - 2 * Fraction(max(n, size) - r, n) ** k
                for size in range(n - r, n + r + 1)
            )
            return worst + 1 - gap < 0

        radius = _bagging_radius(low, high, n, k)
        assert holds(radius)
        assert not holds(radius + 1)
    assert _bagging_radius(0.4, 0.5, n, k) == -1


def test_bagging_radius_bounds_what_poison_can_do_to_a_vote():
    """A model changes only if its draw meets a poisoned sample: P(no contact) = ((n - r) / n)^k."""
    n, k = 1_000, 10
    radius = _bagging_radius(0.95, 0.02, n, k)
    contact = 1 - ((n - radius) / n) ** k
    assert 0.95 - contact > 0.02 + contact
    contact = 1 - ((n - radius - 2) / n) ** k
    assert 0.95 - contact < 0.02 + contact + 0.01


def test_bagging_of_votes():
    votes = np.r_[np.zeros((1, 1000), int), np.r_[np.zeros(510, int), np.ones(490, int)][None]]
    result = certify_votes(votes, method="bagging", training_size=5_000, subsample=20)
    assert result.prediction.tolist() == [0, 0]
    assert result.radius[0] > 10
    assert result.radius[1] == -1


def test_files_are_read_block_by_block(tmp_path, monkeypatch):
    votes = np.random.default_rng(2).integers(0, 3, size=(50, 9)).astype(np.uint8)
    np.save(tmp_path / "votes.npy", votes)
    monkeypatch.setattr("aisec_eval.certifiers.aggregation._BLOCK", 40)
    from_file = certify_votes(tmp_path / "votes.npy")
    np.testing.assert_array_equal(from_file.radius, certify_votes(votes).radius)


@pytest.mark.parametrize(
    ("votes", "options", "message"),
    [
        (np.zeros((2, 3), int), {"method": "majority"}, "unknown"),
        (np.zeros(3, int), {}, r"takes \[n, models\]"),
        (np.zeros((2, 3)), {}, "expected integers"),
        (np.full((2, 3), -1), {"num_classes": 2}, "must lie in 0..1"),
        (np.full((2, 3), 5), {"num_classes": 2}, "must lie in 0..1"),
        (np.zeros((2, 3), int), {"method": "run-off"}, "num_classes"),
        (np.zeros((2, 3, 2), int), {"method": "run-off"}, "logits"),
        (np.zeros((2, 3), int), {"method": "bagging"}, "training_size"),
        (np.zeros((2, 3), int), {"method": "finite-aggregation", "feeds": [[0, 3]]}, "below 3"),
        (np.zeros((2, 3), int), {"method": "finite-aggregation", "feeds": [[1, 1]]}, "once"),
        (np.zeros((2, 3), int), {"labels": [0]}, "labels"),
    ],
)
def test_bad_votes_get_one_line(votes, options, message):
    with pytest.raises(ae.InputError, match=message):
        certify_votes(votes, **options)


def test_a_file_that_is_no_array_is_refused(tmp_path):
    (tmp_path / "votes.npy").write_bytes(b"\x80\x04]q\x00.")
    with pytest.raises(ae.DatasetError, match=r"votes\.npy"):
        certify_votes(tmp_path / "votes.npy")
