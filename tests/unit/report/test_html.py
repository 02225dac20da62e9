"""Whatever a text holds, the page holds it as text."""

from __future__ import annotations

import json
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisec_eval.report import html
from aisec_eval.report.html import el, name, visible

TEXTS = st.text(max_size=40) | st.text(
    alphabet="<>&\"'/=! -scriptalert()\x00\u2028\u202e`", max_size=30
)


class Reader(HTMLParser):
    """What an HTML parser makes of a piece of markup."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(TEXTS, TEXTS)
def test_texts_come_back_as_text(body: str, title: str) -> None:
    reader = read(el("p", body, title=title, data_value=title).render())
    assert reader.tags == ["p"]
    assert reader.text == visible(body)
    assert dict(reader.attributes) == {"title": visible(title), "data-value": visible(title)}


@given(st.recursive(TEXTS | st.integers(), lambda inner: st.dictionaries(TEXTS, inner, max_size=3)))
def test_data_comes_back_and_cannot_end_its_element(value: object) -> None:
    markup = html.data("plots", value).render()
    inside = markup.removeprefix('<script type="application/json" id="plots">').removesuffix(
        "</script>"
    )
    assert json.loads(inside) == value
    assert inside.isascii()
    assert not set(inside) & set("<>&")


@given(TEXTS)
def test_visible_texts_hide_nothing(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [c for c in shown if unicodedata.category(c) in hidden and c not in "\n\t"]
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("naïve 模型 🦊", "naïve 模型 🦊"),
        ("a\u202egnp.exe", "a[U+202E]gnp.exe"),
        ("\x1b[31mred", "[U+001B][31mred"),
        ("nul\x00", "nul[U+0000]"),
        ("a\u2028b\u200bc\ufeff", "a[U+2028]b[U+200B]c[U+FEFF]"),
        ("\ud800", "[U+D800]"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_hidden_characters_are_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("tag", "attributes"),
    [
        ("script", {}),
        ("iframe", {}),
        ("P onload=x", {}),
        ("p", {"onclick": "alert(1)"}),
        ("p", {"data_x onclick": "1"}),
        ("a", {"href": "javascript:alert(1)"}),
        ("a", {"href": "https://example.org"}),
        ("a", {"href": '#up" onclick="x'}),
        ("a", {"href": "//example.org/x.html"}),
        ("a", {"href": "https://example.org/x.html"}),
        ("a", {"href": "/etc/x.html"}),
        ("a", {"href": "../../x.html"}),
        ("a", {"href": "x.svg"}),
        ("a", {"href": "data:image/png;base64,AAAA"}),
        ("img", {"src": "page.html"}),
        ("img", {"src": "data:image/svg+xml;base64,AAAA"}),
        ("img", {"src": "picture.png"}),
        ("p", {"style": "color: red"}),
        ("p", {"style": "--w:url(x);"}),
        ("p", {"style": "--w:1;} body{"}),
    ],
)
def test_what_is_not_on_a_list_is_refused(tag: str, attributes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"no element|no attribute|leaves the page|more than"):
        el(tag, **attributes)


def test_void_elements_and_strange_children_are_refused() -> None:
    with pytest.raises(ValueError, match="no content"):
        el("img", "text")
    with pytest.raises(TypeError, match="cannot draw a object"):
        el("p", object()).render()
    with pytest.raises(ValueError, match="plain name"):
        html.data('x"><script>', {})
    with pytest.raises(ValueError, match="JSON compliant"):
        html.data("x", float("nan"))
    for code in ("a </script> b", "<!-- x"):
        with pytest.raises(ValueError, match="must not contain"):
            html.script(code)
    with pytest.raises(ValueError, match="must not contain"):
        html.style("</style>")


def test_rendering() -> None:
    element = el("p", "a < b", [1, (el("strong", "c"), None)], 0.5, class_="x", open=True, id=None)
    assert element.render() == '<p class="x" open>a &lt; b1<strong>c</strong>0.5</p>'
    assert el("img", alt='"').render() == '<img alt="&quot;">'


def test_long_names_are_cut() -> None:
    assert name("x" * 160).render() == f"<bdi>{'x' * 160}</bdi>"
    assert name("x" * 161).render() == f"<bdi>{'x' * 160}… (161 characters)</bdi>"


def test_script_hash_is_the_one_browsers_compute() -> None:
    # Example of the Content Security Policy Level 3 recommendation.
    assert (
        html.sha256(html.script("alert('Hello, world.');"))
        == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
    )
