"""SPECTRE where only SPECTRE can see: poison in a direction of little variance."""

import numpy as np
import pytest

import aisec_eval as ae


def hidden(direction, shift, seed=0, n=2400, d=48, count=50):
    """Gaussian classes with a steep spectrum; poison moved by `shift` deviations along one axis."""
    random = np.random.default_rng(seed)
    deviation = np.geomspace(20, 1, d)
    y = random.integers(0, 3, n)
    x = random.normal(size=(n, d)) * deviation
    poison = np.zeros(n, bool)
    poison[random.choice(np.flatnonzero(y == 1), count, replace=False)] = True
    x[poison, direction] += shift * deviation[direction]
    turn, _ = np.linalg.qr(random.normal(size=(d, d)))
    return (x @ turn).astype(np.float32), y, poison


def found(method, x, y, poison, **options):
    """Share of the poison among the 1.5 times as many highest scores of its class."""
    score = np.where(y == 1, ae.scan(x, y, method=method, **options).score, -np.inf)
    return poison[np.argsort(-score)[: round(1.5 * poison.sum())]].mean() * 1.5


@pytest.mark.parametrize("direction", [26, 32])
def test_a_direction_of_little_variance_is_found_by_whitening(direction):
    x, y, poison = hidden(direction, 7)
    assert found("spectral", x, y, poison) < 0.3
    assert found("spectre", x, y, poison, rate=0.08) > 0.95


def test_as_many_dimensions_are_chosen_as_show_the_poison():
    x, y, _ = hidden(32, 7)
    tests = ae.scan(x, y, method="spectre", rate=0.08).info["class_tests"]
    dimension = {entry["class"]: entry["dimension"] for entry in tests}
    excess = {entry["class"]: entry["excess"] for entry in tests}
    # The 33rd direction is among the first 36.
    assert dimension[1] >= 36
    assert excess[1] > 1.2 * max(excess[0], excess[2])
