"""Whatever is in a suite file, it is read or refused by name, never anything else."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aisec_eval.errors import SuiteError, UnsafeArtifactError
from aisec_eval.suite.load import load_suite

QUICKSTART = Path(__file__).parents[2] / "suites" / "quickstart.toml"
TEXT = QUICKSTART.read_text()
TOKENS = [
    '"', "'", "[", "]", "[[", "{", "}", "=", ".", "\n", "#", "@", "-1", "nan", "1e400", "true",
    '""', '"../x"', '"\\u0000"', "[]", "{}", "[[]]", "1979-05-27", "0x", '"""',
    "schema = 1\n", "\x00",
]  # fmt: skip


@st.composite
def mutations(draw):
    """The quickstart suite with pieces cut out, doubled, or replaced by hostile ones."""
    text = TEXT
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.sampled_from([0, 1, 3, 12, 80])))
        piece = draw(
            st.one_of(st.sampled_from(TOKENS), st.text(max_size=6), st.just(text[start:stop] * 2))
        )
        text = text[:start] + piece + text[stop:]
    return text


def refused_or_read(path, text):
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_suite(path)
    except (SuiteError, UnsafeArtifactError) as error:
        message = str(error)
        assert message.startswith(str(path))
        assert "\n" not in message
        return message
    return None


def folder(factory):
    made = factory.mktemp("suites")
    (made / "models").mkdir()
    for name in ("digits_normal.onnx", "digits_adversarial.onnx"):
        (made / "models" / name).touch()
    return made


@given(text=mutations())
def test_mutated_suites(tmp_path_factory, text):
    refused_or_read(folder(tmp_path_factory) / "s.toml", text)


@given(key=st.sampled_from(range(TEXT.count(" = "))), value=st.sampled_from(TOKENS))
def test_every_value_replaced_by_a_wrong_one(tmp_path_factory, key, value):
    parts = TEXT.split(" = ")
    head, tail = " = ".join(parts[: key + 1]), " = ".join(parts[key + 1 :])
    rest = tail[tail.index("\n") :]
    refused_or_read(folder(tmp_path_factory) / "s.toml", f"{head} = {value}{rest}")


def test_the_quickstart_itself_is_read():
    assert load_suite(QUICKSTART).name == "quickstart"
