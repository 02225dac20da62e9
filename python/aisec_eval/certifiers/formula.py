"""From nested formulas over inputs and outputs to boxes with clauses, all in exact arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .property import Case, Clause, Property, above, below, strictly_below
from .ranges import Box, Range

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CONJUNCTIONS = 10_000
"""That alternatives may multiply to; more are not expanded."""
MAX_ALTERNATIVES = 1 << 19
"""Of the disjunctive normal form."""
MAX_CORNERS = 1 << 23
"""Boxes times inputs."""

Variable: TypeAlias = tuple[str, int]
"""("X", i) or ("Y", i)."""


class UnsupportedError(Exception):
    """A formula is well formed but cannot be represented."""


@dataclass(frozen=True)
class Linear:
    """A sum of variables times coefficients, none of them zero, and a constant."""

    coefficients: dict[Variable, Fraction]
    constant: Fraction = Fraction(0)

    def times(self, factor: Fraction) -> Linear:
        """Return the product with a number."""
        if not factor:
            return Linear({})
        scaled = {variable: c * factor for variable, c in self.coefficients.items()}
        return Linear(scaled, self.constant * factor)

    def bits(self) -> int:
        """Return the binary digits of the largest numerator or denominator."""
        numbers = (self.constant, *self.coefficients.values())
        return max(max(abs(n.numerator), n.denominator).bit_length() for n in numbers)

    def minus(self, other: Linear) -> Linear:
        """Return the difference."""
        difference = dict(self.coefficients)
        for variable, c in other.coefficients.items():
            left = difference.pop(variable, Fraction(0)) - c
            if left:
                difference[variable] = left
        return Linear(difference, self.constant - other.constant)


@dataclass(frozen=True, slots=True)
class Atom:
    """`sum of coefficients * variables <= rhs`, over inputs or over outputs, not over both."""

    coefficients: dict[Variable, Fraction]
    rhs: Fraction
    strict: bool = False
    """Whether it is `<`."""

    @staticmethod
    def at_most_zero(linear: Linear, *, strict: bool = False) -> Atom:
        """Return `linear <= 0`, or `linear < 0`.

        Raises:
            UnsupportedError: it relates inputs to outputs, or several inputs to each other.
        """
        kinds = {kind for kind, _ in linear.coefficients}
        if len(kinds) == 2:
            raise UnsupportedError("a condition relates inputs to outputs")
        if kinds == {"X"} and len(linear.coefficients) > 1:
            raise UnsupportedError("a condition relates inputs to each other")
        return Atom(linear.coefficients, -linear.constant, strict)


Formula: TypeAlias = "Atom | tuple[str, list[Formula]]"
"""An atom, or ("and" | "or", formulas)."""

Conjunction: TypeAlias = list[Atom]


@dataclass(frozen=True)
class Declared:
    """How many variables there are."""

    inputs: int
    outputs: int


def build(
    declared: Declared, formulas: list[Formula], unsupported: str, box: Box | None = None
) -> Property:
    """Return the property that all `formulas` together state, of inputs in `box`.

    `unsupported` is what was left out of them already, empty where nothing was.
    """

    def undecidable(reason: object) -> Property:
        return Property(declared.inputs, declared.outputs, (), str(reason))

    if unsupported:
        return undecidable(unsupported)
    # Boxes are thousands of atoms: they stay out of the product.
    common: Conjunction = []
    rest: list[Formula] = []
    for formula in formulas:
        atoms = _atoms(formula)
        if atoms is None:
            rest.append(formula)
        else:
            common += atoms
    nothing = Property(declared.inputs, declared.outputs, ())
    bounds = box or Box()
    first = _narrow(bounds, common)
    if first is None:
        return nothing
    bounds.narrow(first)
    if bounds.empty:
        return nothing
    shared = [atom for atom in common if _kind(atom) == "Y"]
    groups: dict[tuple[tuple[int, Range], ...], list[Clause]] = {}
    clauses = _Clauses(declared.outputs)
    try:
        for alternative in _normal_form(("and", rest)):
            own = _narrow(bounds, alternative)
            if own is None:
                continue
            outputs = shared + [atom for atom in alternative if _kind(atom) == "Y"]
            key = tuple(sorted(own.items(), key=lambda item: item[0]))
            groups.setdefault(key, []).append(clauses(outputs))
        if len(groups) * declared.inputs > MAX_CORNERS:
            raise UnsupportedError(f"{len(groups)} boxes of {declared.inputs} inputs are too many")
        corners = bounds.corners(declared.inputs)
        cases = [_case(corners, own, found) for own, found in groups.items()]
    except UnsupportedError as reason:
        return undecidable(reason)
    return Property(declared.inputs, declared.outputs, tuple(cases))


def _kind(atom: Atom) -> str:
    return next((kind for kind, _ in atom.coefficients), "")


def _atoms(formula: Formula) -> Conjunction | None:
    """Return the atoms of a formula without a choice in it, None where there is one."""
    if isinstance(formula, Atom):
        return [formula]
    head, parts = formula
    if head == "or" and len(parts) > 1:
        return None
    found: Conjunction = []
    for part in parts:
        atoms = _atoms(part)
        if atoms is None:
            return None
        found += atoms
    return found


def _normal_form(formula: Formula) -> list[Conjunction]:
    """Return the disjunctive normal form, in the order the text gives.

    Raises:
        UnsupportedError: it has too many conjunctions.
    """
    if isinstance(formula, Atom):
        return [[formula]]
    head, parts = formula
    if head == "or":
        union: list[Conjunction] = []
        for part in parts:
            union += _normal_form(part)
            _check(len(union), MAX_ALTERNATIVES)
        return union
    product: list[Conjunction] = [[]]
    for part in parts:
        if isinstance(part, Atom):
            for conjunction in product:
                conjunction.append(part)
            continue
        form = _normal_form(part)
        if len(product) == 1:
            product = [product[0] + right for right in form]
        elif len(form) == 1:
            product = [left + form[0] for left in product]
        else:
            _check(len(product) * len(form), MAX_CONJUNCTIONS)
            product = [left + right for left in product for right in form]
    return product


def _check(conjunctions: int, most: int) -> None:
    if conjunctions > most:
        raise UnsupportedError(f"more than {most} combinations of its alternatives")


def _narrow(known: Box, atoms: Conjunction) -> dict[int, Range] | None:
    """Return the ranges that the atoms change from what is known; None where nothing is left."""
    ranges: dict[int, Range] = {}
    for atom in atoms:
        kind = _kind(atom)
        if kind == "":
            if atom.rhs < 0 or (atom.strict and not atom.rhs):
                return None  # a false statement about numbers
            continue
        if kind != "X":
            continue
        (((_, index), c),) = atom.coefficients.items()
        found = ranges.get(index) or known[index]
        limit = atom.rhs if c == 1 else atom.rhs / c
        if c > 0:
            found = found.at_most(limit, strict=atom.strict)
        else:
            found = found.at_least(limit, strict=atom.strict)
        if found.empty:
            return None
        ranges[index] = found
    return ranges


def _case(
    corners: NDArray[np.float64], own: tuple[tuple[int, Range], ...], clauses: list[Clause]
) -> Case:
    corners = corners.copy()
    for index, found in own:
        corners[:, index] = found.corners()
    lower, inner_lower, upper, inner_upper = corners
    for corner, what in ((lower, "lower"), (upper, "upper")):
        if not np.isfinite(corner).all():
            missing = int(np.flatnonzero(~np.isfinite(corner))[0])
            raise UnsupportedError(f"X_{missing} has no {what} bound within float64's range")
    return Case(lower, upper, inner_lower, inner_upper, tuple(clauses))


class _Clauses:
    """Makes clauses; those with the same coefficients share them."""

    def __init__(self, outputs: int) -> None:
        self._outputs = outputs
        self._rows: dict[tuple[tuple[Variable, ...] | Fraction, ...], NDArray[np.float64]] = {}

    def __call__(self, atoms: Conjunction) -> Clause:
        """Return the half-spaces, each scaled until its coefficients are float64 numbers."""
        key: list[tuple[Variable, ...] | Fraction] = []
        rhs, lower = [], []
        scales = []
        for atom in atoms:
            values = list(atom.coefficients.values())
            scale = _scale(values)
            scales.append(scale)
            key += [tuple(atom.coefficients), *values]
            value = atom.rhs * scale if scale != 1 else atom.rhs
            rhs.append(above(value))
            lower.append(strictly_below(value) if atom.strict else below(value))
        rows = self._rows.get(tuple(key))
        if rows is None:
            rows = np.zeros((len(atoms), self._outputs))
            for row, atom, scale in zip(rows, atoms, scales, strict=True):
                for (_, index), c in atom.coefficients.items():
                    row[index] = float(c * scale)
            self._rows[tuple(key)] = rows
        return Clause(rows, np.array(lower), np.array(rhs))


_ONE = Fraction(1)


def _scale(coefficients: list[Fraction]) -> Fraction:
    """Return a positive factor that makes all coefficients float64 numbers, exactly."""

    def exact(factor: Fraction) -> bool:
        return all(
            abs(c * factor) < Fraction(2) ** 1000 and Fraction(float(c * factor)) == c * factor
            for c in coefficients
        )

    if all(c == 1 or c == -1 for c in coefficients):
        return _ONE
    whole = Fraction(math.lcm(*(c.denominator for c in coefficients)))
    divisor = math.gcd(*(int(c * whole) for c in coefficients))
    for factor in (_ONE, whole, whole / divisor):
        if exact(factor):
            return factor
    raise UnsupportedError("coefficients of a condition have too many digits for float64")
