"""VNNLIB 1.0 as VNN-COMP writes it: SMT-LIB text with `X_i` the inputs, `Y_i` the outputs.

Read as a stream, strictly, numbers kept exact (Demarchi et al. 2023, vnnlib.org). Text that is
not well formed is an error with its line; what is well formed but says more than boxes of inputs
and linear conditions on outputs is named in `Property.unsupported`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import InputError
from .formula import Atom, Declared, Formula, Linear, UnsupportedError, build

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from .property import Property

MAX_BYTES = 64 << 20
"""Of text, after decompression."""
MAX_DEPTH = 64
MAX_DECLARED = 1 << 20
MAX_TOKENS = 4_000_000
"""Of one command, which is held in memory."""
MAX_BITS = 1 << 16
"""Of the numbers that products come to."""

_TOKEN = re.compile(r"[ \t\r\n\f\v]+|;[^\n]*|([()])|([^\s();]+)")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,8})")
_IGNORED = frozenset(
    ("set-logic", "set-info", "set-option", "check-sat", "get-model", "get-value", "exit")
)
_MAX_DIGITS = 400


def read_vnnlib(path: str | os.PathLike[str]) -> Property:
    """Read a property from a `.vnnlib` or `.vnnlib.gz` file.

    Returns:
        The property, boxes and right-hand sides rounded so that nothing is lost.

    Raises:
        InputError: the file is missing, too large or not well formed; names the line.
    """
    path = Path(path)
    reader = _Reader(path.name)
    with _open(path) as stream:
        for expression, number in _expressions(_tokens(stream, reader), reader):
            reader.command(expression, number)
    return reader.finish()


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.open(raw, "rb") as stream:
                    yield stream
            else:
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path.name}: the gzip data is damaged ({error}); fetch it again"
        ) from None
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read: {error.strerror or error}") from None


def _tokens(stream: IO[bytes] | gzip.GzipFile, reader: _Reader) -> Iterator[tuple[str, int]]:
    """Yield tokens with their lines."""
    left = MAX_BYTES
    number = 0
    while line := stream.readline(left + 1):
        number += 1
        left -= len(line)
        if left < 0:
            raise InputError(f"{reader.name}: more than {MAX_BYTES >> 20} MiB of text; split it")
        try:
            text = line.decode("ascii")
        except UnicodeDecodeError:
            # Comments may hold anything.
            text = line.partition(b";")[0].decode("ascii", "replace")
        for match in _TOKEN.finditer(text):
            token = match[1] or match[2]
            if token:
                yield token, number
    reader.last = max(number, 1)


def _expressions(
    tokens: Iterator[tuple[str, int]], reader: _Reader
) -> Iterator[tuple[list[Any], int]]:
    """Yield top-level expressions as nested lists of tokens, each with the line it starts on.

    A list holds its line as its first element.
    """
    open_lists: list[list[Any]] = []
    count = 0
    for text, number in tokens:
        count = count + 1 if open_lists else 1
        if count > MAX_TOKENS:
            raise reader.error(number, f"a command of more than {MAX_TOKENS} words; split it")
        if text == "(":
            if len(open_lists) == MAX_DEPTH:
                raise reader.error(number, f"nested more than {MAX_DEPTH} deep")
            open_lists.append([number])
        elif text == ")":
            if not open_lists:
                raise reader.error(number, '")" without "("')
            closed = open_lists.pop()
            if open_lists:
                open_lists[-1].append(closed)
            else:
                yield closed, closed[0]
        elif open_lists:
            open_lists[-1].append(text)
        else:
            raise reader.error(number, f'"{text[:40]}" stands outside of any command')
    if open_lists:
        raise reader.error(open_lists[-1][0], '"(" is never closed: the file is cut off')


def _shown(text: str) -> str:
    """Return text without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class _Reader:
    """Turns commands into formulas."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = 1
        self.declared: dict[str, set[int]] = {"X": set(), "Y": set()}
        self.formulas: list[Formula] = []
        self.unsupported = ""

    def error(self, number: int, text: str) -> InputError:
        return InputError(f"{self.name}, line {number}: {_shown(text)}")

    def command(self, expression: list[Any], number: int) -> None:
        head = expression[1] if len(expression) > 1 else None
        if head in ("declare-const", "declare-fun"):
            self._declare(expression, number)
        elif head == "assert":
            if len(expression) != 3:
                raise self.error(number, f"assert takes one formula, got {len(expression) - 2}")
            try:
                self.formulas.append(self._formula(expression[2], number))
            except UnsupportedError as reason:
                self.unsupported = self.unsupported or f"line {number}: {_shown(str(reason))}"
        elif not isinstance(head, str) or head not in _IGNORED:
            named = f'"{head[:40]}"' if isinstance(head, str) else "nothing"
            raise self.error(number, f"expected declare-const or assert, got {named}")

    def _declare(self, expression: list[Any], number: int) -> None:
        rest = expression[2:]
        if expression[1] == "declare-fun" and len(rest) == 3 and rest[1] == [number]:
            del rest[1]
        match = None
        if len(rest) == 2 and isinstance(rest[0], str):
            match = _VARIABLE.fullmatch(rest[0])
        if match is None:
            raise self.error(number, "declare inputs X_0, X_1, ... and outputs Y_0, Y_1, ...")
        if rest[1] != "Real":
            raise self.error(number, f"{match[0]} must be Real")
        index, known = int(match[2]), self.declared[match[1]]
        if index in known:
            raise self.error(number, f"{match[0]} is declared twice")
        if index >= MAX_DECLARED:
            raise self.error(number, f"{match[0]}: at most {MAX_DECLARED} variables of a kind")
        known.add(index)

    def _formula(self, expression: Any, number: int) -> Formula:
        if isinstance(expression, str) or len(expression) < 2:
            shown = f'"{expression[:40]}"' if isinstance(expression, str) else '"()"'
            raise self.error(number, f"expected a formula such as (<= X_0 1.0), got {shown}")
        number, head, *rest = expression
        if head in ("and", "or"):
            if not rest:
                raise self.error(number, f"({head}) without a formula in it")
            return (head, [self._formula(part, number) for part in rest])
        if head in ("<=", ">="):
            if len(rest) != 2:
                raise self.error(number, f"{head} takes two terms, got {len(rest)}")
            left, right = (self._term(term, number) for term in rest)
            difference = left.minus(right) if head == "<=" else right.minus(left)
            return Atom.at_most_zero(difference)
        if isinstance(head, str):
            raise UnsupportedError(f'operator "{head[:40]}" is not one of <=, >=, and, or')
        raise self.error(number, "expected an operator after the bracket")

    def _term(self, expression: Any, number: int) -> Linear:
        if isinstance(expression, str):
            return self._leaf(expression, number)
        if len(expression) < 2:
            raise self.error(number, "empty brackets")
        number, head, *rest = expression
        if head not in ("+", "-", "*"):
            if isinstance(head, str):
                raise UnsupportedError(f'function "{head[:40]}" is not one of +, -, *')
            raise self.error(number, "expected +, - or * after the bracket")
        if not rest:
            raise self.error(number, f"({head}) without a term in it")
        first, *others = (self._term(term, number) for term in rest)
        if head == "-" and not others:
            return first.times(Fraction(-1))
        for other in others:
            if head == "*":
                if first.coefficients and other.coefficients:
                    raise UnsupportedError("variables are multiplied with each other")
                scalar, linear = (other, first) if first.coefficients else (first, other)
                first = linear.times(scalar.constant)
                if first.bits() > MAX_BITS:
                    raise UnsupportedError(f"a product has more than {MAX_BITS} binary digits")
            else:
                first = first.minus(other.times(Fraction(-1)) if head == "+" else other)
        return first

    def _leaf(self, token: str, number: int) -> Linear:
        variable = _VARIABLE.fullmatch(token)
        if variable is not None:
            kind, index = variable[1], int(variable[2])
            if index not in self.declared[kind]:
                raise self.error(number, f"{token} is not declared")
            return Linear({(kind, index): Fraction(1)})
        if len(token) <= _MAX_DIGITS and _NUMBER.fullmatch(token):
            return Linear({}, Fraction(token))
        raise self.error(number, f'"{token[:40]}" is neither a number nor X_i nor Y_i')

    def finish(self) -> Property:
        counts = {}
        for kind, what in (("X", "input"), ("Y", "output")):
            known = self.declared[kind]
            counts[kind] = len(known)
            if not known:
                raise self.error(self.last, f"no {what} {kind}_0 is declared")
            if max(known) != len(known) - 1:
                gap = min(set(range(len(known))) - known)
                raise self.error(self.last, f"{kind}_{gap} is not declared, but later ones are")
        declared = Declared(counts["X"], counts["Y"])
        if not self.formulas and not self.unsupported:
            raise self.error(self.last, "there is no assert")
        return build(declared, self.formulas, self.unsupported)
