"""Reading VNNLIB: the forms of VNN-COMP, exact numbers, refusals that name the line."""

from __future__ import annotations

import gzip
import re
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aisec_eval.certifiers import formula, vnnlib
from aisec_eval.certifiers.property import above, below
from aisec_eval.certifiers.vnnlib import read_vnnlib
from aisec_eval.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 -2))(assert (<= X_1 2.5))\n"


@pytest.fixture
def read(tmp_path: Path):
    def reads(text: str | bytes, name: str = "p.vnnlib"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_vnnlib(path)

    return reads


def rows(case):
    return [(clause.rows.tolist(), clause.rhs_lower.tolist()) for clause in case.clauses]


def test_conjunction_of_single_asserts(read):
    found = read(DECLARED + BOX + "(assert (<= Y_1 Y_0))(assert (>= Y_0 3))")
    assert (found.inputs, found.outputs, found.unsupported) == (2, 2, "")
    (case,) = found.cases
    assert case.lower.tolist() == case.inner_lower.tolist() == [0, -2]
    assert case.upper.tolist() == case.inner_upper.tolist() == [1, 2.5]
    assert rows(case) == [([[-1, 1], [-1, 0]], [0, -3])]


def test_disjunctions_over_inputs_and_outputs_multiply(read):
    text = """(assert (or (and (>= X_0 0)(<= X_0 1)) (and (>= X_0 4)(<= X_0 5))))
    (assert (or (and (<= Y_0 Y_1)) (and (>= Y_0 2) (<= Y_1 1e-5))))"""
    found = read(DECLARED + "(assert (and (>= X_1 0) (<= X_1 1)))" + text)
    assert [case.lower.tolist() for case in found.cases] == [[0, 0], [4, 0]]
    assert [case.upper.tolist() for case in found.cases] == [[1, 1], [5, 1]]
    for case in found.cases:
        assert [row for row, _ in rows(case)] == [[[1, -1]], [[-1, 0], [0, 1]]]


def test_comments_and_missing_spaces(read):
    text = "; caf\xe9\n(assert(or(and(<= Y_0 Y_1))(and(>= Y_0 1.5))));end".encode("latin-1")
    assert len(read((DECLARED + BOX).encode() + text).cases[0].clauses) == 2


def test_gzip(read):
    plain = DECLARED + BOX + "(assert (<= Y_0 0))"
    packed = read(gzip.compress(plain.encode()), "p.vnnlib.gz")
    assert rows(packed.cases[0]) == rows(read(plain).cases[0])


def test_decimals_are_rounded_outward_inward_and_harder(read):
    (case,) = read(
        DECLARED.replace("(declare-const X_1 Real)", "")
        + "(assert (>= X_0 0.1))(assert (<= X_0 0.7))(assert (<= Y_0 0.1))"
    ).cases
    for corner, inner, text in (
        (case.lower, case.inner_lower, "0.1"),
        (case.inner_upper, case.upper, "0.7"),
        (case.clauses[0].rhs_lower, case.clauses[0].rhs_upper, "0.1"),
    ):
        assert Fraction(corner.item()) < Fraction(text) < Fraction(inner.item())
        assert np.nextafter(corner.item(), 9) == inner.item()


def test_linear_terms_are_exact(read):
    (case,) = read(DECLARED + BOX + "(assert (<= (+ (* 0.1 Y_0) (- Y_1) 1) (* 2 Y_0)))").cases
    assert rows(case) == [([[-19, -10]], [-10])]


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (Fraction(1, 2), 0.5, 0.5),
        (Fraction(0), 0.0, 0.0),
        (Fraction(10) ** 400, np.finfo(float).max, np.inf),
        (-(Fraction(10) ** 400), -np.inf, -np.finfo(float).max),
        (Fraction(1, 10**400), 0.0, 5e-324),
    ],
)
def test_rounding(value, low, high):
    assert (below(value), above(value)) == (low, high)


def test_strict_conditions_are_met_strictly_and_refuted_as_if_they_were_not(read):
    (case,) = read(
        DECLARED + BOX + "(assert (< X_0 0.5))(assert (> Y_0 0.5))(assert (< Y_1 Y_0))"
    ).cases
    assert (case.upper[0], case.inner_upper[0]) == (0.5, np.nextafter(0.5, 0))
    (clause,) = case.clauses
    np.testing.assert_array_equal(clause.rows, [[-1, 0], [-1, 1]])
    np.testing.assert_array_equal(clause.rhs_upper, [-0.5, 0])
    np.testing.assert_array_equal(clause.rhs_lower, np.nextafter([-0.5, 0], -1))
    # What no decimal rounds to is strictly below its upper neighbour already.
    (case,) = read(DECLARED + BOX + "(assert (< X_0 0.1))(assert (< Y_0 0.1))").cases
    assert case.inner_upper[0] == case.clauses[0].rhs_lower[0] == below(Fraction(1, 10))


def test_strict_bounds_leave_no_point_where_they_meet(read):
    for text in ("(< X_0 0.5)) (assert (>= X_0 0.5)", "(> X_0 1)", "(< 1 1)"):
        assert read(DECLARED + BOX + f"(assert {text})(assert (<= Y_0 0))").cases == ()
    assert len(read(DECLARED + BOX + "(assert (> X_0 0.5))(assert (> X_0 0.5))").cases) == 1


def test_equality_is_two_conditions(read):
    found = read(DECLARED + BOX + "(assert (= X_0 0.25))(assert (= Y_0 (* 2 Y_1)))")
    (case,) = found.cases
    assert case.lower[0] == case.upper[0] == case.inner_lower[0] == case.inner_upper[0] == 0.25
    np.testing.assert_array_equal(case.clauses[0].rows, [[1, -2], [-1, 2]])


def test_thousands_of_alternatives_are_read_in_little_time(read):
    text = "".join(
        f"(and (>= X_0 {i}e-5) (<= X_0 {i + 1}e-5) ({relation} Y_0 {i}))\n"
        for i in range(6000)
        for relation in ("<=", ">=")
    )
    started = time.process_time()
    found = read(DECLARED + BOX + f"(assert (or {text}))")
    assert time.process_time() - started < 10
    assert len(found.cases) == 6000
    assert all(len(case.clauses) == 2 for case in found.cases)
    assert found.cases[0].clauses[0].rows is found.cases[1].clauses[0].rows


def test_an_empty_box_and_a_false_statement_leave_no_case(read):
    for text in ("(assert (<= X_0 -1))", "(assert (<= 1 0))"):
        assert read(DECLARED + BOX + text + "(assert (<= Y_0 0))").cases == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(assert (<= X_0 Y_0))", "line 6: a condition relates inputs to outputs"),
        ("(assert (<= (+ X_0 X_1) 1))", "inputs to each other"),
        ("(assert (<= (* Y_0 Y_1) 1))", "multiplied with each other"),
        ("(assert (distinct Y_0 1))", 'operator "distinct"'),
        ("(assert (<= (sin Y_0) 1))", 'function "sin"'),
        ("(assert (<= (+ (* 0.1 Y_0) (* 1e-300 Y_1)) 1))", "too many digits"),
    ],
)
def test_what_cannot_be_represented_is_named(read, text, reason):
    found = read(DECLARED + BOX + text)
    assert reason in found.unsupported
    assert found.cases == ()


def test_missing_bounds_are_named(read):
    found = read(DECLARED + "(assert (>= X_0 0))(assert (<= X_0 1))(assert (<= Y_0 1))")
    assert "X_1 has no lower bound" in found.unsupported


def test_too_many_combinations_are_not_expanded(read, monkeypatch):
    monkeypatch.setattr(formula, "MAX_CONJUNCTIONS", 8)
    two = "(assert (or (<= Y_0 0) (<= Y_1 0)))"
    assert len(read(DECLARED + BOX + two * 3).cases[0].clauses) == 8
    assert "more than 8 combinations" in read(DECLARED + BOX + two * 4).unsupported


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("(assert (<= Y_0 1)", 6, "never closed"),
        (")", 6, 'without "("'),
        ("junk", 6, "outside of any command"),
        ("(assert (<= Y_7 1))", 6, "Y_7 is not declared"),
        ("(assert (<= Y_0 1x))", 6, "neither a number"),
        ("(assert (<= Y_0 1/2))", 6, "neither a number"),
        ("(assert (<= Y_0 1e9999))", 6, "neither a number"),
        ("(assert (<= Y_0 nan))", 6, "neither a number"),
        ("(assert (<= Y_0))", 6, "takes two terms"),
        ("(assert)", 6, "one formula"),
        ("(assert ())", 6, "expected a formula"),
        ("(assert (and))", 6, "without a formula"),
        ("(assert (<= () 1))", 6, "empty brackets"),
        ("(assert ((<=) 1 2))", 6, "expected an operator"),
        ("(forget X_0)", 6, "expected declare-const or assert"),
        ("((assert) (<= Y_0 1))", 6, "got nothing"),
        ("(assert (<= Y_0 \x1b[2J))", 6, '"\ufffd[2J" is neither a number'),
        ("(declare-const X_0 Real)", 6, "declared twice"),
        ("(declare-const Z Real)", 6, "declare inputs"),
        ("(declare-const X_2 Int)", 6, "must be Real"),
        ("(" * 70, 6, "deep"),
        ("(declare-const X_3 Real)\n(assert (<= Y_0 0))", 7, "X_2 is not declared"),
    ],
)
def test_bad_text_is_refused_with_its_line(read, text, line, message):
    with pytest.raises(InputError, match=rf"p.vnnlib, line {line}: .*{re.escape(message)}"):
        read(DECLARED + BOX + text)


def test_files_that_cannot_be_read(read, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot be read"):
        read_vnnlib(tmp_path / "absent.vnnlib")
    with pytest.raises(InputError, match="no input X_0"):
        read("")
    with pytest.raises(InputError, match="no assert"):
        read(DECLARED)
    packed = gzip.compress((DECLARED + BOX + "; more\n" * 50).encode())
    with pytest.raises(InputError, match="gzip data is damaged"):
        read(packed[:-20], "p.vnnlib.gz")
    monkeypatch.setattr(vnnlib, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="MiB of text"):
        read(gzip.compress(b" " * 5000), "p.vnnlib.gz")
