"""Talking to a terminal or a pipe: one-line errors, JSON, tables, progress."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import AisecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress

INTERRUPTED = 130
CRASHED = 70
"""EX_SOFTWARE of sysexits.h: an error nobody foresaw."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

F = TypeVar("F", bound="Callable[..., None]")


def clean(text: object) -> str:
    """Return `text` without control characters, escape sequences or bidirectional overrides."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def out() -> Console:
    """Return a console on standard output; wide in a pipe, so that no table is cut."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def line(text: object, style: str = "") -> None:
    """Print one line of text to standard output."""
    out().print(Text(clean(text), style=style), soft_wrap=True)


def complain(text: object) -> None:
    """Print one line to standard error."""
    Console(stderr=True, highlight=False).print(Text(clean(text)), soft_wrap=True)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 2
) -> None:
    """Print a table; the first `left` columns are text, the others numbers, aligned right."""
    grid = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index < left else "right")
    for row in rows:
        grid.add_row(*(Text(clean(cell)) for cell in row))
    out().print(grid)


def emit(value: Any) -> None:
    """Print a result as JSON on standard output; what is not finite becomes null."""
    print(json.dumps(_plain(value), indent=2, ensure_ascii=True, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def verb(function: F) -> F:
    """Wrap a command: errors become one line and an exit code, on `--json` also JSON."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
        except typer.Exit:
            raise
        except AisecError as error:
            _fail(str(error), error.exit_code, options)
        except KeyboardInterrupt as stop:
            what = str(stop) or "interrupted"  # a run says what it has kept
            _fail(f"{what}; to resume: {resume_command()}", INTERRUPTED, options)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(0) from None
        except Exception as error:
            traceback.print_exc()
            _fail(f"unexpected {type(error).__name__}: {error}; please report it", CRASHED, options)

    return wrapped  # type: ignore[return-value]


def _fail(message: str, code: int, options: dict[str, Any]) -> None:
    complain(f"aisec-eval: {' '.join(message.split())}")
    if options.get("as_json"):
        emit({"error": clean(message), "exit_code": code})
    raise typer.Exit(code)


def resume_command() -> str:
    """Return the command line that was given, quoted for a shell."""
    import shlex

    return shlex.join(["aisec-eval", *sys.argv[1:]])


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield a progress callable that draws a bar on a terminal's standard error, else None."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with _bar() as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, description=clean(note)[:60])

        yield update


def _bar() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
