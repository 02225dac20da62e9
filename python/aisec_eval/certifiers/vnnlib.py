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
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import InputError
from .formula import Atom, Declared, Formula, Linear, UnsupportedError, Variable, build
from .ranges import Box

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from .property import Property

MAX_BYTES = 512 << 20
"""Of text, after decompression."""
MAX_DEPTH = 64
MAX_DECLARED = 1 << 22
MAX_TOKENS = 8_000_000
"""Of one command, which is held in memory."""
MAX_BITS = 1 << 16
"""Of the numbers that products come to."""

_TOKEN = re.compile(r"[ \t\r\n\f\v]+|;[^\n]*|([()])|([^\s();]+)")
_DIGITS = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?"
_NUMBER = re.compile(_DIGITS)
_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,8})")
_PLAIN = re.compile(
    r"\s*\((?:declare-const\s+(?P<name>[XY]_(?:0|[1-9]\d{0,8}))\s+Real\s*"
    rf"|assert\s*\((?P<relation>[<>]=)\s+(?P<input>X_\d+)\s+(?P<number>{_DIGITS})\s*\)\s*)\)\s*",
    re.ASCII,
)
"""The commands most files consist of: they declare a variable, or bound an input by a number."""
_RELATIONS = {"<=": False, ">=": False, "<": True, ">": True, "=": False}
"""To whether they are strict."""
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
        _read(stream, reader)
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


def _read(stream: IO[bytes] | gzip.GzipFile, reader: _Reader) -> None:
    """Hand all commands to the reader."""
    expressions = _Expressions(reader)
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
        at = 0
        while expressions.between and (plain := _PLAIN.match(text, at)):
            reader.plain(plain, number)
            at = plain.end()
        if at == len(text):
            continue
        for token in _TOKEN.finditer(text, at):
            word = token[1] or token[2]
            if word:
                expressions.add(word, number)
    reader.last = max(number, 1)
    expressions.finish()


class _Expressions:
    """Builds top-level expressions as nested lists of tokens.

    A list holds its line as its first element.
    """

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._open: list[list[Any]] = []
        self._count = 0

    @property
    def between(self) -> bool:
        """Whether no command is open."""
        return not self._open

    def add(self, text: str, number: int) -> None:
        """Add a token."""
        opened = self._open
        self._count = self._count + 1 if opened else 1
        if self._count > MAX_TOKENS:
            raise self._reader.error(number, f"a command of more than {MAX_TOKENS} words; split it")
        if text == "(":
            if len(opened) == MAX_DEPTH:
                raise self._reader.error(number, f"nested more than {MAX_DEPTH} deep")
            opened.append([number])
        elif text == ")":
            if not opened:
                raise self._reader.error(number, '")" without "("')
            closed = opened.pop()
            if opened:
                opened[-1].append(closed)
            else:
                self._reader.command(closed, closed[0])
        elif opened:
            opened[-1].append(text)
        else:
            raise self._reader.error(number, f'"{text[:40]}" stands outside of any command')

    def finish(self) -> None:
        """Refuse what is still open."""
        if self._open:
            number = self._open[-1][0]
            raise self._reader.error(number, '"(" is never closed: the file is cut off')


def _shown(text: str) -> str:
    """Return text without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class _Reader:
    """Turns commands into formulas."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = 1
        self.declared: dict[str, set[int]] = {"X": set(), "Y": set()}
        self.variables: dict[str, Variable] = {}
        self.units: dict[tuple[str, int], dict[Variable, Fraction]] = {}
        self.box = Box()
        self.bounded = False
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

    def plain(self, command: re.Match[str], number: int) -> None:
        """Take a command that declares a variable or bounds an input."""
        name, relation, variable, value = command.groups()
        if name is not None:
            self._declare_name(name[0], int(name[2:]), name, number)
            return
        known = self.variables.get(variable)
        if known is None or len(value) > _MAX_DIGITS:
            self.command([number, "assert", [number, relation, variable, value]], number)
            return
        self.bounded = True
        self.box.bound(known[1], Decimal(value), upper=relation == "<=")

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
        self._declare_name(match[1], int(match[2]), match[0], number)

    def _declare_name(self, kind: str, index: int, name: str, number: int) -> None:
        known = self.declared[kind]
        if index in known:
            raise self.error(number, f"{name} is declared twice")
        if index >= MAX_DECLARED:
            raise self.error(number, f"{name}: at most {MAX_DECLARED} variables of a kind")
        known.add(index)
        self.variables[name] = (kind, index)

    def _formula(self, expression: Any, number: int) -> Formula:
        if isinstance(expression, str) or len(expression) < 2:
            shown = f'"{expression[:40]}"' if isinstance(expression, str) else '"()"'
            raise self.error(number, f"expected a formula such as (<= X_0 1.0), got {shown}")
        number, head, *rest = expression
        if head in ("and", "or"):
            if not rest:
                raise self.error(number, f"({head}) without a formula in it")
            return (head, [self._formula(part, number) for part in rest])
        strict = _RELATIONS.get(head) if isinstance(head, str) else None
        if strict is not None:
            if len(rest) != 2:
                raise self.error(number, f"{head} takes two terms, got {len(rest)}")
            simple = self._bound(head, *rest)
            if simple is not None:
                return simple
            left, right = (self._term(term, number) for term in rest)
            difference = right.minus(left) if head[0] == ">" else left.minus(right)
            atom = Atom.at_most_zero(difference, strict=strict)
            if head != "=":
                return atom
            return ("and", [atom, Atom.at_most_zero(difference.times(Fraction(-1)))])
        if isinstance(head, str):
            raise UnsupportedError(f'operator "{head[:40]}" is not one of <=, >=, <, >, =, and, or')
        raise self.error(number, "expected an operator after the bracket")

    def _bound(self, relation: str, left: Any, right: Any) -> Atom | None:
        """Return `variable relation number` as an atom, None where it is not of that form."""
        if relation == "=" or not isinstance(left, str) or not isinstance(right, str):
            return None
        known = self.variables.get(left)
        if known is None or len(right) > _MAX_DIGITS or not _NUMBER.fullmatch(right):
            return None
        value, strict = Fraction(Decimal(right)), _RELATIONS[relation]
        if relation[0] == ">":
            return Atom(self._unit(left, known, -1), -value, strict)
        return Atom(self._unit(left, known, 1), value, strict)

    def _unit(self, name: str, variable: Variable, sign: int) -> dict[Variable, Fraction]:
        # Files repeat the same few outputs thousands of times.
        found = self.units.get((name, sign))
        if found is None:
            found = self.units[name, sign] = {variable: Fraction(sign)}
        return found

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
            return Linear({}, Fraction(Decimal(token)))
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
        if not (self.formulas or self.bounded or self.unsupported):
            raise self.error(self.last, "there is no assert")
        return build(declared, self.formulas, self.unsupported, self.box)
