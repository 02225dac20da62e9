"""Accuracies of cases, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aisec_eval.cases import CORRECT, UNKNOWN, WRONG, Cases
from aisec_eval.errors import InputError

NAMES = ("fog/1", "fog/2", "snow/1", "snow/2")


def cases(*rows: tuple[int, ...]) -> Cases:
    return Cases(NAMES, np.array(rows, np.int8))


def test_means_are_over_all_samples_and_what_is_unknown_is_not_correct() -> None:
    one = cases((CORRECT, WRONG, CORRECT, UNKNOWN), (CORRECT, CORRECT, WRONG, WRONG))
    assert one.accuracy.tolist() == [1, 0.5, 0.5, 0]
    assert one.mean_accuracy == 0.5
    assert one.table.rows() == [("fog", 1.0, 0.5, 0.75), ("snow", 0.5, 0.0, 0.25)]
    assert one.table.columns == ["kind", "1", "2", "mean"]
    assert one.frame.columns == ["kind", "level", "accuracy"]
    assert Cases.unknown(NAMES, 3).mean_accuracy == 0


def test_mce_is_relative_to_the_baseline_by_kind() -> None:
    one = cases((1, 0, 1, 1), (1, 1, 0, 1))
    baseline = cases((0, 0, 0, 1), (1, 1, 1, 0))
    # fog: (0 + 1/2) / (1/2 + 1/2), snow: (1/2 + 0) / (1/2 + 1/2)
    assert one.mce(baseline) == pytest.approx(0.5)
    assert baseline.mce(baseline) == pytest.approx(1)
    with pytest.raises(InputError, match="no error under snow"):
        one.mce(cases((0, 0, 1, 1), (0, 0, 1, 1)))
    with pytest.raises(InputError, match="other cases"):
        one.mce(Cases(("fog/1",), np.zeros((1, 1), np.int8)))


def test_codes_have_a_column_a_case() -> None:
    with pytest.raises(ValueError, match="4 cases"):
        Cases(NAMES, np.zeros((2, 3), np.int8))
