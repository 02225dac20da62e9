"""What stands in an entry of a run folder: JSON objects and columns, checked when read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _files
from .errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl


def object_of(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: absent, damaged or something else.
    """
    value = _files.read_json(path)
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object")
    return value


def column(frame: pl.DataFrame, name: str) -> Any:
    """Return a column as an array that may be written to."""
    return frame[name].to_numpy(writable=True)


def text(path: Path, about: Mapping[str, Any], key: str) -> str:
    """Return a text of an object.

    Raises:
        RunError: it is none.
    """
    value = about.get(key)
    if not isinstance(value, str):
        raise RunError(f"{path}: {key!r} must be a text, got {value!r}")
    return value


def texts(path: Path, about: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of texts of an object.

    Raises:
        RunError: it is none.
    """
    value = about.get(key)
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise RunError(f"{path}: {key!r} must be a list of texts")
    return tuple(value)


def mapping(path: Path, about: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object in an object.

    Raises:
        RunError: it is none.
    """
    value = about.get(key)
    if not isinstance(value, dict):
        raise RunError(f"{path}: {key!r} must be an object")
    return value
