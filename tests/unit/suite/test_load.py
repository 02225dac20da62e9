"""A suite file is read exactly, or refused in one line that names file, line and key."""

from fractions import Fraction

import pytest

from aisec_eval.errors import SuiteError, UnsafeArtifactError
from aisec_eval.suite import load_suite
from aisec_eval.suite.load import MAX_BYTES

GOOD = """schema = 1
name = "small"
version = "1.0.0"

[[model]]
id = "normal"
path = "m.onnx"

[[data]]
id = "digits"
source = "digits"
ids = [0, 10]

[[data]]
id = "train"
source = "digits"
[data.plant]
kind = "patch"
rate = 0.1
target = 3

[[threat]]
norm = "linf"
eps = ["8/255", 0.1, 1]

[[task]]
kind = "evaluate"
attacks = ["apgd-ce", { name = "square", queries = 100 }]

[[task]]
kind = "scan"
data = ["train"]

[gate]
"certified_accuracy@linf 8/255@normal" = ">= 0.3"
"""


@pytest.fixture
def suite_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not looked into when a suite is loaded")
    path = tmp_path / "small.toml"
    path.write_text(GOOD)
    return path


def test_values_are_exact(suite_file):
    suite = load_suite(suite_file)
    assert suite.threat[0].eps == [Fraction(8, 255), Fraction(1, 10), Fraction(1)]
    assert suite.data[1].plant.rate == Fraction(1, 10)
    assert [attack.name for attack in suite.task[0].attacks] == ["apgd-ce", "square"]
    assert suite.task[0].attacks[0].steps == 100
    assert suite.task[0].attacks[1].queries == 100
    assert suite.path == suite_file
    [gate] = suite.gates
    assert (gate.metric, gate.comparison, gate.threshold) == (
        "certified_accuracy",
        ">=",
        Fraction(3, 10),
    )


BAD = [
    ("attacks =", "atacks =", None, "task[0].atacks", 'did you mean "attacks"?'),
    ("queries", "querys", None, "task[0].attacks[1].querys", 'did you mean "queries"?'),
    ("[[threat]]", "[[thread]]", None, "thread", 'did you mean "threat"?'),
    ("rate = 0.1", "rat = 0.1", None, "data[1].plant.rat", 'did you mean "rate"?'),
    ('"apgd-ce"', '"apgd"', None, "task[0].attacks[0]", "there are 'apgd-ce', "),
    ('["apgd-ce",', "[7,", None, "task[0].attacks[0]", "must be a name"),
    ('kind = "scan"', 'kind = "scam"', None, "task[1].kind", "'evaluate', 'scan'"),
    ('kind = "scan"\n', "", '[[task]]\nkind = "scan"', "task[1].kind", "missing"),
    ("0.1, 1]", '"1/0", 1]', None, "threat[0].eps[1]", "not a finite number"),
    ("0.1, 1]", "nan, 1]", None, "threat[0].eps[1]", "not a finite number"),
    ("0.1, 1]", "1e99999, 1]", None, "threat[0].eps[1]", "longer than any radius"),
    ("0.1, 1]", "true, 1]", None, "threat[0].eps[1]", "must be a number"),
    ("0.1, 1]", "-0.1, 1]", None, "threat[0].eps[1]", "greater than or equal to 0"),
    ("rate = 0.1", "rate = 1", None, "data[1].plant.rate", "less than 1"),
    ("target = 3", "target = 3.5", None, "data[1].plant.target", "integer"),
    ("m.onnx", "n.onnx", None, "model[0].path", 'no file "n.onnx"'),
    ('id = "train"', 'id = "digits"', None, "data[1].id", "is taken in line 10"),
    ('id = "train"', 'id = "a b"', None, "data[1].id", "letters, digits"),
    ('data = ["train"]', 'data = ["tran"]', None, "task[1].data[0]", 'did you mean "train"?'),
    ("[0, 10]", "[10, 10]", "[[data]]", "data[0]", "is empty"),
    ("schema = 1", "schema = 2", None, "schema", "write 1"),
    ('version = "1.0.0"\n', "", "schema", "version", "missing"),
    ('name = "small"', "name = 5", None, "name", "string"),
    (
        '"certified_acc',
        '"certifed_acc',
        None,
        "gate.certifed",
        'did you mean "certified_accuracy"?',
    ),
    ("@normal", "@norml", None, "gate.", 'did you mean "normal"?'),
    ("linf 8/255@", "linf 9/255@", None, "gate.", "unknown scope"),
    ('">= 0.3"', '"= 0.3"', None, "gate.", "is not a claim"),
    ('">= 0.3"', "0.3", None, "gate.", "string"),
    ('name = "small"', 'name = "small', None, "", "not valid TOML"),
    ('name = "small"', 'schema = 1\nname = "small"', "name", "", "not valid TOML"),
]


@pytest.mark.parametrize(("old", "new", "at", "key", "message"), BAD)
def test_a_mistake_is_named_with_file_line_and_key(suite_file, old, new, at, key, message):
    assert old in GOOD
    suite_file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(SuiteError) as caught:
        load_suite(suite_file)
    text = str(caught.value)
    line = GOOD[: GOOD.index(at or old)].count("\n") + 1
    assert text.startswith(f"{suite_file}:{line}: {key}")
    assert message in text
    assert "\n" not in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("path", ["../m.onnx", "/etc/hostname", "a/../../m.onnx", "link.onnx"])
def test_paths_stay_in_the_folder_of_the_suite(suite_file, tmp_path_factory, path):
    outside = tmp_path_factory.mktemp("outside") / "m.onnx"
    outside.write_bytes(b"")
    (suite_file.parent.parent / "m.onnx").write_bytes(b"")
    (suite_file.parent / "link.onnx").symlink_to(outside)
    (suite_file.parent / "a").mkdir()
    suite_file.write_text(GOOD.replace("m.onnx", path))
    with pytest.raises(UnsafeArtifactError, match=r"small\.toml:7: model\[0\]\.path: .*leaves"):
        load_suite(suite_file)


def test_files_that_are_no_suites(tmp_path):
    path = tmp_path / "s.toml"
    with pytest.raises(SuiteError, match="no such suite file"):
        load_suite(path)
    with pytest.raises(SuiteError, match="is a folder"):
        load_suite(tmp_path)
    path.write_bytes(b"schema = 1\nname = '\xff'")
    with pytest.raises(SuiteError, match=r"s\.toml:2: not UTF-8"):
        load_suite(path)
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SuiteError, match="larger than"):
        load_suite(path)
    for depth in (20, 100_000):
        path.write_text("schema = " + "[" * depth + "]" * depth)
        with pytest.raises(SuiteError, match="nested"):
            load_suite(path)
    path.write_text("schema = " + "9" * 5000)
    with pytest.raises(SuiteError):
        load_suite(path)


def test_a_task_has_what_it_needs(suite_file):
    text = GOOD.replace('[[model]]\nid = "normal"\npath = "m.onnx"\n', "")
    suite_file.write_text(text.replace("@normal", ""))
    with pytest.raises(SuiteError, match=r"task\[0\]: evaluates, but the suite has no \[\[model"):
        load_suite(suite_file)
    attacks = 'attacks = ["apgd-ce", { name = "square", queries = 100 }]'
    suite_file.write_text(GOOD.replace(attacks, "attacks = []"))
    with pytest.raises(SuiteError, match=r"task\[0\]\.attacks: list should have at least 1 item"):
        load_suite(suite_file)
