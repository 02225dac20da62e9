"""Confident learning against one read of its input, TracIn against its two products."""

import numpy as np
import pytest

from aisec_eval.detectors import confident_learning
from aisec_eval.detectors.tracin import Checkpoint, influence

ROWS = 1_000_000


@pytest.fixture(scope="module")
def noisy():
    random = np.random.default_rng(0)
    true = random.integers(0, 10, ROWS)
    p = random.random((ROWS, 10))
    p[np.arange(ROWS), true] += 9 * random.random(ROWS)
    p /= p.sum(axis=1, keepdims=True)
    wrong = random.random(ROWS) < 0.08
    return p, np.where(wrong, random.integers(0, 10, ROWS), true)


@pytest.mark.benchmark(group="confident learning, 1e6 x 10")
def test_confident_learning(benchmark, noisy):
    found = benchmark(confident_learning, *noisy)
    assert 0.05 < found.flagged.mean() < 0.09


@pytest.mark.benchmark(group="confident learning, 1e6 x 10")
def test_reading_thrice_and_sorting_once(benchmark, noisy):
    """What numpy needs to read the probabilities three times and to group the labels."""
    p, y = noisy

    def floor():
        return [p.max() for _ in range(3)], np.argsort(y.astype(np.uint16), kind="stable")

    benchmark(floor)


@pytest.fixture(scope="module")
def factors():
    random = np.random.default_rng(0)
    h = random.normal(size=(100_000, 512)).astype(np.float32)
    e = (random.random((100_000, 10)) - 0.5).astype(np.float32)
    return h, e


@pytest.mark.benchmark(group="TracIn, 1e5 x 512 on 100 tests")
def test_tracin(benchmark, factors):
    h, e = factors
    found = benchmark(influence, [Checkpoint(h, e)], [Checkpoint(h[:100], e[:100])])
    assert found.shape == (100_000, 100)


@pytest.mark.benchmark(group="TracIn, 1e5 x 512 on 100 tests")
def test_two_products(benchmark, factors):
    h, e = factors
    benchmark(lambda: (h @ h[:100].T) * (e @ e[:100].T))
