"""VNNLIB: any text is read or refused; what is read means what was written."""

from __future__ import annotations

import operator
import tempfile
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisec_eval.certifiers.vnnlib import read_vnnlib
from aisec_eval.errors import InputError

NAMES = ("X_0", "X_1", "Y_0", "Y_1")
HEADER = "".join(f"(declare-const {name} Real)\n" for name in NAMES)
BOX = "".join(f"(assert (>= X_{i} -2)) (assert (<= X_{i} 2))" for i in range(2))


def read(text: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.vnnlib"
        path.write_bytes(text)
        return read_vnnlib(path)


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "(",
                    ")",
                    "(",
                    ")",
                    "assert",
                    "and",
                    "or",
                    "<=",
                    ">=",
                    "+",
                    "-",
                    "*",
                    "X_0",
                    "Y_0",
                ),
                *(
                    "1",
                    "-0.5",
                    "1e-5",
                    "declare-const",
                    "Real",
                    ";",
                    "\n",
                    "X_9",
                    "(assert",
                    "\x00",
                ),
            ]
        ),
        max_size=40,
    )
)
def test_any_tokens_are_read_or_refused(tokens):
    with suppress(InputError):
        read((HEADER + BOX + " ".join(tokens)).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(InputError, match=r"^p\.vnnlib[^\n]*$"):
        read(data)  # never complete: nothing is declared


# Quarters are float64 numbers: rounding plays no part here.
quarters = st.integers(-10, 10).map(lambda n: Fraction(n, 4))
COMPARE = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
RELATIONS = st.sampled_from(tuple(COMPARE))
atoms = st.one_of(
    st.tuples(RELATIONS, st.sampled_from(("X_0", "X_1")), quarters),
    st.tuples(RELATIONS, st.sampled_from(("Y_0", "Y_1")), quarters),
    st.tuples(RELATIONS, st.just("Y_0"), st.just("Y_1")),
)
formulas = st.recursive(
    atoms,
    lambda inner: st.tuples(
        st.sampled_from(("and", "or")), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


def written(formula) -> str:
    if formula[0] in ("and", "or"):
        return f"({formula[0]} {' '.join(map(written, formula[1]))})"
    relation, left, right = formula
    return f"({relation} {left} {right if isinstance(right, str) else float(right)})"


def holds(formula, point) -> bool:
    if formula[0] in ("and", "or"):
        return (all if formula[0] == "and" else any)(holds(part, point) for part in formula[1])
    relation, left, right = formula
    left, right = point[left], point[right] if isinstance(right, str) else right
    return COMPARE[relation](left, right)


def meets(found, point) -> tuple[bool, bool]:
    """Whether the point is surely, and whether it may be, a counterexample."""
    x = [float(point[name]) for name in NAMES[:2]]
    y = [float(point[name]) for name in NAMES[2:]]
    surely, maybe = (
        any(
            (low <= x).all()
            and (x <= high).all()
            and any((clause.rows @ y <= rhs(clause)).all() for clause in case.clauses)
            for case in found.cases
            for low, high in (box(case),)
        )
        for box, rhs in (
            (lambda case: (case.inner_lower, case.inner_upper), lambda clause: clause.rhs_lower),
            (lambda case: (case.lower, case.upper), lambda clause: clause.rhs_upper),
        )
    )
    return surely, maybe


@given(
    st.lists(formulas, min_size=1, max_size=3),
    st.lists(st.tuples(*[st.integers(-8, 8).map(lambda n: Fraction(n, 4))] * 4), min_size=20),
)
def test_boxes_and_clauses_mean_the_formula(asserted, points):
    text = HEADER + BOX + "".join(f"(assert {written(formula)})" for formula in asserted)
    found = read(text.encode())
    assert not found.unsupported
    for values in points:
        point = dict(zip(NAMES, values, strict=True))
        surely, maybe = meets(found, point)
        expected = all(holds(formula, point) for formula in asserted)
        assert surely == expected
        assert maybe >= expected
