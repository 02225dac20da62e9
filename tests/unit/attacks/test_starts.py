"""Data starts: the nearest samples of other classes."""

from __future__ import annotations

import numpy as np
import pytest

from aisec_eval.attacks.starts import MOST, Pool

POINTS = np.float32([[0, 0], [1, 0], [0, 0.9], [0.8, 0.8], [0.1, 0.1]])
LABELS = np.array([0, 1, 1, 2, 0])


@pytest.mark.parametrize(
    ("norm", "expected"),
    [("linf", [3, 2, 1]), ("l2", [2, 1, 3]), ("l1", [2, 1, 3]), ("l0", [1, 2, 3])],
)
def test_order(norm: str, expected: list[int]) -> None:
    rows = Pool(POINTS, LABELS).nearest(POINTS[:1], LABELS[:1], norm, 4)
    assert rows.tolist() == [[*expected, -1]]


def test_rows_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((40, 3, 4), np.float32)
    y = rng.integers(0, 3, 40)
    pool = Pool(x, y)
    for norm in ("linf", "l2", "l1", "l0"):
        rows = pool.nearest(x, y, norm, 5)
        assert (y[rows] != y[:, None]).all()
        order = rng.permutation(40)
        np.testing.assert_array_equal(pool.nearest(x[order], y[order], norm, 5), rows[order])
        for i in range(0, 40, 7):
            np.testing.assert_array_equal(
                pool.nearest(x[i : i + 1], y[i : i + 1], norm, 5)[0], rows[i]
            )


def test_only_correct_samples_are_in_the_pool() -> None:
    correct = np.arange(2 * MOST) % 2 == 1
    x = np.arange(2 * MOST, dtype=np.float32)[:, None]
    pool = Pool.of(x, np.zeros(2 * MOST, np.int64), correct)
    assert len(pool.y) == MOST
    assert (pool.x[:, 0] % 2 == 1).all()
    none = Pool.of(x[:4], np.zeros(4, np.int64), np.zeros(4, np.bool_))
    assert none.nearest(x[:2], np.ones(2, np.int64), "l2", 3).tolist() == [[-1] * 3] * 2
