"""What is planned follows from the suite, the models and the data alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from aisec_eval.errors import AisecError, SuiteError
from aisec_eval.models.base import LoadReport
from aisec_eval.suite import load_suite, plan
from aisec_eval.suite.identity import canonical, ranges, samples_digest
from aisec_eval.suite.plan import make_plan
from aisec_eval.suite.shard import Shard

SUITE = """schema = 1
name = "small"
version = "1.0.0"
[[model]]
id = "a"
path = "a.onnx"
[[model]]
id = "b"
path = "b.onnx"
[[data]]
id = "digits"
source = "digits"
ids = [0, 100]
[[data]]
id = "poisoned"
source = "digits"
split = "train"
[data.plant]
kind = "patch"
rate = 0.05
target = 3
[[threat]]
norm = "linf"
eps = ["1/16", "1/8"]
[[threat]]
id = "small"
norm = "l2"
eps = [0.25]
[[task]]
kind = "evaluate"
attacks = ["apgd-ce", { name = "square", queries = 1000 }]
[[task]]
kind = "scan"
data = ["poisoned"]
"""


@pytest.fixture
def suite_at(tmp_path, monkeypatch):
    """Write a suite and plan it with models that only have a digest and a size."""

    def load(source, _data=None):
        return SimpleNamespace(
            name=source.name,
            digest=f"digest of {source.name}",
            input_shape=(1, 8, 8),
            num_classes=10,
            graph=SimpleNamespace(num_nodes=2, node_shape=lambda _i: (1, 320, 32)),
            report=LoadReport(warnings=(f"{source.name} looks odd",)),
        )

    monkeypatch.setattr(plan, "load_suite_model", load)
    for name in "ab":
        (tmp_path / f"{name}.onnx").write_bytes(b"")

    def write(text):
        path = tmp_path / "s.toml"
        path.write_text(text)
        return load_suite(path)

    return write


def test_cells_are_models_by_data_by_radii_and_scans(suite_at):
    planned = make_plan(suite_at(SUITE))
    assert [cell.name for cell in planned.cells] == [
        "a, Linf 0.0625, digits",
        "a, Linf 0.125, digits",
        "a, L2 0.25, digits",
        "b, Linf 0.0625, digits",
        "b, Linf 0.125, digits",
        "b, L2 0.25, digits",
        "poisoned",
    ]
    assert planned.warnings == ("model a: a looks odd", "model b: b looks odd")


def test_shards_cover_every_row_once(suite_at):
    for cell in make_plan(suite_at(SUITE)).cells:
        rows = [row for shard in cell.shards for row in range(*shard.rows)]
        assert rows == list(range(len(cell.samples.y)))
    assert len(make_plan(suite_at(SUITE)).cells[0].shards) > 1


def keys(planned):
    return [shard.key for shard in planned.shards]


def test_names_are_stable_and_different(suite_at):
    first = keys(make_plan(suite_at(SUITE)))
    assert len(set(first)) == len(first)
    assert keys(make_plan(suite_at(SUITE))) == first
    described = SUITE.replace('version = "1.0.0"', 'version = "2.0.0"\ndescription = "new"')
    assert keys(make_plan(suite_at(described))) == first


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"1/16", "1/8"', '"1/16", "1/4"', ["Linf 0.0625", "L2 0.25", "poisoned"]),
        ('name = "square", queries = 1000', 'name = "square", queries = 999', ["poisoned"]),
        ('"apgd-ce"', '{ name = "apgd-ce", steps = 99 }', ["poisoned"]),
        ('"apgd-ce"', '{ name = "apgd-ce", steps = 100 }', ["Linf", "L2", "poisoned"]),
        ('kind = "evaluate"', 'kind = "evaluate"\ncertify = "ibp"', ["poisoned"]),
        ("schema = 1", "schema = 1\nseed = 1", []),
        ("rate = 0.05", "rate = 0.06", ["Linf", "L2"]),
        ("0.25", '"1/4"', ["Linf", "L2", "poisoned"]),
    ],
)
def test_a_name_changes_with_exactly_what_the_result_depends_on(suite_at, old, new, same):
    before, after = make_plan(suite_at(SUITE)), make_plan(suite_at(SUITE.replace(old, new, 1)))
    for one, other in zip(before.cells, after.cells, strict=True):
        unchanged = any(part in one.name and part in other.name for part in same)
        assert ([s.key for s in one.shards] == [s.key for s in other.shards]) is unchanged


def test_adding_samples_keeps_the_shards_of_the_old_ones(suite_at):
    before = set(keys(make_plan(suite_at(SUITE))))
    grown = set(keys(make_plan(suite_at(SUITE.replace("[0, 100]", "[0, 200]")))))
    whole = [s for s in make_plan(suite_at(SUITE)).shards if s.rows[1] < 100]
    assert {s.key for s in whole} <= grown
    assert before - grown == {s.key for s in make_plan(suite_at(SUITE)).shards if s.rows[1] == 100}


def test_a_shard_survives_the_way_to_a_worker(suite_at):
    import json

    for shard in make_plan(suite_at(SUITE)).shards:
        back = Shard.from_json(json.loads(json.dumps(shard.to_json())))
        assert back == shard
        assert back.key == shard.key


@pytest.mark.parametrize(
    ("gate", "cells"),
    [
        ("certified_accuracy", [0, 1, 2, 3, 4, 5]),
        ("certified_accuracy@b", [3, 4, 5]),
        ("certified_accuracy@linf", [0, 1, 3, 4]),
        ("certified_accuracy@linf 1/16", [0, 3]),
        ("certified_accuracy@small 0.25@a", [2]),
        ("certified_accuracy@small@a", [2]),
        ("certified_accuracy@1/8@b", [4]),
        ("certified_accuracy@digits@0.25", [2, 5]),
        ("scan.tpr", [6]),
        ("scan.fpr@poisoned", [6]),
    ],
)
def test_scopes_of_gates(suite_at, gate, cells):
    planned = make_plan(suite_at(SUITE + f'[gate]\n"{gate}" = ">= 0"\n'))
    [parsed] = planned.suite.gates
    assert planned.in_scope(parsed) == cells


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"1/16", "1/8"', "2", "larger than the input range"),
        ("target = 3", "target = 11", "target=11 is no class"),
        ("[0, 100]", "[0, 100000]", "ids"),
    ],
)
def test_what_does_not_fit_the_data_is_one_line(suite_at, old, new, message):
    suite = suite_at(SUITE.replace(old, new, 1))
    with pytest.raises(AisecError, match=message) as caught:
        make_plan(suite)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_gate_on_nothing_is_refused(suite_at):
    text = SUITE + '[gate]\n"certified_accuracy@small 1/16" = ">= 0"\n'
    with pytest.raises(SuiteError, match="speaks of nothing"):
        make_plan(suite_at(text))
    clean = SUITE[: SUITE.index("[data.plant]")] + SUITE[SUITE.index("[[threat]]") :]
    with pytest.raises(SuiteError, match="needs planted poison"):
        make_plan(suite_at(clean + '[gate]\n"scan.tpr" = ">= 0"\n'))


def test_canonical_json_and_digests():
    assert canonical({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))
    assert ranges(np.array([3, 4, 5, 9, 11, 12])) == [[3, 6], [9, 10], [11, 13]]
    x, y = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)
    distinct = {
        samples_digest(x, y),
        samples_digest(x.reshape(2, 3, 1), y),
        samples_digest(x + 1, y),
        samples_digest(x, y + 1),
    }
    assert len(distinct) == 4
    assert samples_digest(np.asfortranarray(x), y) == samples_digest(x, y)
