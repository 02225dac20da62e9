"""VNNLIB changed at random: refused in one line, or decided as what it then says.

What a text says is evaluated here by other code, in rational numbers, at the points of a grid:
where one of them violates the property, the answer is never `unsat`, and the counterexample of a
`sat` always does. `AISEC_EVAL_FUZZ=50` does fifty times as many.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from fractions import Fraction
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers.vnnlib import read_vnnlib
from aisec_eval.errors import InputError
from helpers.networks import LayeredModel

if TYPE_CHECKING:
    from pathlib import Path

TIMES = int(os.environ.get("AISEC_EVAL_FUZZ", "1"))
NAMES = ("X_0", "X_1", "Y_0", "Y_1")
HEADER = "\n".join(f"(declare-const {name} Real)" for name in NAMES) + "\n"
BOX = "\n".join(f"(assert (>= X_{i} -1.0))\n(assert (<= X_{i} 1))" for i in range(2)) + "\n"
ASSERTS = (
    "(assert (<= Y_0 Y_1))",
    "(assert (>= Y_0 0.25)) (assert (or (<= Y_1 -0.5) (>= Y_1 1.5e0)))",
    "(assert (or (and (<= X_0 0.0) (<= Y_0 -1.75)) (and (>= X_0 0.5) (>= (- Y_0 Y_1) 0.5))))",
    "(assert (>= (+ (* 2.0 Y_0) Y_1 -0.25) 4))",
    "(assert (and (<= X_1 -0.25) (>= Y_1 Y_0) (>= (* -1.0 Y_0) 1e-1)))",
)
SPARE = (
    *("(", ")", "<=", ">=", "and", "or", "+", "-", "*", "assert", ";", "X_0", "X_1", "X_2"),
    *("Y_0", "Y_1", "0", "-1", "0.5", "1e-3", "-1e-30", "1e400", "-1e999", "0.1", "1.0E+2"),
    *("123456789012345678901234567890", "1e", "nan", "0x1", "\x00", "\u00e9", "()", "(and)"),
)


def network() -> LayeredModel:
    """Weights are eighths: the outputs at eighths are rational numbers with few digits."""
    random = Random(3)

    def eighths(*shape: int) -> np.ndarray:
        values = [random.randrange(-12, 13) / 8 for _ in range(int(np.prod(shape)))]
        return np.array(values, np.float32).reshape(shape)

    return LayeredModel([(eighths(4, 2), eighths(4)), (eighths(2, 4), eighths(2))], (2,))


MODEL = network()


def outputs(x: tuple[Fraction, ...]) -> dict[str, Fraction]:
    values = list(x)
    for layer, (weight, bias) in enumerate(MODEL.affine):
        if layer:
            values = [max(value, Fraction(0)) for value in values]
        terms = [
            [Fraction(float(w)) * v for w, v in zip(row, values, strict=True)] for row in weight
        ]
        values = [sum(row, Fraction(float(b))) for row, b in zip(terms, bias, strict=True)]
    return dict(zip(NAMES, (*x, *values), strict=True))


POINTS = [
    outputs((Fraction(a, 8), Fraction(b, 8)))
    for a, b in product(range(-12, 13, 2), range(-12, 13, 2))
]


def nested(text: str) -> list[Any]:
    """Return the expressions of a text that was accepted."""
    stack: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s();]+", re.sub(r";[^\n]*", "", text)):
        if token == "(":
            stack.append([])
        elif token == ")":
            closed = stack.pop()
            stack[-1].append(closed)
        else:
            stack[-1].append(token)
    return stack[0]


def value(term: Any, point: dict[str, Fraction]) -> Fraction:
    if isinstance(term, str):
        return point[term] if term in point else Fraction(term)
    head, first, *others = [term[0], *(value(part, point) for part in term[1:])]
    if head == "-" and not others:
        return -first
    for other in others:
        first = {"+": first + other, "-": first - other, "*": first * other}[head]
    return first


def holds(formula: Any, point: dict[str, Fraction]) -> bool:
    head, *rest = formula
    if head in ("and", "or"):
        return (all if head == "and" else any)(holds(part, point) for part in rest)
    left, right = (value(part, point) for part in rest)
    return left <= right if head == "<=" else left >= right


def violated(text: str, point: dict[str, Fraction]) -> bool:
    return all(holds(e[1], point) for e in nested(text) if e[0] == "assert")


def decide(text: str, path: Path) -> str:
    """Return the answer, after it was compared with what the text says."""
    path.write_text(text, "utf-8", newline="")
    try:
        question = read_vnnlib(path)
        result = ae.verify(MODEL, question, timeout=2)
    except InputError as error:
        line = str(error)
        return "refused" if line.isprintable() and len(line) < 300 else line
    if question.unsupported:
        assert result.status == "unknown"
        return "unsupported"
    if result.status == "unsat":
        assert not any(violated(text, point) for point in POINTS), text
    if result.status == "sat":
        x = tuple(Fraction(float(v)) for v in result.counterexample.input)
        assert violated(text, outputs(x)), text
    return result.status


def changed(text: str, random: Random) -> str:
    tokens = re.findall(r"\s+|[()]|[^\s();]+", text)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(tokens))
        kind = random.randrange(8)
        if kind < 3:
            numbers = [i for i, token in enumerate(tokens) if re.fullmatch(r"[-\d.e]+", token)]
            at = random.choice(numbers or [at])
            tokens[at] = random.choice(SPARE[14:])
        elif kind == 3:
            flip = {"<=": ">=", ">=": "<=", "and": "or", "or": "and", "Y_0": "Y_1", "X_0": "X_1"}
            known = [i for i, token in enumerate(tokens) if token in flip]
            at = random.choice(known or [at])
            tokens[at] = flip.get(tokens[at], tokens[at])
        elif kind == 4:
            tokens[at] = " " + random.choice(SPARE) + " "
        elif kind == 5:
            del tokens[at]
        elif kind == 6:
            tokens[at:at] = tokens[at : at + random.randrange(1, 12)]
        else:
            del tokens[at : at + random.randrange(40)]
        tokens = tokens or ["("]
    return "".join(tokens)


def test_the_answer_is_that_of_the_changed_text(tmp_path: Path) -> None:
    random, seen = Random(11), dict.fromkeys(("refused", "unsupported", "sat", "unsat"), 0)
    for number in range(240 * TIMES):
        part = ASSERTS[number % len(ASSERTS)]
        # The declarations are changed now and then; more often what is asserted.
        fixed = HEADER + BOX if number % 4 else HEADER
        text = fixed + changed(part if number % 4 else BOX + part, random)
        if number % 16 == 0:
            text = changed(HEADER + BOX + part, random)
        status = decide(text, tmp_path / "p.vnnlib")
        seen[status] = seen.get(status, 0) + 1
    assert set(seen) <= {"refused", "unsupported", "sat", "unsat", "unknown"}
    assert all(seen[status] >= 5 * TIMES for status in ("refused", "unsupported", "sat", "unsat"))


def spelled(formula: Any, random: Random) -> str:
    """Write a formula so that it means the same."""
    if isinstance(formula, str):
        number = re.fullmatch(r"(-?)(\d+)\.?(\d*)(e0)?", formula)
        if number is None:
            return formula
        sign, whole, part, _ = number.groups()
        more = "0" * random.randrange(4)
        return random.choice(
            (f"{sign}{more}{whole}.{part}{more}", f"{sign}{whole}{part}e-{len(part)}", formula)
        )
    head, *rest = formula
    gap = random.choice((" ", "\n", " ; (assert\n", "\t"))
    parts = [spelled(part, random) for part in rest]
    if head in ("<=", ">=") and random.random() < 0.5:
        head, parts = {"<=": ">=", ">=": "<="}[head], parts[::-1]
    if head in ("and", "or", "+"):
        random.shuffle(parts)
    found = f"({head}{gap}{gap.join(parts)})"
    if head in ("<=", ">=", "and", "or") and random.random() < 0.4:
        found = f"({random.choice(('and', 'or'))} {found})"
    return found


@pytest.mark.parametrize("part", ASSERTS)
def test_another_spelling_has_the_same_answer(part: str, tmp_path: Path) -> None:
    random = Random(5)
    path = tmp_path / "p.vnnlib"
    expected = decide(HEADER + BOX + part, path)
    assert expected in ("sat", "unsat")
    declared = HEADER.split("\n")
    for _ in range(5 * TIMES):
        random.shuffle(declared)
        asserted = [f"(assert {spelled(e[1], random)})" for e in nested(BOX + part)]
        random.shuffle(asserted)
        assert decide("\n".join(declared + asserted), path) == expected


@pytest.mark.parametrize(
    "text",
    [
        "(assert (<= X_0 (* " + "1e999 " * 8_000 + ")))",
        "(assert (<= X_0 (* " + "1e-999 " * 8_000 + ")))",
        "(assert (<= Y_0 (+ " + "1e-999 1e999 " * 4_000 + ")))",
        "(assert " + "(or (<= Y_0 1) " * 60 + "(<= Y_0 2)" + ")" * 61,
        "(assert (and " + "(or (<= Y_0 1) (<= Y_1 1))" * 60 + "))",
        "(assert (or " + "(<= Y_0 1)" * 12_000 + "))",
        "(assert (or " + "()" * 30_000 + "))",
        "(assert (<= X_0 " + "9" * 100_000 + "))",
        "(" * 100_000,
    ],
    ids=range(9),
)
def test_little_text_takes_little_time(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(HEADER + BOX + text)
    started = time.process_time()
    with suppress(InputError):
        read_vnnlib(path)
    assert time.process_time() - started < 3
