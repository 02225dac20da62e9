"""Certified radii: exact for linear models, below every example, above the known radius."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.certifiers.complete import decide
from helpers.networks import LayeredModel

from .conftest import GraphModel, node

WEIGHT = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.5], [-1.0, 0.5, 0.0]])


@pytest.fixture(scope="module")
def linear() -> GraphModel:
    nodes = [
        node("x", "input", [], shape=[3]),
        node("y", "affine", [0], tensors={"weight": 0, "bias": 1}),
    ]
    return GraphModel(_core.Graph(json.dumps({"nodes": nodes, "output": 1}), [WEIGHT, np.zeros(3)]))


@pytest.mark.parametrize(
    ("kind", "dual", "loose"),
    # In L1 the descent goes for the second-largest logit, not for the nearest plane.
    [(ae.Linf, 1, 1.05), (ae.L2, 2, 1.05), (ae.L1, np.inf, 1.4)],
    ids=["linf", "l2", "l1"],
)
def test_radii_of_linear_models_are_the_distances_to_the_nearest_plane(linear, kind, dual, loose):
    x = np.random.default_rng(0).uniform(0.3, 0.7, (20, 3)).astype(np.float32)
    y = linear.labels(x)
    result = ae.certify(linear, x, y, kind(0.05, bounds=(-1, 2)), radius=True)
    gaps = WEIGHT[y][:, None] - WEIGHT[None]
    length = np.linalg.norm(gaps, ord=dual, axis=2)
    length[np.arange(20), y] = np.nan
    exact = np.nanmin((x.astype(np.float64)[:, None] * gaps).sum(2) / length, axis=1)
    assert (result.radius <= exact).all()
    assert (result.radius >= 0.98 * exact).all()
    assert (result.radius_upper >= exact).all()
    assert (result.radius_upper <= loose * exact).all()
    np.testing.assert_array_equal(result.certified, exact > 0.05)
    assert (result.radius[result.certified] >= 0.05).all()


def test_brackets_of_a_network(small_model, small_samples):
    x, y = small_samples
    for method in ("ibp", "crown"):
        for threat in (ae.Linf(0.01), ae.L2(0.05)):
            result = ae.certify(small_model, x, y, threat, method=method, radius=True)
            plain = ae.certify(small_model, x, y, threat, method=method)
            np.testing.assert_array_equal(result.certified, plain.certified)
            assert (result.radius <= result.radius_upper).all()
            eps = float(threat.eps)
            np.testing.assert_array_equal(result.radius >= eps, plain.certified)
            # The radius itself certifies when it is asked for, and so does nothing a bit beyond.
            right = np.flatnonzero(result.radius > 0)[:2]
            for row in right:
                ball = type(threat)(float(result.radius[row]))
                one = ae.certify(small_model, x[[row]], y[[row]], ball, method=method)
                assert one.certified.all()
                ball = type(threat)(float(result.radius[row]) * 1.05)
                one = ae.certify(small_model, x[[row]], y[[row]], ball, method=method)
                assert not one.certified.any()


def test_misclassified_samples_have_no_radius(small_model, small_samples):
    x, y = small_samples
    wrong = (y + 1) % small_model.num_classes
    result = ae.certify(small_model, x, wrong, ae.Linf(0.01), radius=True)
    assert result.radius.tolist() == result.radius_upper.tolist() == [0.0] * len(x)
    assert not result.certified.any()


def test_a_box_has_no_radius(small_model, small_samples):
    x, y = small_samples
    box = ae.Box(np.zeros((1, 8, 8)), np.ones((1, 8, 8)))
    with pytest.raises(ae.InputError, match="radius=True needs"):
        ae.certify(small_model, x, y, box, radius=True)


@pytest.fixture(scope="module")
def searched() -> list[tuple[ae.CertifyResult, ae.CertifyResult, int, int]]:
    """Radii of small networks, each from nothing and from the last one, and the parts of either."""
    found = []
    for seed in (4, 6):
        random = np.random.default_rng(seed)
        layers = [
            (1.5 * random.normal(size=(n, m)) / np.sqrt(m), random.normal(size=n) / 2)
            for m, n in itertools.pairwise((6, 24, 24, 3))
        ]
        model = LayeredModel(layers, (6,))
        x = np.random.default_rng(seed + 1).uniform(0.2, 0.8, (4, 6)).astype(np.float32)
        y = model.logits(x).argmax(axis=1)
        results, parts = [], []
        for cold in (True, False):
            spent = []

            def counted(*args, start=None, cold=cold, spent=spent, **options):
                decided = decide(*args, start=None if cold else start, **options)
                spent.append(decided.domains)
                return decided

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("aisec_eval.certifiers.complete.decide", counted)
                threat = ae.Linf(0.05)
                results.append(ae.certify(model, x, y, threat, method="complete", radius=True))
            parts.append(sum(spent))
        found.append((*results, *parts))
    return found


def test_radii_of_complete_go_on_from_radius_to_radius(searched):
    for scratch, further, *_ in searched:
        np.testing.assert_allclose(further.radius, scratch.radius, rtol=0.02)
    assert sum(fewer for *_, fewer in searched) < sum(all_ for *_, all_, _ in searched)


def test_radii_of_complete_end_beside_examples(searched):
    for scratch, further, *_ in searched:
        for result in (scratch, further):
            assert (result.radius <= result.radius_upper).all()
    for result in searched[0][:2]:
        # One radius of the last sample stays open: neither proven nor attacked.
        assert (result.radius >= 0.97 * result.radius_upper).all()
