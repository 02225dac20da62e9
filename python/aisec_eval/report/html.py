"""HTML that cannot be injected into: text is escaped by construction, markup is only ever built.

A page is a tree of elements made by `el`. A string is text and is escaped when it is rendered;
there is no way to pass markup as a string. Tags, attributes, links and styles come from short
lists, so no handler, no `javascript:` and no address but those of plain files beside the page can
appear. Characters that control the terminal or the direction of text, with which one name can pose
as another, are spelled out as `[U+202E]`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_TAGS = frozenset(
    {"a", "article", "bdi", "body", "button", "caption", "code", "dd", "details", "div", "dl", "dt"}
    | {"figcaption", "figure", "footer", "h1", "h2", "h3", "h4", "head", "header", "html", "img"}
    | {"li", "main", "meta", "nav", "noscript", "p", "pre", "rect", "section", "small", "span"}
    | {"strong", "summary", "svg", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr"}
    | {"ul"}
)
_VOID = frozenset({"img", "meta", "rect"})
_ATTRIBUTES = frozenset(
    {"alt", "charset", "class", "colspan", "content", "height", "href", "http-equiv", "id", "lang"}
    | {"name", "open", "role", "scope", "src", "style", "tabindex", "title", "viewbox", "width"}
    | {"x", "y"}
)
_PREFIXES = ("aria-", "data-")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_ADDRESS = {
    # A place in the page, or a file beside it.
    "href": re.compile(r"#[a-z0-9-]+|([a-z0-9-]+/)?[a-z0-9-]+\.(html|json)"),
    "src": re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+"),
}
_STYLE = re.compile(r"(--[a-z]+:-?[0-9]+(\.[0-9]+)?;)+")

_LINE_BREAKS = frozenset("\n\t")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that draw nothing or change what is drawn around them."""

Child = "Element | str | int | float | Iterable[Child] | None"


def visible(text: str) -> str:
    """Return `text` with every invisible or direction-changing character spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"[U+{ord(c):04X}]" if unicodedata.category(c) in _HIDDEN and c not in _LINE_BREAKS else c
        for c in text
    )


@dataclass(frozen=True)
class Element:
    """One element; made by `el`, `script` or `data`, never from a string of markup."""

    opening: str
    children: tuple[Any, ...]
    closing: str
    verbatim: bool = False
    """The one child is the content of a style or script element, checked by its maker."""

    def render(self) -> str:
        """Return the markup."""
        parts: list[str] = []
        _render(self, parts)
        return "".join(parts)


def el(tag: str, *children: Any, **attributes: str | int | float | bool | None) -> Element:
    """Make an element.

    Args:
        tag: an element name from the list of known ones.
        *children: elements, texts and numbers, or lists of them; None is left out.
        **attributes: by name, with `_` for `-` and a trailing `_` where Python reserves the word
            (`class_`); True stands alone, False and None are left out.

    Raises:
        ValueError: the tag, an attribute, a link or a style is not on its list.
    """
    if tag not in _TAGS:
        raise ValueError(f"no element <{tag}> in reports")
    parts = [tag]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        _check_attribute(name, value)
        parts.append(
            name if value is True else f'{name}="{html.escape(visible(str(value)), quote=True)}"'
        )
    if tag in _VOID and children:
        raise ValueError(f"<{tag}> has no content")
    return Element(f"<{' '.join(parts)}>", children, "" if tag in _VOID else f"</{tag}>")


def name(text: str, *, limit: int = 160) -> Element:
    """Make a text from outside: isolated, so that its direction does not turn what follows.

    One longer than `limit` characters is cut, and says how long it is.
    """
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text)} characters)"
    return el("bdi", text)


def style(css: str) -> Element:
    """Make a style element of the package's own CSS."""
    if "</" in css:
        raise ValueError("the style sheet must not contain </")
    return Element("<style>", (css,), "</style>", verbatim=True)


def script(code: str) -> Element:
    """Make a script element of code that ships with a package; its hash goes into the policy."""
    if re.search(r"</script|<!--", code, re.IGNORECASE):
        raise ValueError("a script must not contain </script or <!--")
    return Element("<script>", (code,), "</script>", verbatim=True)


def data(identifier: str, value: Any) -> Element:
    """Make an inert JSON block that scripts read with `textContent`.

    Raises:
        ValueError: the value holds NaN or infinity, or the identifier is not a plain name.
    """
    if not _NAME.fullmatch(identifier):
        raise ValueError(f"{identifier!r} is not a plain name")
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    opening = f'<script type="application/json" id="{identifier}">'
    return Element(opening, (text,), "</script>", verbatim=True)


def sha256(element: Element) -> str:
    """Return the content-security-policy source of an inline script."""
    digest = hashlib.sha256("".join(element.children).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _check_attribute(name: str, value: object) -> None:
    known = name in _ATTRIBUTES or (name.startswith(_PREFIXES) and _NAME.fullmatch(name))
    if not known:
        raise ValueError(f"no attribute {name!r} in reports")
    if name in _ADDRESS and not _ADDRESS[name].fullmatch(str(value)):
        raise ValueError(f"{name}={str(value)[:40]!r} leaves the page")
    if name == "style" and not _STYLE.fullmatch(str(value)):
        raise ValueError(f"style={str(value)[:40]!r} is more than numbers in custom properties")


def _render(child: Any, parts: list[str]) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        parts.append(child.opening)
        if child.verbatim:
            parts.extend(child.children)
        else:
            for inner in child.children:
                _render(inner, parts)
        parts.append(child.closing)
    elif isinstance(child, str):
        parts.append(html.escape(visible(child), quote=False))
    elif isinstance(child, (int, float)):
        parts.append(str(child))
    elif isinstance(child, Iterable):
        for inner in child:
            _render(inner, parts)
    else:
        raise TypeError(f"cannot draw a {type(child).__name__}")
