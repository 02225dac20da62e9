"""Detectors whose first pass was done elsewhere, in parts, find what they find alone."""

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval._core import Statistics
from aisec_eval.detectors import METHODS
from aisec_eval.detectors.source import open_source
from aisec_eval.detectors.sources.gathered import gathered
from aisec_eval.suite.scan_shards import GATHERED

ROWS, DIM = 720, 8


def draw():
    random = np.random.default_rng(4)
    y = np.arange(ROWS) % 6
    x = random.normal(size=(ROWS, DIM)) + 3 * random.normal(size=(6, DIM))[y]
    return x.astype(np.float32), y


def statistics(x, y):
    found = Statistics(DIM, 1 << 30)
    found.update(x, y)
    return found.to_bytes()


@pytest.mark.parametrize("method", sorted(GATHERED))
def test_scores_are_those_of_all_passes(method):
    x, y = draw()
    source = open_source(x, y)
    calls = []
    before = gathered(source, statistics(x, y), y)
    result = METHODS[method](before, None, None, lambda *call: calls.append(call[2]))
    expected = ae.scan(x, y, method=method)
    for name in ("score", "p_value", "flagged", "label"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    assert "statistics" not in calls


def test_statistics_that_do_not_fit_are_not_used():
    x, y = draw()
    wide = np.repeat(x, 40, axis=1)
    random = np.random.default_rng(0)
    wide += random.normal(size=wide.shape).astype(np.float32)
    found = Statistics(wide.shape[1], 1 << 30)
    found.update(wide, y)
    limit = 12 << 20
    before = gathered(open_source(wide, y), found.to_bytes(), y)
    result = METHODS["activation-clustering"](before, None, limit, None)
    expected = ae.scan(wide, y, method="activation-clustering", memory_limit=limit)
    assert result.info["directions"].startswith("frequent directions")
    np.testing.assert_array_equal(result.score, expected.score)


def test_other_rows_than_those_gathered_are_noticed():
    x, y = draw()
    before = gathered(open_source(x, y), statistics(x, y), y[::-1].copy())
    with pytest.raises(ae.DatasetError, match="changed between two passes"):
        METHODS["lda"](before, None, None, None)
