"""Importing the package is quick and pulls in nothing heavy; every public name resolves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aisec_eval

HEAVY = ("jax", "ray", "polars", "onnx", "plotly", "sklearn", "flax", "numpy", "typer", "pydantic")


def test_import_is_light():
    script = (
        "import sys, time; start = time.perf_counter(); import aisec_eval; "
        "spent = time.perf_counter() - start; "
        f"print([m for m in {HEAVY!r} if m in sys.modules], spent)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded, spent = done.stdout.rsplit(" ", 1)
    assert loaded == "[]"
    assert float(spent) < 0.5


@pytest.mark.parametrize("name", aisec_eval.__all__)
def test_every_public_name_resolves(name):
    assert getattr(aisec_eval, name) is not None


def test_the_table_and_the_typed_imports_agree():
    tree = ast.parse(Path(aisec_eval.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (node.module or "", alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {(module, name) for module, names in aisec_eval._HOME.items() for name in names}
    lazy |= {("", name) for name in aisec_eval._ROOMS}
    assert typed == lazy
    assert {name for _, name in typed} == set(aisec_eval.__all__) == set(dir(aisec_eval))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        aisec_eval.evaluat  # noqa: B018
