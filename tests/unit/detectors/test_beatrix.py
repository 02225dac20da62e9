"""Beatrix: deviations by the definition, real backdoors, clean twins, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval._core import gram_deviations
from aisec_eval.detectors import beatrix
from aisec_eval.errors import InputError
from helpers.backdoored import digits


def gram(maps, order):
    powers = maps.astype(np.float64) ** order
    product = powers @ powers.transpose(0, 2, 1)
    rows = np.triu_indices(maps.shape[1])
    return (np.sign(product) * np.abs(product) ** (1 / order))[:, rows[0], rows[1]]


def deviations(reference, queries, orders, width):
    total = np.zeros(len(queries))
    for order in orders:
        known, found = gram(reference, order), gram(queries, order)
        median = np.median(known, axis=0)
        mad = np.median(np.abs(known - median), axis=0)
        low, high = median - width * mad, median + width * mad
        typical = np.abs(median).mean()
        below = np.maximum(low - found, 0) / (np.abs(low) + typical)
        above = np.maximum(found - high, 0) / (np.abs(high) + typical)
        total += (below + above).sum(axis=1)
    return total


def test_native_deviations_are_those_of_the_definition():
    random = np.random.default_rng(0)
    reference = random.normal(size=(21, 5, 9)).astype(np.float32)
    queries = random.normal(0.2, 1.5, size=(8, 5, 9)).astype(np.float32)
    for orders in ((1,), (2, 5), tuple(range(1, 9))):
        found = gram_deviations(reference, queries, orders, 2.0, 1 << 20)
        np.testing.assert_allclose(found, deviations(reference, queries, orders, 2.0), rtol=1e-4)


def test_every_order_is_a_statistic_of_its_own():
    # Roots of the Gram matrix of the maps themselves would be monotone in each other: samples
    # would be ranked alike by the entry that is beyond the limits at every order.
    reference = np.full((9, 1, 2), 0.5, np.float32)
    peak = np.array([[[1.0, 0.0]], [[0.72, 0.72]]], np.float32)
    first = gram_deviations(reference, peak, (1,), 1.0, 1 << 20)
    eighth = gram_deviations(reference, peak, (8,), 1.0, 1 << 20)
    assert first[0] < first[1]
    assert eighth[0] > eighth[1]


def test_scores_are_deviations_within_the_class():
    case = digits()
    layers = case.model.layers
    apply, params = layers.function((layers.maps,))
    maps = np.asarray(apply(params, case.x)[0])
    maps = maps.transpose(0, 3, 1, 2).reshape(len(maps), 16, 4)
    result = beatrix(case.model, case.x, case.y, orders=(1, 4))
    assert result.info["maps"] == [16, 4]
    assert result.info["layer"]["name"] == layers.table[layers.maps].name
    for c in (0, 3):
        own = maps[case.y == c]
        expected = deviations(own, own, (1, 4), 3.0)
        np.testing.assert_allclose(result.score[case.y == c], expected, rtol=1e-3, atol=1e-4)


def test_a_real_backdoor_is_found_and_its_clean_twin_is_quiet():
    for case, poisoned in ((digits(), True), (digits(0.0), False)):
        layer = case.model.layers.penultimate
        result = beatrix(
            case.model, case.x, case.y, clean=case.clean_x, clean_labels=case.clean_y, layer=layer
        )
        assert result.info["dataset"]["poisoned"] is poisoned
        assert result.info["target_classes"] == ([case.target] if poisoned else [])
        assert result.flagged[~case.poison].mean() < 0.03
        if poisoned:
            ranks = np.argsort(np.argsort(result.score))
            auroc = (ranks[case.poison].mean() - ranks[~case.poison].mean()) / len(ranks) + 0.5
            assert auroc > 0.9
            assert result.flagged[case.poison].mean() > 0.3
        else:
            alone = beatrix(case.model, case.x, case.y)
            assert not alone.info["dataset"]["poisoned"]
            assert not alone.flagged.any()


def test_memory_and_files_do_not_change_a_bit(tmp_path):
    case = digits()
    expected = beatrix(case.model, case.x, case.y)
    np.save(tmp_path / "x.npy", case.x)
    found = beatrix(case.model, tmp_path / "x.npy", case.y, memory_limit=4 << 20)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.p_value, expected.p_value)


def test_what_does_not_fit_is_refused():
    import jax

    weight = np.random.default_rng(0).normal(size=(1 << 12, 5)).astype(np.float32)

    def network(x):
        return jax.nn.relu(x).reshape(len(x), -1) @ weight

    model = ae.load_model(network, input_shape=(64, 64))
    x = np.random.default_rng(1).random((300, 64, 64)).astype(np.float32)
    with pytest.raises(InputError, match=r"pass channels="):
        beatrix(model, x, layer="max.0" if model.layers.table[1].name == "max.0" else 1)
    with pytest.raises(InputError, match="channels=2 is no axis"):
        beatrix(model, x, layer=1, channels=2)
    with pytest.raises(InputError, match=r"largest class take 4 MiB"):
        beatrix(model, x, np.zeros(300, int), layer=1, channels=0, memory_limit=16 << 20)
    for orders in ((), (0,), (65,), (1.5,)):
        with pytest.raises(InputError, match="orders"):
            beatrix(model, x, layer=1, channels=0, orders=orders)
    with pytest.raises(InputError, match="no class has at least 4"):
        beatrix(
            model, x[:9], np.zeros(9, int), layer=1, channels=0, clean=x[:20],
            clean_labels=np.arange(1, 21),
        )  # fmt: skip
