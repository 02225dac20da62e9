"""Every refusal is one line that says what, where and what to pass instead."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aisec_eval._validate import check_count, check_samples, check_seed
from aisec_eval.errors import InputError
from aisec_eval.threats import Box, Linf

MODEL: Any = SimpleNamespace(input_shape=(1, 2, 2), num_classes=3)
X = np.full((4, 1, 2, 2), 0.5, np.float32)
Y = np.array([0, 1, 2, 0])
THREAT = Linf(0.1)


def check(x: Any = X, y: Any = Y, threat: Any = THREAT, ids: Any = None) -> Any:
    return check_samples(MODEL, x, y, threat, ids)


def put(value: float, row: int = 2) -> Any:
    x = X.copy()
    x[row, 0, 1, 0] = value
    return x


def test_good_samples_pass_unchanged() -> None:
    samples = check(ids=[7, 3, 1, 0])
    assert samples.x.dtype == np.float32
    assert samples.y.dtype == samples.ids.dtype == np.int64
    np.testing.assert_array_equal(samples.x, X)
    np.testing.assert_array_equal(samples.ids, [7, 3, 1, 0])
    np.testing.assert_array_equal(check().ids, np.arange(4))
    assert len(samples) == 4


def test_exact_float64_and_noncontiguous_arrays_pass() -> None:
    assert check(X.astype(np.float64)).x.dtype == np.float32
    assert check(np.asfortranarray(X)).x.flags.c_contiguous


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X[:, 0]}, r"x has shape \[4, 2, 2\], the model takes \[n, 1, 2, 2\]; .*reshape"),
        ({"x": X[0]}, r"x\[None\]"),
        ({"x": X[..., :1]}, r"the model takes \[n, 1, 2, 2\]$"),
        ({"x": X[:0], "y": Y[:0]}, "no samples"),
        ({"x": (X * 255).astype(np.uint8)}, r"dtype uint8.*/ 255"),
        ({"x": X.astype(complex)}, "dtype complex128"),
        ({"x": np.full(X.shape, 0.1)}, r"astype\(np.float32\)"),
        ({"x": [[1, 2], [3]]}, "x is not an array"),
        ({"x": put(np.nan)}, r"x\[2\] is nan at \[0, 1, 0\]"),
        ({"x": put(-np.inf)}, r"x\[2\] is -inf"),
        (
            {"x": put(1.5)},
            r"x\[2\] is 1.5 at \[0, 1, 0\], outside \[0.0, 1.0\].*bounds=\(0.5, 1.5\)",
        ),
        ({"x": np.full(X.shape, 1e300)}, "not float32 numbers"),
        ({"threat": Box(np.zeros((2, 2)), np.ones((2, 2)))}, "box has shape"),
        ({"threat": Box(X[0] - 0.1, X[0] + 0.1), "x": put(0.9)}, "inside the box"),
        ({"y": Y[:3]}, r"y has shape \[3\], expected one label a sample: \[4\]"),
        ({"y": Y.astype(float)}, r"y.astype\(np.int64\)"),
        ({"y": Y == 1}, "dtype bool"),
        ({"y": np.array([0, 1, 3, 0])}, r"y\[2\] is 3, the model has classes 0..2"),
        ({"y": np.array([0, -1, 0, 0])}, r"y\[1\] is -1"),
        ({"y": np.eye(4)}, "expected one label a sample"),
        ({"ids": [0, 1, 2]}, "expected 4 integers"),
        ({"ids": [0, 1, 2, -3]}, ">= 0, got -3"),
        ({"ids": [0, 1, 1, 3]}, "holds 1 more than once"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check(**arguments)
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None])
def test_counts_must_be_positive_integers(value: Any) -> None:
    with pytest.raises(InputError, match="steps="):
        check_count("steps", value)


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, True, None])
def test_seeds_are_64_bit(value: Any) -> None:
    with pytest.raises(InputError, match="seed="):
        check_seed(value)
    assert check_seed(np.int64(3)) == 3
    assert check_count("steps", np.int32(2)) == 2
