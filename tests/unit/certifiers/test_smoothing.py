"""Smoothing: exact radii of linear models, noise that depends on nothing but its key."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import chi2, norm

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.certifiers import Smoothing

from .conftest import GraphModel, node

LEVELS = 255


@pytest.fixture(scope="module")
def linear() -> GraphModel:
    """Two classes apart by `2 x_0 + x_1 - 1`, four inputs of which two are noise alone."""
    weight = np.array([[2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    nodes = [
        node("x", "input", [], shape=[4]),
        node("y", "affine", [0], tensors={"weight": 0, "bias": 1}),
    ]
    spec = json.dumps({"nodes": nodes, "output": 1})
    return GraphModel(_core.Graph(spec, [weight, np.array([-1.0, 0.0])]))


def exact_radius(x: np.ndarray) -> np.ndarray:
    """The smoothed vote of a half-space is the half-space itself (Cohen et al., section 3.3)."""
    return (2 * x[:, 0] + x[:, 1] - 1) / math.sqrt(5)


@pytest.mark.parametrize("lattice", [None, "1/255"])
def test_radii_of_a_linear_model_lie_just_below_the_exact_ones(linear, lattice):
    random = np.random.default_rng(3)
    x = (random.integers(0, LEVELS + 1, (40, 4)) / np.float32(LEVELS)).astype(np.float32)
    exact = exact_radius(x.astype(np.float64))
    y = np.where(exact > 0, 0, 1)
    method = Smoothing(sigma=0.5, n=20_000, n0=2_000, alpha=1e-6, lattice=lattice)
    result = ae.certify(linear, x, y, ae.L2(0.2), method=method)
    # Rounding to the lattice moves a copy by at most half a level in each direction.
    slack = 0.0 if lattice is None else 3 / (2 * LEVELS * math.sqrt(5))
    assert (result.radius <= np.abs(exact) + slack).all()
    wide = (np.abs(exact) > 0.1) & (np.abs(exact) < 0.9)
    assert wide.sum() > 10
    assert (result.radius[wide] > 0.8 * np.abs(exact[wide]) - 0.03).all()
    np.testing.assert_array_equal(result.certified, result.radius >= 0.2)
    assert [proof is not None for proof in result.certificate] == result.certified.tolist()
    assert 5 < result.certified.sum() < 40


def test_a_wrong_or_undecided_vote_certifies_nothing(linear):
    x = np.array([[1, 1, 0, 0], [0.25, 0.5, 0, 0]], dtype=np.float32)
    result = ae.certify(linear, x, [1, 0], ae.L2(0.1), method=Smoothing(sigma=0.5, n=2_000))
    assert not result.certified.any()
    assert result.reason[0] == "misclassified"
    assert result.reason[1] in {"abstain", "misclassified"}
    assert result.radius.tolist() == [0.0, 0.0]


def test_stopping_early_decides_the_same_with_fewer_copies(linear):
    x = np.array([[1, 1, 0, 0], [0.6, 0.3, 0, 0], [0.55, 0.1, 0, 0]], dtype=np.float32)
    threat, y = ae.L2(0.3), [0, 0, 0]
    full = ae.certify(linear, x, y, threat, method=Smoothing(0.5, n=20_000))
    early = ae.certify(linear, x, y, threat, method=Smoothing(0.5, n=20_000, early_stop=True))
    assert full.certified.tolist() == early.certified.tolist() == [True, False, False]
    assert early.certificate[0]["copies"] < 2_000
    assert early.radius[0] == pytest.approx(0.3)


def test_no_radius_is_certified_beyond_what_the_vote_has(linear):
    """Half of 200 seeds at the exact radius: with alpha = 0.05 at most a few may certify."""
    x = np.tile(np.array([[0.6, 0.4, 0, 0]], dtype=np.float32), (200, 1))
    threat = ae.L2(float(exact_radius(x[:1].astype(np.float64))[0]) * (1 + 1e-6))
    for early in (False, True):
        method = Smoothing(0.5, n=400, alpha=0.05, early_stop=early)
        wrong = ae.certify(linear, x, np.zeros(200, int), threat, method=method).certified.sum()
        # 10 expected at most; 24 has probability below 1e-4.
        assert wrong <= 24


def test_results_depend_on_sample_and_seed_alone(linear):
    model = linear
    x = np.random.default_rng(1).uniform(size=(6, 4)).astype(np.float32)
    y = model.labels(x)
    method = Smoothing(0.5, n=700, n0=200)
    ids = np.arange(len(x)) * 7 + 3
    whole = ae.certify(model, x, y, ae.L2(0.1), method=method, sample_ids=ids)
    order = np.random.default_rng(0).permutation(len(x))
    shuffled = ae.certify(
        model, x[order], y[order], ae.L2(0.1), method=method, sample_ids=ids[order]
    )
    np.testing.assert_array_equal(whole.radius[order], shuffled.radius)
    # Through the callable, in small batches, instead of natively.
    called = GraphModel(linear.graph, certifiable=False)
    limited = ae.certify(
        called, x, y, ae.L2(0.1), method=method, sample_ids=ids, memory_limit=5_000
    )
    np.testing.assert_array_equal(whole.radius, limited.radius)
    assert len(set(whole.radius)) > 3
    method = Smoothing(0.5, n=700, n0=200, seed=1)
    other = ae.certify(model, x, y, ae.L2(0.1), method=method, sample_ids=ids)
    assert (other.radius != whole.radius).any()


def test_copies_are_the_same_however_they_are_asked_for():
    x = np.linspace(0, 1, 300, dtype=np.float32)
    noisy = _core.Noisy.normal(x, 0.5)
    whole = noisy.copies(1, 0, 5, 0, 20)
    parts = np.concatenate([noisy.copies(1, 0, 5, 0, 7), noisy.copies(1, 0, 5, 7, 13)])
    np.testing.assert_array_equal(whole, parts)
    assert (whole != noisy.copies(1, 1, 5, 0, 20)).all(axis=1).all()
    assert np.std(whole - x) == pytest.approx(0.5, rel=0.05)


def test_lattice_noise_has_the_rounded_normal_distribution():
    from aisec_eval.certifiers.votes import LatticeNoise
    from aisec_eval.lattice import Lattice

    sigma, levels = 0.02, np.full((1, 50_000), 100)
    x = (levels / np.float32(LEVELS)).astype(np.float32)
    noise = LatticeNoise.of(x, sigma, Lattice.of("1/255"))
    copies = noise.on(0).copies(0, 0, 0, 0, 4)
    drawn = np.rint(copies.astype(np.float64) * LEVELS) - 100
    np.testing.assert_array_equal((drawn + 100).astype(np.float32) / np.float32(LEVELS), copies)
    cells = np.arange(-14, 15)
    expected = np.diff(norm.cdf((np.arange(-14, 16) - 0.5) / (sigma * LEVELS))) * drawn.size
    seen = np.array([(drawn == cell).sum() for cell in cells])
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert statistic < chi2.ppf(0.9999, len(cells) - 1)
    assert 0 < noise.distance < 1e-6


def test_logits_that_are_not_finite_win_no_vote():
    weight = np.array([[3e38, 3e38], [0.0, 0.0]])
    nodes = [
        node("x", "input", [], shape=[2]),
        node("y", "affine", [0], tensors={"weight": 0, "bias": 1}),
    ]
    graph = _core.Graph(json.dumps({"nodes": nodes, "output": 1}), [weight, np.zeros(2)])
    x = np.full(2, 100, dtype=np.float32)
    assert _core.Noisy.normal(x, 0.1).class_counts(graph, 0, 0, 0, 0, 50).tolist() == [0, 0]
    model = GraphModel(graph, certifiable=False)
    threat = ae.L2(0.1, bounds=(0, 100))
    with np.errstate(over="ignore"):
        result = ae.certify(model, x[None], [0], threat, method=Smoothing(0.1, n=50, n0=10))
    assert not result.certified.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"sigma": 1, "n": 0}, "n="),
        ({"sigma": 1, "n0": 2**32}, "n0="),
        ({"sigma": 1, "alpha": 1}, "alpha"),
        ({"sigma": 1, "seed": -1}, "seed"),
    ],
)
def test_options_that_certify_nothing_are_refused(options, message):
    with pytest.raises(ae.InputError, match=message):
        Smoothing(**options)


def test_what_smoothing_does_not_cover_is_refused_in_one_line(linear):
    x, y = np.array([[0.5, 0.5, 0.1, 0]], dtype=np.float32), [0]
    with pytest.raises(ae.CapabilityError, match="L2 balls, not linf"):
        ae.certify(linear, x, y, ae.Linf(0.1), method=Smoothing(0.1))
    with pytest.raises(ae.InputError, match="not a multiple of lattice"):
        ae.certify(linear, x, y, ae.L2(0.1), method=Smoothing(0.1, lattice="1/255"))
    with pytest.raises(ae.InputError, match="too fine"):
        ae.certify(linear, np.rint(x), y, ae.L2(0.1), method=Smoothing(100, lattice="1/16777213"))
    with pytest.raises(ae.InputError, match="vote under noise"):
        ae.evaluate(linear, x, y, ae.L2(0.1), certify=Smoothing(0.1))
