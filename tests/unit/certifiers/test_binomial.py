"""Limits against published values and exact sums; evidence against its definition."""

from __future__ import annotations

from fractions import Fraction
from math import comb, exp, log

import pytest

from aisec_eval.certifiers import binomial


@pytest.mark.parametrize(
    ("hits", "total", "p", "radius"),
    [
        (99_900, 100_000, 0.998650992446753, 3.00020098766837),
        (100_000, 100_000, 0.9999309248330094, 3.81145656338999),
        (80_000, 100_000, 0.7960660711927274, 0.827651563340814),
        (51_000, 100_000, 0.5051093492440559, 0.0128075894189),
        (1_000, 1_000, 0.9931160484209338, 2.46326261478077),
    ],
)
def test_clopper_pearson_table(hits, total, p, radius):
    limit = binomial.lower_limit(hits, total, 1e-3)
    assert p * (1 - 1e-9) < limit < p
    assert binomial.radius(limit, 1.0) == pytest.approx(radius, rel=1e-6)
    assert binomial.radius(limit, 1.0) < radius


@pytest.mark.parametrize("total", [1, 7, 20])
def test_the_limit_is_on_the_safe_side_in_exact_arithmetic(total):
    for hits in range(total + 1):
        limit = binomial.lower_limit(hits, total, 0.01)
        if hits == 0:
            assert limit == 0
            continue
        p = Fraction(limit)
        tail = sum(comb(total, k) * p**k * (1 - p) ** (total - k) for k in range(hits, total + 1))
        assert Fraction(99, 10_000) < tail <= Fraction(1, 100)


def test_ten_copies_are_the_fewest_that_certify():
    assert binomial.radius(binomial.lower_limit(9, 9, 1e-3), 1.0) == 0
    assert binomial.radius(binomial.lower_limit(10, 10, 1e-3), 1.0) > 0


@pytest.mark.parametrize("eps", [0.0, 0.3, 1.0, 5.0, 7.9, 8.0, 1e9])
def test_a_radius_needs_at_least_the_probability_that_gives_it(eps):
    needed = binomial.needed(eps, 1.0)
    assert 0.5 <= needed <= 1
    if needed < 1:
        assert binomial.radius(needed + 2.0**-52, 1.0) >= eps * (1 - 1e-6)
        from scipy.stats import norm

        assert needed >= norm.cdf(eps)


@pytest.mark.parametrize("p", [0.5, 0.77, 0.98])
@pytest.mark.parametrize("truth", [0.0, 0.5, 1.0])
def test_evidence_is_on_average_at_most_one_where_the_null_holds(p, truth):
    """The defining property of an e-value, summed exactly over all outcomes."""
    total, q = 25, truth * p
    mean = sum(
        comb(total, k) * q**k * (1 - q) ** (total - k) * exp(binomial.log_evidence_above(p, k, 25))
        for k in range(total + 1)
    )
    assert mean <= 1 + 1e-12
    if truth == 1.0:
        assert mean == pytest.approx(1, abs=1e-6)
    # Mirrored: the probability is at least p.
    q = 1 - truth * (1 - p)
    mean = sum(
        comb(total, k) * q**k * (1 - q) ** (total - k) * exp(binomial.log_evidence_below(p, k, 25))
        for k in range(total + 1)
    )
    assert mean <= 1 + 1e-12


def test_evidence_is_the_mean_of_likelihood_ratios():
    p, hits, total = 0.6, 14, 17
    points = [p + (1 - p) * (i + 0.5) / 20_000 for i in range(20_000)]
    ratios = [(q / p) ** hits * ((1 - q) / (1 - p)) ** (total - hits) for q in points]
    assert binomial.log_evidence_above(p, hits, total) == pytest.approx(
        log(sum(ratios) / len(ratios)), abs=1e-6
    )


def test_evidence_survives_huge_counts():
    assert binomial.log_evidence_above(0.9, 10**9, 10**9) > 1e7
    assert binomial.log_evidence_above(0.9, 0, 10**9) < -1e7
