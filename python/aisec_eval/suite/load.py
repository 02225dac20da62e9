"""Reading a suite file: every refusal names the file, the line and the key."""

from __future__ import annotations

import os
import re
import tomllib
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from ..errors import AisecError, SuiteError, UnsafeArtifactError
from . import constraint_table, spec
from .attack_table import table_of
from .gate import parse_gate
from .spec import EvaluateTable, Suite
from .tables import check_confined, is_table
from .toml_lines import Path as KeyPath
from .toml_lines import line_map

MAX_BYTES = 1 << 20
"""Largest suite file, in bytes."""
MAX_DEPTH = 8
"""Deepest nesting of tables and arrays."""

_TABLES: dict[tuple[str, ...], type[BaseModel]] = {
    (): Suite,
    ("model",): spec.ModelTable,
    ("model", "endpoint"): spec.EndpointTable,
    ("data",): spec.DataTable,
    ("data", "plant"): spec.PlantTable,
    ("threat", "ball"): spec.BallTable,
    ("threat", "spatial"): spec.SpatialTable,
    ("threat", "corruptions"): spec.CorruptionsTable,
    ("threat", "patch"): constraint_table.PatchTable,
    ("threat", "frame"): constraint_table.FrameTable,
    ("threat", "tabular"): constraint_table.TabularTable,
    ("threat", "tabular", "features", "number"): constraint_table.NumberTable,
    ("threat", "tabular", "features", "category"): constraint_table.OneHotTable,
    ("task", "evaluate"): spec.EvaluateTable,
    ("task", "scan"): spec.ScanTable,
}
"""Table by the names on the way to it, as pydantic gives them: knows the keys there are."""


def load_suite(path: str | Path) -> Suite:
    """Read and check a suite file.

    Args:
        path: a TOML file; the paths in it are relative to its folder and must stay inside.

    Returns:
        The suite, with nothing left to check but the models and data themselves.

    Raises:
        SuiteError: the file is missing, not TOML, or a key, value or reference is wrong; the
            message names the file, the line and the key.
        UnsafeArtifactError: a path leaves the suite's folder.
    """
    return _Loader(Path(path)).load()


def parse_suite(text: str, path: Path) -> Suite:
    """Check a suite given as text, as if it stood in `path`; see `load_suite`."""
    return _Loader(path).parse(text)


class _Loader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw: dict[str, Any] = {}
        self.lines: dict[KeyPath, int] = {}

    def load(self) -> Suite:
        try:
            if self.path.is_dir():
                raise SuiteError(f"{self.path}: is a folder; give the suite's .toml file")
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise SuiteError(f"{self.path}: no such suite file") from None
        except OSError as error:
            raise SuiteError(f"{self.path}: cannot be read ({error.strerror})") from None
        if len(data) > MAX_BYTES:
            raise SuiteError(f"{self.path}: larger than {MAX_BYTES >> 10} KiB; not a suite file")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise SuiteError(f"{self.path}:{line}: not UTF-8 text") from None
        return self.parse(text)

    def parse(self, text: str) -> Suite:
        text = text.replace("\r\n", "\n")
        try:
            self.raw = tomllib.loads(text, parse_float=Decimal)
        except RecursionError:
            raise SuiteError(f"{self.path}: nested too deeply; not a suite file") from None
        except ValueError as error:
            place = re.search(r" \(at line (\d+), column \d+\)$", str(error))
            line = f":{place[1]}" if place else ""
            reason = str(error)[: place.start()] if place else str(error)
            raise SuiteError(f"{self.path}{line}: not valid TOML: {reason}") from None
        if _depth(self.raw) > MAX_DEPTH:
            raise SuiteError(f"{self.path}: nested deeper than {MAX_DEPTH} levels; not a suite")
        self.lines = line_map(text)
        if self.raw.get("schema") not in (None, 1):
            self.refuse(
                ("schema",), f"{self.raw['schema']!r} is not a schema this version reads; write 1"
            )
        try:
            suite = Suite.model_validate(self.raw)
        except ValidationError as error:
            self.refuse_validation(error)
        suite._path = self.path
        self.check_names(suite)
        self.check_paths(suite)
        self.check_gates(suite)
        return suite

    def refuse(
        self, key: KeyPath, message: str, *, error: type[AisecError] = SuiteError, more: int = 0
    ) -> NoReturn:
        """Raise with file, line and key."""
        place = key
        while place not in self.lines and place:
            place = place[:-1]
        dotted = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in key).lstrip(".")
        others = f" (and {more} more)" if more else ""
        line = self.lines.get(place, 1)
        raise error(f"{self.path}:{line}: {dotted}: {' '.join(message.split())}{others}") from None

    def refuse_validation(self, error: ValidationError) -> NoReturn:
        """Turn pydantic's first error into one line."""
        found = error.errors(include_url=False)
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        key = self.raw_path(first["loc"])
        kind, context = first["type"], first.get("ctx", {})
        message = first["msg"].removeprefix("Value error, ")
        if kind == "extra_forbidden":
            names = tuple(str(part) for part in first["loc"][:-1] if not isinstance(part, int))
            table = _TABLES.get(names) or self.attack_at(key[:-1])
            known = [f.alias or n for n, f in table.model_fields.items()] if table else []
            near = get_close_matches(str(key[-1]), known, n=1)
            message = "unknown key; " + (
                f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"
            )
        elif kind == "missing":
            message = "missing; every table of this kind needs it"
        elif kind == "string_pattern_mismatch":
            message = "must be 1 to 64 letters, digits, dots, dashes or underscores"
        elif kind == "union_tag_invalid":
            tag = str(context["discriminator"]).strip("'")
            tag = "kind" if tag == "_threat_kind()" else tag
            key = (*key, tag)
            message = f"'{context['tag']}' is not known; there are {context['expected_tags']}"
        elif kind == "union_tag_not_found":
            key = (*key, str(context["discriminator"]).strip("'"))
            message = "missing; it says what this table is"
        else:
            message = message[0].lower() + message[1:]
        self.refuse(key, message, more=len(found) - 1)

    def attack_at(self, key: KeyPath) -> type[BaseModel] | None:
        """Return the table of the attack that stands at `key`."""
        node: Any = self.raw
        for part in key:
            node = node[part]
        name = node.get("name") if isinstance(node, dict) else None
        return table_of(name) if isinstance(name, str) else None

    def raw_path(self, loc: tuple[int | str, ...]) -> KeyPath:
        """Drop what pydantic puts between the keys: union tags and discriminators."""
        node: Any = self.raw
        path: KeyPath = ()
        for position, part in enumerate(loc):
            held = isinstance(node, dict) and part in node
            if held or (isinstance(node, list) and part in range(len(node))):
                node, path = node[part], (*path, part)
            elif position == len(loc) - 1 and isinstance(node, dict) and isinstance(part, str):
                path = (*path, part)  # a missing key: the message speaks of its table's line
        return path

    def check_names(self, suite: Suite) -> None:
        """An id names one thing, tasks refer to things that exist and have what they need."""
        seen: dict[str, KeyPath] = {}
        known: dict[str, set[str]] = {"models": set(), "data": set(), "threats": set()}
        for kind, plural in (("model", "models"), ("data", "data"), ("threat", "threats")):
            for i, entry in enumerate(getattr(suite, kind)):
                name = entry.name if kind == "threat" else entry.id
                self.claim_name(seen, name, (kind, i, "id" if entry.id else "norm"))
                known[plural].add(name)
        for i, task in enumerate(suite.task):
            if task.id:
                self.claim_name(seen, task.id, ("task", i, "id"))
            for field in ("models", "data", "threats"):
                for j, name in enumerate(getattr(task, field, None) or ()):
                    if name not in known[field]:
                        near = get_close_matches(name, known[field], n=1)
                        there = f"there are {', '.join(sorted(known[field])) or 'none'}"
                        hint = f'did you mean "{near[0]}"?' if near else there
                        self.refuse(("task", i, field, j), f'no {field} entry "{name}"; {hint}')
            if isinstance(task, EvaluateTable):
                for kind in ("model", "threat"):
                    if not getattr(suite, kind):
                        self.refuse(("task", i), f"evaluates, but the suite has no [[{kind}]]")

    def claim_name(self, seen: dict[str, KeyPath], name: str, key: KeyPath) -> None:
        if name in seen:
            other = self.lines.get(seen[name], 1)
            self.refuse(key, f'"{name}" is taken in line {other}; an id names one thing')
        seen[name] = key

    def check_paths(self, suite: Suite) -> None:
        """Every file stands inside the suite's folder and exists."""
        for i, model in enumerate(suite.model):
            if model.path is not None:
                self.check_file(("model", i, "path"), model.path)
        for i, data in enumerate(suite.data):
            if is_table(data.source, data.labels):
                self.check_table(("data", i, "source"), data.source)
            elif is_file_source(data.source):
                self.check_file(("data", i, "source"), data.source)

    def check_file(self, key: KeyPath, name: str) -> None:
        folder = self.path.parent.resolve()
        if "\0" in name:
            self.refuse(key, "holds a null character", error=UnsafeArtifactError)
        target = (folder / name).resolve()
        if os.path.isabs(name) or not target.is_relative_to(folder):
            self.refuse(
                key,
                f'"{name}" leaves the suite\'s folder; put the file beside or below the suite',
                error=UnsafeArtifactError,
            )
        if not target.is_file():
            self.refuse(key, f'no file "{name}" beside the suite (in {self.path.parent})')

    def check_table(self, key: KeyPath, name: str) -> None:
        folder = self.path.parent.resolve()
        if "\0" in name or os.path.isabs(name) or ".." in Path(name).parts:
            self.refuse(key, f'"{name}" leaves the suite\'s folder', error=UnsafeArtifactError)
        try:
            check_confined(str(folder / name), folder)
        except AisecError as error:
            self.refuse(key, str(error), error=type(error))

    def check_gates(self, suite: Suite) -> None:
        """Metrics, claims and scopes are known."""
        names = [m.id for m in suite.model] + [d.id for d in suite.data]
        names += [t.id for t in suite.task if t.id] + [t.name for t in suite.threat]
        radii = {eps for threat in suite.threat for eps in threat.eps}
        for key, claim in suite.gate.items():
            try:
                gate = parse_gate(key, claim)
            except SuiteError as error:
                self.refuse(("gate", key), str(error))
            for scope in gate.scopes:
                name, radius = split_scope(scope)
                if (name and name not in names and name not in {t.norm for t in suite.threat}) or (
                    radius is not None and radius not in radii
                ):
                    near = get_close_matches(scope, names, n=1)
                    hint = f'did you mean "{near[0]}"?' if near else "see [[threat]] and the ids"
                    self.refuse(("gate", key), f'unknown scope "{scope}"; {hint}')


def is_file_source(source: str) -> bool:
    """Whether a dataset's source is a file rather than a named dataset."""
    return "/" in source or "\\" in source or "." in source


def split_scope(scope: str) -> tuple[str, Fraction | None]:
    """Split a gate's scope into a name and a radius: `"linf 8/255"`, `"normal"`, `"8/255"`."""
    *words, last = scope.split()
    try:
        return " ".join(words), Fraction(last)
    except (ValueError, ZeroDivisionError):
        return scope, None


def _depth(value: object) -> int:
    """Return how deep tables and arrays are nested, without recursion."""
    deepest, level = 0, [value]
    while level:
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        deepest, level = deepest + 1, inner
    return deepest - 1
