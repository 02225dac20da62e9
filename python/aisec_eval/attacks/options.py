"""The options of attacks by name, read off their dataclass fields or constructors."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from . import custom
from .registry import ATTACKS, checked, named

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    from .base import Attack


@dataclass(frozen=True)
class Option:
    """One option of an attack."""

    kind: Any
    """Its type: bool, int, float or str, a `Literal`, a tuple, or a union of these with None."""
    default: Any


def known() -> list[str]:
    """Return the names of all attacks: the engine's own and those of installed packages."""
    return [*ATTACKS, *(name for name in custom.installed() if name not in ATTACKS)]


def options_of(name: str) -> dict[str, Option]:
    """Return what can be set of the attack of this name.

    A name that stands for a choice (`apgd-dlr`) has decided it. Of an attack from an installed
    package: the fields of a dataclass, else the constructor's parameters that have a default of
    such a type; of an object there is nothing to set.

    Raises:
        InputError: an unknown name, or an attack that cannot be loaded.
    """
    if name in ATTACKS:
        attack = ATTACKS[name]
        # `apgd-dlr` is APGD with its loss chosen: the name says which, and nothing else may.
        decided = _choices(type(attack))
        found = _fields(type(attack), attack)
        return {key: one for key, one in found.items() if key not in decided}
    entry = custom.installed().get(name)
    if entry is None:
        named(name)  # refuses, naming those there are
        raise AssertionError(name)
    made = _entry_object(entry)
    if not isinstance(made, type):
        return {}
    return _fields(made, None) if dataclasses.is_dataclass(made) else _parameters(made)


def build(name: str, options: Mapping[str, Any]) -> Attack:
    """Return the attack of this name with these options.

    Raises:
        InputError: an unknown name or option, or a value out of range.
    """
    unknown = set(options) - set(options_of(name))
    if unknown:
        raise InputError(f"{name} has no option {', '.join(sorted(unknown))}")
    if name in ATTACKS:
        attack: Any = ATTACKS[name]
        return typing.cast("Attack", dataclasses.replace(attack, **options))
    made = _entry_object(custom.installed()[name])
    try:
        return checked(made(**options) if isinstance(made, type) else made)
    except InputError:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"attack {name!r} cannot be made with these options: {text}") from None


def source_of(name: str) -> str | None:
    """Return the distribution, version and object an attack comes from; None for our own."""
    if name in ATTACKS:
        return None
    entry = custom.installed().get(name)
    if entry is None:
        return None
    distribution = "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    return f"{distribution} ({entry.value})"


def _entry_object(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"attack {entry.name!r} ({entry.value}) cannot be loaded: {text}"
        ) from None


def _choices(kind: Any) -> set[str]:
    """Return the fields in which attacks of one class differ from name to name."""
    alike = [attack for attack in ATTACKS.values() if type(attack) is kind]
    return {
        field.name
        for field in dataclasses.fields(kind)
        if len({repr(getattr(attack, field.name)) for attack in alike}) > 1
    }


def _fields(kind: Any, attack: Any) -> dict[str, Option]:
    hints = _hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        default = field.default if attack is None else getattr(attack, field.name)
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        hint = hints.get(field.name, type(default))
        if field.init and default is not dataclasses.MISSING and settable(hint):
            found[field.name] = Option(hint, default)
    return found


def _parameters(kind: type) -> dict[str, Option]:
    hints = _hints(vars(kind).get("__init__", kind))
    found = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        default = parameter.default
        hint = hints.get(name, type(default))
        if (
            default is not parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and settable(hint)
        ):
            found[name] = Option(hint, default)
    return found


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing)
    except Exception:
        # Annotations of names that exist for type checkers only: the defaults' types will do.
        return {}


def settable(hint: Any) -> bool:
    """Whether a file can give a value of this type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return all(isinstance(value, str | int) for value in inner)
    if origin in (typing.Union, UnionType):
        return all(part is NoneType or settable(part) for part in inner)
    if origin is tuple:
        return bool(inner) and all(part is not Ellipsis and settable(part) for part in inner)
    return hint in (bool, int, float, str)
