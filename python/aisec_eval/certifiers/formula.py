"""From nested formulas over inputs and outputs to boxes with clauses, all in exact arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .property import Case, Clause, Property, above, below

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CONJUNCTIONS = 10_000
"""Of the disjunctive normal form; more are not expanded."""
MAX_CORNERS = 1 << 22
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


@dataclass(frozen=True)
class Atom:
    """`sum of coefficients * variables <= rhs`, over inputs or over outputs, not over both."""

    coefficients: dict[Variable, Fraction]
    rhs: Fraction

    @staticmethod
    def at_most_zero(linear: Linear) -> Atom:
        """Return `linear <= 0`.

        Raises:
            UnsupportedError: it relates inputs to outputs, or several inputs to each other.
        """
        kinds = {kind for kind, _ in linear.coefficients}
        if len(kinds) == 2:
            raise UnsupportedError("a condition relates inputs to outputs")
        if kinds == {"X"} and len(linear.coefficients) > 1:
            raise UnsupportedError("a condition relates inputs to each other")
        return Atom(linear.coefficients, -linear.constant)


Formula: TypeAlias = "Atom | tuple[str, list[Formula]]"
"""An atom, or ("and" | "or", formulas)."""

Conjunction: TypeAlias = list[Atom]


@dataclass(frozen=True)
class Declared:
    """How many variables there are."""

    inputs: int
    outputs: int


def build(declared: Declared, formulas: list[Formula], unsupported: str) -> Property:
    """Return the property that all `formulas` together state.

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
    bounds = _narrow({}, common)
    if bounds is None:
        return nothing
    shared = [atom for atom in common if _kind(atom) == "Y"]
    groups: dict[tuple[tuple[int, _Range], ...], list[Clause]] = {}
    try:
        for alternative in _normal_form(("and", rest)):
            own = _narrow(bounds, alternative)
            if own is None:
                continue
            outputs = shared + [atom for atom in alternative if _kind(atom) == "Y"]
            key = tuple(sorted(own.items(), key=lambda item: item[0]))
            groups.setdefault(key, []).append(_clause(outputs, declared.outputs))
        if len(groups) * declared.inputs > MAX_CORNERS:
            raise UnsupportedError(f"{len(groups)} boxes of {declared.inputs} inputs are too many")
        corners = _corners(bounds, declared.inputs)
        cases = [_case(corners, dict(own), clauses) for own, clauses in groups.items()]
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
    forms = (_normal_form(part) for part in parts)
    if head == "or":
        union: list[Conjunction] = []
        for form in forms:
            union += form
            _check(len(union))
        return union
    product: list[Conjunction] = [[]]
    for form in forms:
        _check(len(product) * len(form))
        product = [left + right for left in product for right in form]
    return product


def _check(conjunctions: int) -> None:
    if conjunctions > MAX_CONJUNCTIONS:
        raise UnsupportedError(f"more than {MAX_CONJUNCTIONS} combinations of its alternatives")


_Range: TypeAlias = tuple[Fraction | None, Fraction | None]
"""Exact bounds of one input, None where there is none."""


def _narrow(known: dict[int, _Range], atoms: Conjunction) -> dict[int, _Range] | None:
    """Return the ranges that the atoms change from what is known; None where nothing is left."""
    ranges: dict[int, _Range] = {}
    for atom in atoms:
        kind = _kind(atom)
        if kind == "" and atom.rhs < 0:
            return None  # a false statement about numbers
        if kind != "X":
            continue
        (((_, index), c),) = atom.coefficients.items()
        low, high = ranges.get(index) or known.get(index, (None, None))
        limit = atom.rhs / c
        if c > 0:
            high = limit if high is None else min(high, limit)
        else:
            low = limit if low is None else max(low, limit)
        if low is not None and high is not None and low > high:
            return None
        ranges[index] = (low, high)
    return ranges


_ROUNDINGS = (below, above, above, below)
"""Of lower, inner_lower, upper and inner_upper."""


def _corners(ranges: dict[int, _Range], inputs: int) -> NDArray[np.float64]:
    """Return lower, inner_lower, upper, inner_upper [4, inputs]; infinite where unbounded."""
    corners = np.empty((4, inputs))
    corners[:2], corners[2:] = -np.inf, np.inf
    for index, bounds in ranges.items():
        for slot, rounding in enumerate(_ROUNDINGS):
            bound = bounds[slot // 2]
            if bound is not None:
                corners[slot, index] = rounding(bound)
    return corners


def _case(corners: NDArray[np.float64], own: dict[int, _Range], clauses: list[Clause]) -> Case:
    corners = corners.copy()
    indices = list(own)
    corners[:, indices] = _corners(dict(enumerate(own.values())), len(indices))
    for corner, what in ((corners[0], "lower"), (corners[2], "upper")):
        if not np.isfinite(corner).all():
            missing = int(np.flatnonzero(~np.isfinite(corner))[0])
            raise UnsupportedError(f"X_{missing} has no {what} bound within float64's range")
    lower, inner_lower, upper, inner_upper = corners
    return Case(lower, upper, inner_lower, inner_upper, tuple(clauses))


def _clause(atoms: Conjunction, outputs: int) -> Clause:
    """Return the half-spaces, each scaled until its coefficients are float64 numbers."""
    rows = np.zeros((len(atoms), outputs))
    rhs = []
    for row, atom in zip(rows, atoms, strict=True):
        scale = _scale(list(atom.coefficients.values()))
        for (_, index), c in atom.coefficients.items():
            row[index] = float(c * scale)
        rhs.append(atom.rhs * scale)
    lower, upper = (np.array([r(value) for value in rhs]) for r in (below, above))
    return Clause(rows, lower, upper)


def _scale(coefficients: list[Fraction]) -> Fraction:
    """Return a positive factor that makes all coefficients float64 numbers, exactly."""

    def exact(factor: Fraction) -> bool:
        return all(
            abs(c * factor) < Fraction(2) ** 1000 and Fraction(float(c * factor)) == c * factor
            for c in coefficients
        )

    whole = Fraction(math.lcm(*(c.denominator for c in coefficients)))
    divisor = math.gcd(*(int(c * whole) for c in coefficients))
    for factor in (Fraction(1), whole, whole / divisor):
        if exact(factor):
            return factor
    raise UnsupportedError("coefficients of a condition have too many digits for float64")
