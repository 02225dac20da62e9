"""Attacks in a suite file: every attack by name, its options read off its own definition."""

from __future__ import annotations

import math
import typing
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    create_model,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from ..errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..attacks import Attack

MOST = 10_000_000
"""Largest integer an option may be: beyond it a sample would take days."""


STRICT = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
"""Of every table of a suite file: no key beyond those there are, nothing changes."""


class AttackTable(BaseModel):
    """An attack and its options; subclasses, one a name, have a field for each."""

    model_config = STRICT

    name: StrictStr

    def to_json(self) -> dict[str, Any]:
        """Return what identifies the attack: name, every option, and where it comes from."""
        from ..attacks.options import source_of

        source = source_of(self.name)
        return self.model_dump(mode="json") | ({} if source is None else {"source": source})


def attack_table(value: object) -> AttackTable:
    """Check one entry of an `attacks` list: a name, or a table of a name and options.

    Raises:
        ValidationError: an unknown name or option, or a value that does not fit; the location is
            that of the key.
    """
    if isinstance(value, AttackTable):
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        raise ValueError('must be a name such as "apgd-ce" or a table { name = ..., steps = ... }')
    name = table.get("name")
    if not isinstance(name, str):
        raise _at("name", name, "missing; it says which attack this is")
    try:
        kind = table_of(name)
    except InputError as error:
        raise _at("name", name, str(error)) from None
    found = kind.model_validate(table)
    try:
        _built(found.to_json())
    except InputError as error:
        raise ValueError(str(error)) from None
    return found


AttackList = Annotated[
    list[Annotated[AttackTable, BeforeValidator(attack_table)]],
    Field(min_length=1, max_length=20),
]


def table_of(name: str) -> type[AttackTable]:
    """Return the table of one attack.

    Raises:
        InputError: an unknown name, or an attack that cannot be loaded.
    """
    from ..attacks.options import known

    names = known()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        there = ", ".join(f"'{each}'" for each in names)
        raise InputError(f"'{name}' is not known; {hint}there are {there}")
    return _table_of(name)


@cache
def _table_of(name: str) -> type[AttackTable]:
    from ..attacks.options import options_of

    fields: dict[str, Any] = {"name": (Literal[name], name)}
    for key, option in options_of(name).items():
        fields[key] = (_field(option.kind), option.default)
    return create_model(f"Attack[{name}]", __base__=AttackTable, **fields)


def attack_objects(attacks: str | Sequence[Mapping[str, Any]]) -> Any:
    """Return what `evaluate(attacks=...)` takes, from a shard's identity.

    Raises:
        RunError: an attack of an installed package is here in another version than was planned.
        InputError: an attack that is not installed here.
    """
    return attacks if isinstance(attacks, str) else [_built(table) for table in attacks]


def _built(table: Mapping[str, Any]) -> Attack:
    from ..attacks.options import build, source_of

    options = {key: value for key, value in table.items() if key not in ("name", "source")}
    here = source_of(table["name"])
    if here != table.get("source"):
        raise RunError(
            f"attack {table['name']!r} is {here or 'not installed'} here and was "
            f"{table.get('source')} when the run was planned; install the same one everywhere"
        )
    return build(
        table["name"],
        {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()},
    )


def _at(key: str, value: object, message: str) -> ValidationError:
    error = PydanticCustomError("attack", "{message}", {"message": message})
    return ValidationError.from_exception_data(
        "attack", [InitErrorDetails(type=error, loc=(key,), input=value)]
    )


def _real(value: object, info: ValidationInfo) -> float:
    del info
    if isinstance(value, bool) or (not hasattr(value, "__float__") and not isinstance(value, str)):
        raise ValueError('must be a number or a string such as "1/3"')
    try:
        number = float(value) if isinstance(value, float) else float(Fraction(str(value)))
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"{value} is not a finite number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _field(hint: Any) -> Any:
    """Return the strict type of a TOML value for an option's type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        parts = [NoneType if part is NoneType else _field(part) for part in inner]
        return typing.Union[tuple(parts)]  # noqa: UP007 - the parts are known when it runs
    if origin is tuple:
        fixed: Any = tuple.__class_getitem__(tuple(_field(part) for part in inner))
        return Annotated[fixed, PlainSerializer(list)]
    if origin is Literal:
        return hint
    if hint is int:
        return Annotated[StrictInt, Field(ge=-MOST, le=MOST)]
    if hint is float:
        return Annotated[float, BeforeValidator(_real)]
    return StrictBool if hint is bool else StrictStr
