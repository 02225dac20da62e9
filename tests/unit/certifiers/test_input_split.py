"""The binding of the native search over boxes; what it does is tested beside it, in Rust."""

from __future__ import annotations

import numpy as np
import pytest

from aisec_eval import _core
from helpers.networks import LayeredModel


def search(**changed) -> _core.InputSplit:
    """Search y_0 <= -3 over the square, where y = (x_0 + x_1, 0)."""
    model = LayeredModel([(np.array([[1.0, 1.0], [0.0, 0.0]]), np.zeros(2))], (2,))
    arguments = {
        "lower": np.full(2, -1.0),
        "upper": np.full(2, 1.0),
        "rows": np.array([[1.0, 0.0]]),
        "rhs": np.array([-3.0]),
        "sizes": [1],
        "memory_limit": 1 << 20,
    } | changed
    return _core.InputSplit(model.graph, **arguments)


def test_what_is_refuted_at_once():
    tree = search()
    assert (tree.domains, tree.waiting, tree.open) == (0, 1, [0])
    status, points = tree.advance(1, 10.0)
    assert (status, points.shape) == ("refuted", (0, 2))
    assert (tree.domains, tree.waiting, tree.open, tree.slack) == (1, 0, [], np.inf)
    assert tree.advance(1, 10.0)[0] == "refuted"


def test_points_are_handed_back():
    status, points = search(rhs=np.array([-1.5])).advance(5, 10.0)
    assert status == "points"
    assert (points.sum(axis=1) <= -1.5).all()
    assert (np.abs(points) <= 1).all()


def test_no_time_is_a_pause():
    tree = search()
    status, _ = tree.advance(1, 0.0)
    assert status in ("paused", "refuted")  # one box may be done before the clock is looked at


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sizes": [2]}, "add up to the 1 rows"),
        ({"sizes": [2**63, 2**63, 1]}, "add up to the 1 rows"),
        ({"rhs": np.zeros(2)}, "rhs"),
        ({"rows": np.zeros((1, 3))}, "rows"),
        ({"lower": np.zeros(3)}, "lower"),
        ({"lower": np.full(2, 2.0)}, "lower exceeds upper"),
        ({"upper": np.array([np.nan, 1.0])}, "not a number"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        search(**changed)
    with pytest.raises(ValueError, match="timeout"):
        search().advance(1, float("nan"))
