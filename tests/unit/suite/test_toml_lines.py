"""The line of every key that tomllib reads is known."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisec_eval.suite.toml_lines import line_map

DOCUMENT = '''# comment with [brackets] and "quotes"
title = "a # b"            # line 2

[owner]
name.first = 'x'           # line 5
"quoted key" = 1
point = { x = 1, "y z" = [1,
  2] }

[[item]]
text = """
not = "a key"
[nor.a.table]
\\""" still """
list = [
  "one",                   # line 16
  { deep = true },
  [ 3, 4 ],
]

  [item.sub]
  a = 1979-05-27T07:32:00Z
  [[item.part]]
  b = 0x1f
  [[item.part]]
  b = -inf

[[item]]
literal = \'\'\'
x = 1\'\'\'\'
end = 1e3
'''


def paths(value, prefix=()):
    if prefix:
        yield prefix
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*prefix, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*prefix, index))


def test_every_key_of_a_document_with_all_syntax_has_its_line():
    lines = line_map(DOCUMENT)
    assert set(lines) == set(paths(tomllib.loads(DOCUMENT)))
    expected = {
        ("title",): 2,
        ("owner",): 4,
        ("owner", "name", "first"): 5,
        ("owner", "quoted key"): 6,
        ("owner", "point", "x"): 7,
        ("owner", "point", "y z", 1): 8,
        ("item", 0): 10,
        ("item", 0, "text"): 11,
        ("item", 0, "list"): 15,
        ("item", 0, "list", 0): 16,
        ("item", 0, "list", 1, "deep"): 17,
        ("item", 0, "list", 2, 1): 18,
        ("item", 0, "sub", "a"): 22,
        ("item", 0, "part", 0, "b"): 24,
        ("item", 0, "part", 1, "b"): 26,
        ("item", 1, "literal"): 29,
        ("item", 1, "end"): 31,
    }
    assert {path: lines[path] for path in expected} == expected


KEY = st.text("abz019_-", min_size=1, max_size=4)
SCALAR = st.sampled_from(
    ['"#[x]=1"', "'lit\\'", "12", "1.5", "true", '"""m\n\\"\n"""', "[ ]", "{}"]
)


def _pairs(values):
    return st.dictionaries(KEY, values, max_size=3)


INLINE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n" + ",\n".join(items) + "]"),
        _pairs(inner.filter(lambda v: "\n" not in v)).map(
            lambda d: "{" + ", ".join(f'"{k}" = {v}' for k, v in d.items()) + "}"
        ),
    ),
    max_leaves=6,
)


@given(st.dictionaries(KEY, INLINE, max_size=4), st.lists(_pairs(INLINE), max_size=3))
def test_generated_documents(top, tables):
    text = "".join(f"{key} = {value}\n\n" for key, value in top.items())
    for table in tables:
        text += "[[zz.array]]\n" + "".join(f"'{k}' = {v}\n" for k, v in table.items())
    lines = line_map(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    rows = text.split("\n")
    for path, line in lines.items():
        if isinstance(path[-1], str):
            assert path[-1] in rows[line - 1]


@pytest.mark.parametrize("text", ["", "# only a comment", "\n\n", "a=1"])
def test_short_documents(text):
    assert set(line_map(text)) == set(paths(tomllib.loads(text)))
