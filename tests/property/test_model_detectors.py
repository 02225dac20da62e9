"""What holds for any data: layers, spectra, ranks, kept rows, Gram matrices of powers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aisec_eval as ae
from aisec_eval._core import gram_deviations
from aisec_eval.detectors import class_report, extract
from aisec_eval.detectors.frequency import FLOOR, Spectrum
from aisec_eval.detectors.kernel_test import discrepancy
from aisec_eval.detectors.nulls import against_classes, beta_binomial_tail, conformal
from aisec_eval.detectors.sources.spool import Rows

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.lists(st.integers(1, 9), min_size=0, max_size=3), st.integers(2, 5))
@settings(max_examples=8)
def test_the_penultimate_layer_of_any_stack_of_layers(seed, widths, classes):
    import jax

    random = np.random.default_rng(seed)
    sizes = [6, *widths, classes]
    weights = [random.normal(size=s).astype(np.float32) for s in pairwise(sizes)]

    def hidden(x, maximum):
        x = x.reshape(len(x), 6)
        for weight in weights[:-1]:
            x = maximum(x @ weight, 0)
        return x

    def network(x):
        return hidden(x, jax.numpy.maximum) @ weights[-1]

    x = random.random((9, 2, 3)).astype(np.float32)
    found = extract(ae.load_model(network, input_shape=(2, 3)), x)
    expected = hidden(x, np.maximum)
    np.testing.assert_allclose(found.features, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.logits, expected @ weights[-1], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.errors.sum(1), 0, atol=1e-5)


@given(seeds, st.integers(2, 9), st.integers(2, 9), st.integers(1, 3), st.integers(1, 12))
def test_rings_hold_all_power_but_the_mean(seed, height, width, channels, bands):
    images = np.random.default_rng(seed).random((4, channels, height, width))
    spectrum = Spectrum((channels, height, width), 0, bands, 1.0)
    rings = np.exp(spectrum(images.reshape(4, -1), "x", 0)) - FLOOR
    counts = np.count_nonzero(spectrum._mean, axis=0)
    assert counts.sum() == height * width - 1
    assert (counts > 0).all()
    power = (rings.reshape(4, spectrum.bands, channels) * counts[:, None]).sum(axis=1)
    centred = images - images.mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(power, (centred**2).sum(axis=(2, 3)), rtol=1e-6, atol=1e-9)


@given(seeds, st.integers(1, 60), st.integers(1, 60))
def test_ranks_of_samples_among_clean_ones(seed, n, m):
    random = np.random.default_rng(seed)
    score, clean = random.integers(0, 9, n).astype(float), random.integers(0, 9, m).astype(float)
    p = conformal(score, clean)
    expected = [(1 + (clean >= s).sum()) / (1 + m) for s in score]
    np.testing.assert_allclose(p, expected)
    assert (np.diff(p[np.argsort(score)]) <= 0).all()


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_tails_of_counts_fall_and_end_at_one(count, n, rank, m):
    rank = min(rank, m)
    tails = [beta_binomial_tail(k, n, rank, m) for k in range(n + 2)]
    assert tails[0] == 1
    assert all(a >= b - 1e-12 for a, b in pairwise(tails))
    # The mean of the count is the sum of its tails.
    assert sum(tails[1:]) == pytest.approx(n * rank / (m + 1), rel=1e-6)
    assert beta_binomial_tail(count, n, rank, m) >= 0


@given(seeds, st.integers(1, 7), st.integers(10, 80))
def test_classes_in_any_order_have_the_same_p_values(seed, classes, n):
    random = np.random.default_rng(seed)
    score, label = random.normal(size=n), random.integers(0, classes, n)
    order = random.permutation(n)
    p, info = against_classes(score, label)
    q, other = against_classes(score[order], label[order])
    np.testing.assert_allclose(p[order], q)
    assert info["dataset"] == other["dataset"]
    assert ((p > 0) & (p <= 1)).all()


@given(seeds, st.integers(0, 400), st.integers(1, 9))
def test_rows_are_read_as_they_were_kept(seed, memory, step):
    random = np.random.default_rng(seed)
    parts = [random.random((size, 3)).astype(np.float32) for size in random.integers(0, 9, 6)]
    rows, x = Rows("x", (3,), memory), np.concatenate(parts)
    for part in parts:
        rows.append(part)
    rows.finish()
    assert rows.held <= memory
    if not len(x):
        return
    first = int(random.integers(0, len(x)))
    read = [part.copy() for _, part in rows.read(step, first)]
    np.testing.assert_array_equal(np.concatenate(read), x[first:])
    some = np.flatnonzero(random.random(len(x)) < 0.5)
    np.testing.assert_array_equal(rows.take(some), x[some])


@given(seeds, st.integers(1, 8), st.integers(1, 5), st.integers(1, 12), st.integers(1, 6))
def test_gram_deviations_of_any_shape(seed, m, channels, positions, order):
    random = np.random.default_rng(seed)
    shape = (channels, positions)
    reference = random.normal(size=(m, *shape)).astype(np.float32)
    queries = random.normal(size=(3, *shape)).astype(np.float32)
    found = gram_deviations(reference, queries, (order,), 1.0, 1 << 20)
    assert (found >= 0).all()
    for memory in (1, 100):
        again = gram_deviations(reference, queries, (order,), 1.0, memory)
        np.testing.assert_array_equal(found, again)
    # Positions in any order, signs of all maps of a sample turned: the same products.
    turned = -queries[:, :, random.permutation(positions)]
    moved = gram_deviations(reference, np.ascontiguousarray(turned), (order,), 1.0, 1 << 20)
    np.testing.assert_allclose(moved, found, rtol=1e-3, atol=1e-4)
    # A wider limit never deviates more; with one reference sample it is the sample itself.
    wide = gram_deviations(reference, queries, (order,), 9.0, 1 << 20)
    assert (wide <= found + 1e-9).all()
    own = gram_deviations(reference[:1], reference[:1], (order,), 1.0, 1 << 20)
    assert math.isclose(own[0], 0, abs_tol=1e-9)


@given(seeds, st.integers(2, 12), st.integers(2, 12))
def test_discrepancies_do_not_depend_on_the_order_of_samples(seed, n, m):
    random = np.random.default_rng(seed)
    one, two = random.normal(size=(n, 3)), random.normal(size=(m, 3))
    found = discrepancy(one, two)
    assert found == pytest.approx(discrepancy(two, one[::-1]), rel=1e-6, abs=1e-9)


@given(seeds, st.integers(1, 6), st.integers(1, 40))
def test_reports_count_every_sample_once(seed, classes, n):
    random = np.random.default_rng(seed)
    label, p = random.integers(0, classes, n), random.random(n)
    result = ae.ScanResult(
        score=-p, flagged=p < 0.1, p_value=p, label=label, method="m",
        classes=np.unique(label), eigenvalues=np.empty(0),
    )  # fmt: skip
    frame = class_report(result)
    assert frame["samples"].sum() == n
    assert frame["flagged"].sum() == (p < 0.1).sum()
    assert frame["low_p"].sum() == (p <= 0.01).sum()
    assert frame["anomaly_index"].is_finite().all()
