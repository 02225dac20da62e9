"""What every page shares: the frame, the policy under which it runs, the style sheet."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from . import html
from .html import Element, el

if TYPE_CHECKING:
    from collections.abc import Sequence


def document(title: str, body: Sequence[Any], scripts: Sequence[Element] = ()) -> str:
    """Return a whole page as text.

    Its content security policy lets it run `scripts` and load nothing.

    Args:
        title: of the window.
        body: elements, in order; the scripts come behind them.
        scripts: made by `html.script`.
    """
    page = el("html", _head(title, scripts), el("body", body, scripts), lang="en")
    return f"<!doctype html>\n{page.render()}\n"


def _head(title: str, scripts: Sequence[Element]) -> Element:
    allowed = " ".join(map(html.sha256, scripts)) or "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        html.style(asset("page.css")),
    )


def promise() -> str:
    """What the words on every page mean."""
    return (
        "A broken sample comes with an adversarial example that was checked again in 64-bit "
        "arithmetic by code that did not find it; a certified one with a bound that holds in "
        "real arithmetic; what neither decides is called open."
    )


def asset(file: str) -> str:
    """Return a style sheet or script of the report."""
    return (files(__package__) / file).read_text(encoding="utf-8")
