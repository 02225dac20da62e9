"""check_adversarial from Python; what it accepts is tested in Rust."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aisec_eval import _core


@pytest.fixture(scope="module")
def compare() -> _core.Graph:
    """Two inputs, logits equal to them."""
    nodes = [
        {"name": "x", "op": "input", "inputs": [], "tensors": {}, "attrs": {"shape": [2]}},
        {
            "name": "z",
            "op": "affine",
            "inputs": [0],
            "tensors": {"weight": 0, "bias": 1},
            "attrs": {},
        },
    ]
    return _core.Graph(json.dumps({"nodes": nodes, "output": 1}), [np.eye(2), np.zeros(2)])


def test_findings_one_a_sample(compare: _core.Graph) -> None:
    x = np.tile(np.float32([0.5, 0.25]), (5, 1))
    x_adv = np.float32([[0.5, 0.75], [0.5, 0.5], [0.5, np.nan], [0.5, 2.0], [0.5, 1.0]])
    ok, margin, distance, reason = _core.check_adversarial(
        compare, x, x_adv, np.zeros(5, np.int64), norm="linf", eps=0.5, lower=0.0, upper=1.0
    )
    assert ok.tolist() == [True, False, False, False, False]
    assert ok.dtype == np.bool_
    np.testing.assert_allclose(margin[[0, 1]], [-0.25, 0.0], atol=1e-12)
    assert margin[1] >= 0.0
    assert distance[0] == 0.5
    assert reason[0] == ""
    assert "margin is not proven negative" in reason[1]
    assert reason[2] == "not finite at element 1"
    assert reason[3] == "outside the input range at element 1"
    assert reason[4] == "distance 7.5e-1 is not proven to be within 5e-1"


def test_corners_may_be_arrays_and_labels_are_checked(compare: _core.Graph) -> None:
    x = np.float32([[0.5, 0.25]])
    x_adv = np.float32([[0.5, 0.75]])
    for upper, accepted in [(np.array([0.5, 0.75]), True), (np.array([0.5, 0.7]), False)]:
        ok, *_ = _core.check_adversarial(
            compare, x, x_adv, np.zeros(1, np.int64), norm="box", eps=0.0, lower=0.0, upper=upper
        )
        assert bool(ok[0]) is accepted
    _, _, _, reason = _core.check_adversarial(
        compare, x, x_adv, np.array([2]), norm="l2", eps=1.0, lower=0.0, upper=1.0
    )
    assert reason == ["label 2 is not one of 2 classes"]


def test_refusals_are_one_line(compare: _core.Graph) -> None:
    x, y = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
    good = {"norm": "linf", "eps": 1.0, "lower": 0.0, "upper": 1.0}
    for arguments, options, message in [
        ((x, x, y), good | {"norm": "l3"}, 'norm "l3" is not one of'),
        ((x, x[:, :1], y), good, "x_adv: expected"),
        ((x[:0], x, y), good, "x: expected"),
        ((x, x, y.astype(np.int32)), good, "labels: expected"),
        ((x, x, y), good | {"lower": np.zeros(3)}, "lower: expected"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            _core.check_adversarial(compare, *arguments, **options)
        assert "\n" not in str(caught.value)


def test_no_samples(compare: _core.Graph) -> None:
    none = np.zeros((0, 2), np.float32)
    ok, margin, distance, reason = _core.check_adversarial(
        compare, none, none, np.zeros(0, np.int64), norm="l2", eps=1.0, lower=0.0, upper=1.0
    )
    assert [len(ok), len(margin), len(distance), len(reason)] == [0, 0, 0, 0]
