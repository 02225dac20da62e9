"""On native graphs a run's results are the same, byte for byte, whatever the size of its shards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aisec_eval import load_dataset
from aisec_eval.suite import plan, run
from helpers.tiny_suite import tree, write_model

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 66
SIZES = (7, 64, 2048)

SUITE = f"""schema = 1
name = "blocks"
version = "1.0.0"
seed = 5

[[model]]
id = "plain"
path = "plain.onnx"

[[model]]
id = "loud"
path = "loud.onnx"

[[data]]
id = "digits"
source = "digits.npz"
ids = [0, {SAMPLES}]

[[threat]]
norm = "linf"
eps = ["1/65536", "1/32"]

[[threat]]
norm = "l2"
eps = ["1/2"]

[[task]]
id = "starts"
kind = "evaluate"
attacks = "light"
certify = "none"

[[task]]
id = "bracket"
kind = "evaluate"
attacks = [{{ name = "apgd-dlr", steps = 8, restarts = 2 }}, {{ name = "square", queries = 60 }}]
certify = "crown"

[gate]
"flags" = "<= 1"
"certified_accuracy@plain@bracket" = ">= 0.01"
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    test = load_dataset("digits", split="test")
    # Two samples that are the same.
    x, y = test.x[:SAMPLES].copy(), test.y[:SAMPLES].copy()
    x[60], y[60] = x[3], y[3]
    np.savez(folder / "digits.npz", x_test=x, y_test=y)
    write_model(folder / "plain.onnx", 96)
    write_model(folder / "loud.onnx", 64, factor=1e4)
    path = folder / "blocks.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def runs(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    found = {}
    for size in SIZES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "SHARD_SAMPLES", (size, size))
            found[size] = run(suite, workers=1, out=tmp_path_factory.mktemp("runs") / "run").path
    return found


def results(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of a run but for the shards and times, and what the manifest says.

    The manifest names the shards of each cell, counts them and hashes their names: that, and
    nothing else, depends on their size.
    """
    files = tree(folder, without=("timings.jsonl", "shards", "manifest.json"))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    del manifest["plan"]["digest"], manifest["plan"]["shards"]
    for cell in manifest["cells"]:
        del cell["shards"]
    return files, manifest


@pytest.mark.parametrize("size", SIZES[:-1])
def test_the_whole_run_is_the_same(runs: dict[int, Path], size: int) -> None:
    assert len(list(runs[size].glob("shards/*"))) == 12 * -(-SAMPLES // size)
    files, manifest = results(runs[size])
    expected, also = results(runs[SIZES[-1]])
    assert sorted(files) == sorted(expected)
    assert [name for name in files if files[name] != expected[name]] == []
    assert manifest == also


def test_the_flags_are_those_of_whole_cells(runs: dict[int, Path]) -> None:
    """What is compared above has lines in it that count samples, and probes."""
    found: dict[str, set[str]] = {"plain": set(), "loud": set()}
    probes = 0
    for path in sorted(runs[7].glob("evaluations/*/evaluation.json")):
        about = json.loads(path.read_bytes())
        found[about["model"]] |= {flag.split(":")[0] for flag in about["flags"]}
        probes += len(about["findings"]["probes"])
        for flag in about["flags"]:
            if flag.startswith("masked-gradients"):
                assert f" of {about['findings']['attacked']} samples" in flag
                assert about["findings"]["attacked"] > 7
    assert "masked-gradients" in found["loud"]
    assert "masked-gradients" not in found["plain"]
    assert probes > 16
    parts = [json.loads(p.read_bytes()) for p in runs[7].glob("shards/*/evaluation.json")]
    assert len({flag for part in parts for flag in part["flags"] if "masked" in flag}) > 3
