"""Attacks on JAX in a suite: at a fixed plan, workers, order and kills leave no trace."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aisec_eval.suite import plan, run
from helpers.tiny_suite import tree, write_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 16
DRIVER = f"""
import sys
from aisec_eval.suite import plan
plan.SHARD_SAMPLES = ({BLOCK}, {BLOCK})
from aisec_eval.cli import main
sys.argv = ["aisec-eval", "run", *sys.argv[1:], "--no-report"]
main()
"""


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_SAMPLES", (BLOCK, BLOCK))
        yield


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small suite, attacked through JAX, its data in integers."""
    folder = tmp_path_factory.mktemp("jax")
    path = write_suite(folder, models=1)
    text = path.read_text().replace("attacks = [", 'backend = "jax"\nattacks = [')
    text = text.replace('[[threat]]\nnorm = "l2"\neps = ["1/8"]\n', "").replace('"1/64", ', "")
    path.write_text(text)
    with np.load(folder / "digits.npz") as floats:
        arrays = {
            name: np.rint(value * 16).astype(np.uint8) if name.startswith("x") else value
            for name, value in floats.items()
        }
    np.savez(folder / "digits.npz", **arrays)
    return path


@pytest.fixture(scope="module")
def undisturbed(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = run(suite, workers=1, out=tmp_path_factory.mktemp("runs") / "undisturbed")
    assert result.errors == ()
    kinds = {kind for e in result.evaluations for kind in e.evidence}
    assert {"lattice", ""} <= kinds
    assert all(e.info["backend"] == "jax" for e in result.evaluations)
    assert all(e.info["lattice"] == "1/16" for e in result.evaluations)
    return Path(result.path)


def test_order_does_not_matter(suite: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Every other shard is there already; the rest is computed by a process that did not see it."""
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    for shard in sorted((tmp_path / "run" / "shards").iterdir())[::2]:
        shutil.rmtree(shard)
    assert run(suite, workers=1, out=tmp_path / "run").errors == ()
    assert tree(tmp_path / "run") == tree(undisturbed)


def test_more_workers_killed_and_resumed(suite: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(suite), "--out", str(out), "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("shards/*/shard.json"))) < 1:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    before = {p: p.stat().st_mtime_ns for p in out.glob("shards/*/shard.json")}
    assert run(suite, workers=2, out=out).errors == ()
    assert tree(out) == tree(undisturbed)
    assert {p: p.stat().st_mtime_ns for p in before} == before
