"""Leave-class-out splits: planted backdoors found, no alarm without; the parts by definition."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm, t

import aisec_eval as ae
from aisec_eval.detectors.calibrate import (
    FREEDOM,
    both,
    clean_shares,
    leave_one_out,
    moderated,
    stouffer,
)
from aisec_eval.detectors.class_space import uniform
from aisec_eval.detectors.mixture import discriminant_split, fit_mixture, split_line
from aisec_eval.detectors.split import LEVEL


def draw(classes=8, n=3000, d=20, seed=0, freedom=None, sizes=None):
    """Classes of one covariance; Student's t of few degrees of freedom has heavy tails."""
    random = np.random.default_rng(seed)
    centre = 2 * random.normal(size=(classes, d))
    y = random.choice(classes, n, p=sizes)
    noise = random.normal(size=(n, d)) @ (np.eye(d) + 0.2 * random.normal(size=(d, d)))
    if freedom is not None:
        noise /= np.sqrt(random.chisquare(freedom, (n, 1)) / freedom)
    return centre[y] + noise, y


def plant(x, y, target, count, seed=1, towards=0.7, size=6.0):
    """Samples of other classes, drawn towards the target by a common trigger, under its label."""
    random = np.random.default_rng(seed)
    rows = random.choice(np.flatnonzero(y != target), count, replace=False)
    trigger = random.normal(size=x.shape[1])
    x, y, poison = x.copy(), y.copy(), np.zeros(len(y), bool)
    middle = x[y == target].mean(0)
    x[rows] += towards * (middle - x[rows]) + size * trigger / np.linalg.norm(trigger)
    y[rows], poison[rows] = target, True
    return x, y, poison


@pytest.mark.parametrize(("classes", "share"), [(6, 0.1), (8, 0.3), (20, 0.6)])
def test_a_planted_backdoor_is_found(classes, share):
    x, y = draw(classes=classes, n=classes * 300)
    target = classes - 2
    inside = int((y == target).sum())
    x, y, poison = plant(x, y, target, int(share / (1 - share) * inside))
    result = ae.scan(x, y, method="split")
    assert result.info["dataset"]["poisoned"]
    assert result.info["target_classes"] == [target]
    assert np.mean(result.flagged[poison]) > 0.95
    assert np.mean(poison[result.flagged]) > 0.95
    assert result.info["rate"] == pytest.approx(poison.mean(), rel=0.1)
    line = np.quantile(result.score[~poison], 0.99)
    assert np.mean(result.score[poison] > line) > 0.95
    direction = np.array(result.info["suspected"][0]["direction"])
    inner = y == target
    seen = x @ direction
    assert seen[poison].mean() - seen[inner & ~poison].mean() > 3 * seen[inner & ~poison].std()


@pytest.mark.parametrize("freedom", [None, 4])
def test_clean_data_raises_no_alarm(freedom):
    alarms, p = 0, []
    for seed in range(8):
        sizes = np.random.default_rng(seed).dirichlet(np.full(8, 20.0))
        x, y = draw(n=2000, d=12, seed=seed, freedom=freedom, sizes=sizes)
        result = ae.scan(x, y, method="split")
        alarms += result.info["dataset"]["poisoned"]
        p.append(result.info["dataset"]["p"])
        assert not result.flagged.any() or result.info["dataset"]["poisoned"]
    assert alarms == 0
    assert np.median(p) > 0.05


def test_few_classes_have_no_verdict():
    x, y = draw(classes=4, n=1200)
    result = ae.scan(x, y, method="split")
    assert result.info["dataset"] == {"poisoned": False, "p": None, "level": LEVEL}
    assert any("cannot be calibrated" in note for note in result.info["notes"])
    assert not result.flagged.any()


def test_small_and_constant_classes_are_left_out():
    x, y = draw(classes=7, n=2500)
    y[y == 6] = 5
    y[:9] = 6
    x[y == 0] = 3.0
    result = ae.scan(x, y, method="split")
    assert any("too few samples" in note and note.endswith("6") for note in result.info["notes"])
    assert [row["class"] for row in result.info["class_tests"]] == [1, 2, 3, 4, 5]
    assert np.isfinite(result.score).all()


def test_scores_do_not_depend_on_where_rows_come_from(tmp_path):
    x, y = draw(n=2500, d=8)
    x, y, _ = plant(x, y, 3, 120)
    x = x.astype(np.float32)
    whole = ae.scan(x, y, method="split")
    frame = pl.DataFrame({f"f{i}": x[:, i] for i in range(8)} | {"label": y})
    frame.write_parquet(tmp_path / "x.parquet", row_group_size=700)
    other = ae.scan(tmp_path / "x.parquet", method="split", memory_limit=4 << 20)
    np.testing.assert_array_equal(other.score, whole.score)
    np.testing.assert_array_equal(other.p_value, whole.p_value)
    # Nor on scale, shift or a turn of the features.
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    moved = ae.scan(3 * x @ turn + 5, y, method="split")
    np.testing.assert_array_equal(moved.flagged, whole.flagged)


def test_only_a_subset_of_large_classes_is_fitted(monkeypatch):
    from aisec_eval.detectors import class_space

    x, y = draw(n=6000)
    x, y, poison = plant(x, y, 3, 300)
    monkeypatch.setattr(class_space, "_SUBSET", 300)
    result = ae.scan(x, y, method="split")
    assert result.info["target_classes"] == [3]
    assert np.mean(result.flagged[poison]) > 0.95
    draws = uniform(10, 100_000)
    assert abs(draws.mean() - 0.5) < 0.005
    np.testing.assert_array_equal(uniform(1000, 50), draws[990:1040])


def test_the_split_of_a_line_is_the_best_one():
    random = np.random.default_rng(0)
    for n in (2, 3, 17, 60):
        values = np.round(random.normal(size=n), 1) + 7
        threshold, share = split_line(values)
        total = ((values - values.mean()) ** 2).sum()
        left = [
            sum(((s - s.mean()) ** 2).sum() for s in (values[values <= v], values[values > v]))
            for v in np.unique(values)[:-1]
        ]
        assert share == pytest.approx(1 - min(left, default=total) / total, abs=1e-12)
        low, high = values[values <= threshold], values[values > threshold]
        if share:
            rest = ((low - low.mean()) ** 2).sum() + ((high - high.mean()) ** 2).sum()
            assert rest / total == pytest.approx(1 - share)
    assert split_line(np.full(5, 2.0)) == (2.0, 0.0)


def test_parts_of_a_mixture_are_recovered():
    random = np.random.default_rng(2)
    one = random.normal(size=(900, 3)) * [1, 0.3, 2]
    two = random.normal(size=(300, 3)) + np.array([0, 4, 0])
    z = np.concatenate([one, two])
    truth = np.arange(1200) >= 900
    part, share = discriminant_split(z, z[:, 1] > 1)
    assert max(np.mean(part == truth), np.mean(part != truth)) > 0.99
    assert share > 0.7
    fitted = fit_mixture(z, [z[:, 1] > 0.5, z[:, 0] > 0])
    odds = fitted.log_odds(z)
    assert np.mean((odds > 0) == truth) > 0.99
    np.testing.assert_allclose(fitted.mean[0], [0, 4, 0], atol=0.25)
    np.testing.assert_allclose(fitted.weight, [0.25, 0.75], atol=0.02)
    # Odds are those of the two densities (scipy), which sum to the likelihood that was maximised.
    from scipy.stats import multivariate_normal

    logs = [
        np.log(fitted.weight[i])
        + multivariate_normal(fitted.mean[i], fitted.covariance[i]).logpdf(z)
        for i in range(2)
    ]
    np.testing.assert_allclose(odds, logs[0] - logs[1], atol=1e-8)
    assert fit_mixture(z[:10], [z[:10, 0] > 0]) is None


def test_tails_and_shares():
    values = np.array([0.3, -1.2, 0.5, 2.5, 0.1, -0.4])
    p = leave_one_out(values)
    others = np.delete(values, 3)
    expected = (2.5 - others.mean()) / others.std(ddof=1) / np.sqrt(1 + 1 / 5)
    assert p[3] == pytest.approx(t.sf(expected, 4))
    np.testing.assert_array_equal(leave_one_out(np.ones(5)), np.ones(5))
    two = stouffer(p, p[::-1])
    np.testing.assert_allclose(two, norm.sf((norm.isf(p) + norm.isf(p[::-1])) / np.sqrt(2)))
    three = norm.sf((norm.isf(p) + norm.isf(p[::-1]) + norm.isf(p)) / np.sqrt(3))
    np.testing.assert_allclose(stouffer(p, p[::-1], p), three)
    np.testing.assert_array_equal(both(p, p[::-1]), np.maximum(p, p[::-1]) ** 2)
    variance = (FREEDOM * 0.5**2 + 4 * others.var(ddof=1)) / (FREEDOM + 4)
    expected = (2.5 - others.mean()) / np.sqrt(variance * (1 + 1 / 5))
    assert moderated(values, 0.5)[3] == pytest.approx(t.sf(expected, FREEDOM + 4))
    # Equal others do not make a little much.
    assert moderated(np.array([0.0, 0, 0, 0, 0.3]), 0.5).min() > 0.2
    # Under the null of leave_one_out a value is below p with probability p.
    random = np.random.default_rng(0)
    null = np.concatenate([leave_one_out(v) for v in random.normal(size=(1000, 6))])
    assert np.mean(null <= 0.05) == pytest.approx(0.05, abs=0.01)
    shares = clean_shares(np.array([2, 0, 1]), np.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(shares, [0.5, 1.0, 0.0])


def test_what_cannot_be_scanned_is_refused_in_one_line():
    x, y = draw(n=400)
    x[17, 3] = np.inf
    with pytest.raises(ae.InputError, match="row 17"):
        ae.scan(x, y, method="split")
    with pytest.raises(ae.InputError, match="memory_limit"):
        ae.scan(np.zeros((400, 900)), np.arange(400) % 8, method="split", memory_limit=4 << 20)


@pytest.mark.reference
def test_backdoors_of_the_reference_data(reference):
    for name, targets in (("clean_0", []), ("flip_5", []), ("badnets_5", [0]), ("wanet_5", [0])):
        with np.load(reference / "poison" / f"mnist_{name}.npz") as data:
            x, y, poison = data["features"], data["labels"].astype(np.int64), data["poison"]
        result = ae.scan(x, y, method="split")
        assert result.info["target_classes"] == targets
        if targets:
            line = np.quantile(result.score[~poison], 0.99)
            assert np.mean(result.score[poison] > line) >= 0.97
