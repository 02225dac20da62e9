"""Partitions, and certificates against every poisoned training set, by retraining on each."""

import json
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from typer.testing import CliRunner

from aisec_eval.certifiers import certify_votes, check_votes, partition, save_radii, spread
from aisec_eval.certifiers.aggregation import VoteCertificates, _bagging_radius
from aisec_eval.cli import app
from aisec_eval.errors import DatasetError, InputError


def test_a_sample_s_bucket_depends_on_the_sample_alone():
    random = np.random.default_rng(0)
    x, y = random.random((300, 2, 3), dtype=np.float32), random.integers(0, 3, 300)
    cut = partition(x, y, 7)
    rows = random.permutation(300)[:120]
    part = partition(x[rows], (y[rows] + 1) % 3, 7)
    np.testing.assert_array_equal(part.bucket, cut.bucket[rows])
    # The same samples in the same order, whatever rows they stand in.
    kept = cut.order[np.isin(cut.order, rows)]
    np.testing.assert_array_equal(rows[part.order], kept)
    np.testing.assert_array_equal(x[kept], x[rows][part.order])
    assert (partition(x, y, 7, seed=1).bucket != cut.bucket).any()
    assert np.bincount(cut.bucket, minlength=7).min() > 20
    together = np.concatenate([cut.rows([bucket]) for bucket in range(7)])
    assert sorted(together) == list(range(300))
    assert (cut.bucket[cut.rows([2, 5])] % 3 == 2).all()


def test_equal_inputs_are_ordered_by_their_labels():
    x, y = np.ones((4, 1)), np.array([2, 0, 3, 1])
    assert partition(x, y, 1).order.tolist() == [1, 3, 0, 2]


def nearest(x, y):
    """One-dimensional nearest neighbour: a single sample can change everything."""
    return lambda inputs: y[np.abs(inputs[:, None, 0] - x[None, :, 0]).argmin(axis=1)]


def trained_votes(x, y, inputs, models, feeds):
    cut = partition(x, y, models)
    votes = np.zeros((len(inputs), models), dtype=np.int64)
    for model in range(models):
        rows = cut.rows((feeds == model).any(axis=1))
        if len(rows):
            votes[:, model] = nearest(x[rows], y[rows])(inputs)
    return votes


@pytest.mark.parametrize(("d", "method"), [(1, "dpa"), (2, "finite-aggregation")])
def test_no_poisoned_sample_changes_what_is_certified(d, method):
    """All single deletions, changed labels and insertions of a pool, each with retraining."""
    random = np.random.default_rng(d)
    x = random.random((24, 1))
    y = np.where(random.random(24) < 0.3, random.integers(0, 3, 24), x[:, 0] > 0.5)
    inputs = np.linspace(0, 1, 9)[:, None]
    feeds = spread(7, d, seed=1)
    given = None if d == 1 else feeds

    def certified(x, y):
        votes = trained_votes(x, y, inputs, 7, feeds)
        return certify_votes(votes, method=method, num_classes=3, feeds=given)

    clean = certified(x, y)
    safe = clean.radius >= 1
    assert 0 < safe.sum() < len(inputs)
    moved = np.zeros(len(inputs), dtype=bool)
    sets = [(np.delete(x, i, 0), np.delete(y, i)) for i in range(24)]
    sets += [(x, np.where(np.arange(24) == i, (y + s) % 3, y)) for i in range(24) for s in (1, 2)]
    sets += [
        (np.r_[x, [[value]]], np.r_[y, label])
        for value in np.linspace(0, 1, 60) for label in range(3)
    ]  # fmt: skip
    for poisoned in sets:
        changed = certified(*poisoned).prediction != clean.prediction
        assert not (changed & safe).any()
        moved |= changed
    assert moved.any()


def test_bagging_radii_against_every_choice_of_poison():
    """Draws that meet poison may vote for anything; the others vote as before."""
    n, k = 6, 2
    random = np.random.default_rng(0)
    for _ in range(30):
        # What the learner says of each ordered draw, mostly class 0.
        says = {draw: int(random.random() < 0.12) for draw in product(range(n), repeat=k)}
        low = Fraction(sum(vote == 0 for vote in says.values()), n**k)
        radius = _bagging_radius(float(low), float(1 - low), n, k)
        for size in range(1, radius + 1):
            for changed in combinations(range(n), size):
                kept = sum(
                    vote == 0 and not set(draw) & set(changed) for draw, vote in says.items()
                )
                assert Fraction(kept, n**k) > Fraction(1, 2)


@pytest.mark.parametrize("method", ["dpa", "finite-aggregation", "run-off", "bagging"])
def test_the_checker_accepts_radii_and_refuses_larger_ones(method, tmp_path):
    random = np.random.default_rng(3)
    votes = random.choice(4, size=(40, 15), p=[0.1, 0.6, 0.2, 0.1])
    options = {}
    if method == "run-off":
        votes = random.normal(size=(40, 15, 4)) + np.array([0, 1, 0.5, 0])
    if method in ("finite-aggregation", "run-off"):
        options = {"feeds": spread(15, 2, seed=2)}
    if method == "bagging":
        options = {"training_size": 400, "subsample": 5, "alpha": 0.05}
    found = certify_votes(votes, method=method, **options)
    assert (found.radius > 0).any()
    assert check_votes(votes, found) == []

    def claimed(prediction, radius):
        return VoteCertificates(prediction, radius, None, method, found.options)

    more = check_votes(votes, claimed(found.prediction, found.radius + 1))
    if method == "dpa":
        # The published formula may be one short of what holds.
        assert len(check_votes(votes, claimed(found.prediction, found.radius + 2))) == 40
    else:
        some = 38 if method == "bagging" else 40
        assert len(more) >= some
    assert all(line.startswith("sample ") for line in more)
    other = check_votes(votes, claimed((found.prediction + 1) % 4, found.radius * 0))
    assert len(other) == 40
    assert "elect class" in other[0]

    array = votes.astype(np.float32) if method == "run-off" else votes.astype(np.uint8)
    np.save(tmp_path / "votes.npy", array)
    file = save_radii(found, array, tmp_path / "radii.json")
    assert check_votes(tmp_path / "votes.npy", file) == []
    np.save(tmp_path / "votes.npy", array[::-1])
    with pytest.raises(DatasetError, match="not the votes"):
        check_votes(tmp_path / "votes.npy", file)


def test_the_command_line_checks_radii(tmp_path):
    votes = np.random.default_rng(0).integers(0, 3, (20, 9)).astype(np.uint8)
    np.save(tmp_path / "votes.npy", votes)
    found = certify_votes(votes)
    wrong = VoteCertificates(found.prediction, found.radius + 3, None, "dpa", found.options)
    for claims, code in ((found, 0), (wrong, 1)):
        file = save_radii(claims, votes, tmp_path / "radii.json")
        command = ["check", str(tmp_path / "votes.npy"), str(file)]
        result = CliRunner().invoke(app, [*command, "--json"])
        assert result.exit_code == code
        assert json.loads(result.stdout)["holds"] is (code == 0)
    assert CliRunner().invoke(app, [*command, "--exact"]).exit_code == 2


def test_files_that_are_not_radii_are_refused(tmp_path):
    votes = np.zeros((3, 5), dtype=np.uint8)
    file = save_radii(certify_votes(votes, num_classes=2), votes, tmp_path / "radii.json")
    text = file.read_text()
    for wrong in (
        "{}", "[]", text.replace('"dpa"', '"oracle"'), text.replace("2\n", "2.5\n"),
        text.replace('"version": 1', '"version": 2'), "nothing",
    ):  # fmt: skip
        if wrong == text:
            continue
        file.write_text(wrong)
        with pytest.raises(DatasetError, match=r"radii\.json") as error:
            check_votes(votes, file)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (np.zeros((2, 5), int), "claims are of 3 samples"),
        (np.full((3, 5), 7), r"must lie in 0\.\.1"),
        (np.zeros((3, 5)), "expected integers"),
        (np.zeros((3, 5, 2)), r"takes votes \[n, models\]"),
    ],
)
def test_votes_that_do_not_fit_the_claims(votes, message):
    found = certify_votes(np.zeros((3, 5), int), num_classes=2)
    with pytest.raises(InputError, match=message):
        check_votes(votes, found)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros(3), np.zeros(3, int), {}, "x must be"),
        (np.zeros((3, 1)), np.zeros(2, int), {}, "y must be"),
        (np.zeros((3, 1)), np.zeros(3), {}, "y must be"),
        (np.zeros((3, 1)), np.zeros(3, int), {"buckets": 0}, "buckets"),
        (np.zeros((3, 1)), np.zeros(3, int), {"seed": -1}, "seed"),
    ],
)
def test_training_sets_that_do_not_fit(x, y, options, message):
    with pytest.raises(InputError, match=message):
        partition(x, y, **{"buckets": 2, **options})
