"""The kernel two-sample test: by hand, exact under the null, with power against a mixture."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from aisec_eval.detectors.kernel_test import BANDWIDTHS, discrepancy, halves_apart, two_samples


def kernel(a, b, mean):
    square = ((a - b) ** 2).sum()
    return sum(math.exp(-square / (factor * mean)) for factor in BANDWIDTHS)


def direct(one, two):
    z = np.concatenate([one, two])
    pairs = list(itertools.permutations(range(len(z)), 2))
    mean = np.mean([((z[i] - z[j]) ** 2).sum() for i, j in pairs])

    def average(pairs):
        return np.mean([kernel(a, b, mean) for a, b in pairs])

    within = average(itertools.permutations(one, 2)) + average(itertools.permutations(two, 2))
    return within - 2 * average(itertools.product(one, two))


def test_the_discrepancy_by_its_definition():
    random = np.random.default_rng(0)
    one, two = random.normal(size=(6, 3)), random.normal(1, 2, size=(4, 3))
    assert discrepancy(one, two) == pytest.approx(direct(one, two), rel=1e-9)
    assert discrepancy(5 + 3 * one, 5 + 3 * two) == pytest.approx(direct(one, two), rel=1e-9)


def test_p_values_are_uniform_without_a_difference_and_small_with_one():
    random = np.random.default_rng(1)
    p = []
    for trial in range(150):
        x = random.standard_t(3, size=(60, 4))
        p.append(two_samples(x[:35], x[35:], trial, 0, 999))
    for level in (0.5, 0.2, 0.1):
        assert np.mean(np.array(p) <= level) <= level + 3 * math.sqrt(level * (1 - level) / 150)
    x = random.normal(size=(200, 4))
    x[:30] += 3
    assert two_samples(x[:150], x[150:], 0, 0, 999) < 0.01
    assert two_samples(x[:150] + 9, x[150:], 0, 0, 999) == 1 / 1000


def test_halves_of_a_mixture_are_further_apart():
    random = np.random.default_rng(2)
    plain = random.normal(size=(200, 5))
    mixed = plain.copy()
    mixed[:60] += 4
    score = (mixed**2).sum(1)
    assert halves_apart(mixed, score, 0, 0) > 5 * halves_apart(plain, (plain**2).sum(1), 0, 0)
    assert math.isnan(halves_apart(plain[:19], score[:19], 0, 0))


def test_constant_samples_have_no_discrepancy():
    ones = np.ones((30, 3))
    assert discrepancy(ones, ones) == pytest.approx(0, abs=1e-12)
    assert two_samples(ones, ones, 0, 0, 99) == 1
