"""Threat models keep radii exact and refuse what is not one."""

import copy
import json
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisec_eval import L0, L1, L2, Box, Corruptions, InputError, Linf, Spatial
from aisec_eval.threats import exact, parse, round_down, round_up


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("8/255", Fraction(8, 255)),
        (" 8/255 ", Fraction(8, 255)),
        ("0.1", Fraction(1, 10)),
        ("1e-3", Fraction(1, 1000)),
        (0.1, Fraction(3602879701896397, 36028797018963968)),
        (np.float32(0.1), Fraction(13421773, 134217728)),
        (np.int64(2), Fraction(2)),
        (Fraction(8, 255), Fraction(8, 255)),
        (0, Fraction(0)),
    ],
)
def test_exact(value, expected):
    assert exact(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "8/0", "eps", "nan", "inf", math.nan, math.inf, -math.inf, None, [1], True, 1j, "8//255",
     "1e999999999", "1E+00999999999", "1e400", "9" * 1000, np.float32("nan")],
)  # fmt: skip
def test_what_is_not_a_number_is_one_line(value):
    with pytest.raises(InputError, match="is not a finite number") as caught:
        exact(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.fractions(min_value=0, max_value=10**6))
def test_rounding_encloses_tightly(value):
    low, high = round_down(value), round_up(value)
    assert Fraction(low) <= value <= Fraction(high)
    assert high == low if Fraction(low) == value else high == math.nextafter(low, math.inf)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_ratio_strings_are_exact(numerator, denominator):
    assert exact(f"{numerator}/{denominator}") == Fraction(numerator, denominator)
    threat = L2(f"{numerator}/{denominator}")
    assert Fraction(threat.eps_lower) <= threat.eps <= Fraction(threat.eps_upper)


@given(st.floats(min_value=0, allow_infinity=False))
def test_floats_are_themselves(value):
    threat = L2(value)
    assert threat.eps_lower == threat.eps_upper == value


@pytest.mark.parametrize(
    ("eps", "label"),
    [
        ("8/255", "8/255"),
        (8 / 255, "8/255"),
        (8.5 / 255, repr(8.5 / 255)), ("0.3", "0.3"), (0.3, "0.3"), (0.1, "0.1"),
        ("2/255", "2/255"), ("1/3", "85/255"), ("1/7", "1/7"), (0, "0"), (1, "1"), ("1/5", "0.2"),
        (1e-7, "1e-07"),
    ],
)  # fmt: skip
def test_labels(eps, label):
    assert Linf(eps).label == label
    assert str(Linf(eps)) == f"Linf {label}"


def test_names():
    assert str(L2(2)) == "L2 2"
    assert str(L1("0.5")) == "L1 0.5"
    assert str(Box(np.zeros((1, 8, 8)), np.ones((1, 8, 8)))) == "Box 1x8x8 in [0, 1]"


@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_refused_radii_and_bounds(norm):
    with pytest.raises(InputError, match="negative"):
        norm(-0.1)
    for bounds in [(1, 0), (0, 0), (0, math.inf), (math.nan, 1), (0,), 3, ("a", "b"), None]:
        with pytest.raises(InputError, match="two finite numbers"):
            norm(0.1, bounds=bounds)


def test_l0_counts_coordinates():
    assert str(L0(10)) == "L0 10"
    assert L0("3").eps_lower == 3.0
    for eps in (1.5, "1/2"):
        with pytest.raises(InputError, match="L0 needs an integer"):
            L0(eps)
    with pytest.raises(InputError, match="negative"):
        L0(-1)


def test_linf_must_fit_the_range():
    assert Linf(8, bounds=(0, 255)).eps == 8
    assert Linf(1).eps == 1
    with pytest.raises(InputError, match="eps='8/255'"):
        Linf(8)


def test_box():
    box = Box([0, 0.5], [1, 0.75])
    assert box.bounds == (0, 1)
    assert not box.lower.flags.writeable
    assert box == Box([0, 0.5], [1, 0.75])
    assert hash(box) == hash(Box([0, 0.5], [1, 0.75]))
    assert box != Box([0, 0.5], [1, 0.8])
    assert box != Linf(0)
    for corners in [([0], [1, 2]), ([], []), ([1], [0]), ([0], [math.inf]), ([math.nan], [1]),
                    (["a"], ["b"]), ([[0], [0, 1]], [[1], [1, 2]])]:  # fmt: skip
        with pytest.raises(InputError, match="box corners"):
            Box(*corners)


@pytest.mark.parametrize("threat", [Linf("8/255"), L2(2, bounds=(-1, 1)), L0(5), Box([0], [1])])
def test_threats_are_values(threat):
    assert pickle.loads(pickle.dumps(threat)) == threat
    assert copy.deepcopy(threat) == threat
    assert len({threat, copy.copy(threat)}) == 1
    with pytest.raises(AttributeError):
        threat.eps = 1


def test_different_norms_are_different():
    assert Linf(1) != L2(1)


@pytest.mark.parametrize(
    "threat",
    [
        Linf("8/255", bounds=(-1, 1)),
        L2(0.5),
        L0(3),
        Box([0.0, 0.1], [0.2, 1.0]),
        Spatial("25/2", 1, fill=0.5),
        Corruptions(("fog", "snow"), (5, 1)),
    ],
)
def test_a_description_is_the_threat_model(threat):
    stored = json.loads(json.dumps(threat.describe()))
    assert parse(stored) == threat
    assert stored["norm"] == threat.norm


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"norm": ["linf"]},
        {"norm": "l7", "eps": "1", "bounds": [0, 1]},
        {"norm": "linf"},
        {"norm": "linf", "eps": "1e999999999", "bounds": [0, 1]},
        {"norm": "linf", "eps": "1/10", "bounds": [[0], 1]},
        {"norm": "linf", "eps": {}, "bounds": [0, 1]},
        {"norm": "spatial", "max_rotation": "1e99999999", "max_translation": 1, "fill": 0},
        {"norm": "corruptions", "names": [{}], "severities": [1], "bounds": [0, 1]},
        {"norm": "corruptions", "names": 3, "severities": [1], "bounds": [0, 1]},
        {"norm": "corruptions", "names": ["fog"], "severities": [[1]], "bounds": [0, 1]},
    ],
)
def test_a_strangers_description_is_refused_in_one_line(description):
    with pytest.raises(InputError) as caught:
        parse(description)
    assert "\n" not in str(caught.value)
