"""A suite of two small real models that runs in a second or two, for tests of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aisec_eval import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """schema = 1
name = "tiny"
version = "1.0.0"
seed = 3

[[model]]
id = "wide"
path = "wide.onnx"

[[data]]
id = "digits"
source = "digits.npz"
ids = [0, 48]

[[data]]
id = "poisoned"
source = "digits.npz"
split = "train"
ids = [0, 300]
[data.plant]
kind = "patch"
rate = 0.05
target = 0

[[threat]]
norm = "linf"
eps = ["1/64", "1/16"]

[[threat]]
norm = "l2"
eps = ["1/8"]

[[task]]
kind = "evaluate"
attacks = [{ name = "apgd-ce", steps = 10 }, { name = "square", queries = QUERIES }]

[[task]]
kind = "scan"
data = ["poisoned"]

[gate]
"clean_accuracy@wide" = ">= 0.5"
"errors" = "== 0"
"""

SECOND = """
[[model]]
id = "narrow"
path = "narrow.onnx"
"""


def write_model(path: Path, hidden: int, *, factor: float = 1.0) -> Path:
    """Write a classifier of digits: random ReLU features and a ridge regression onto the labels.

    Logits are multiplied by `factor`.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    x, y = load_dataset("digits", split="train")
    random = np.random.default_rng(hidden)
    w1 = random.normal(size=(64, hidden)).astype(np.float32) / 8
    b1 = random.normal(size=hidden).astype(np.float32) / 8
    features = np.maximum(x.reshape(len(x), 64) @ w1 + b1, 0).astype(np.float64)
    gram = features.T @ features + 0.1 * np.eye(hidden)
    w2 = np.linalg.solve(gram, features.T @ (10 * np.eye(10)[y] - 1)).astype(np.float32)
    tensors = {"w1": w1, "b1": b1, "w2": np.float32(factor) * w2, "b2": np.zeros(10, np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w1", "b1"], ["a"]),
            helper.make_node("Relu", ["a"], ["h"]),
            helper.make_node("Gemm", ["h", "w2", "b2"], ["logits"]),
        ],
        "features",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def write_suite(folder: Path, *, models: int = 2, queries: int = 50) -> Path:
    """Write the suite and its one or two models into `folder`; more queries take longer."""
    test, train = load_dataset("digits", split="test"), load_dataset("digits", split="train")
    # As a file, so that no worker has to import scikit-learn first.
    np.savez(folder / "digits.npz", x_test=test.x, y_test=test.y, x_train=train.x, y_train=train.y)
    write_model(folder / "wide.onnx", 128)
    text = SUITE.replace("QUERIES", str(queries))
    if models == 2:
        write_model(folder / "narrow.onnx", 48)
        text += SECOND
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def tree(folder: Path, *, without: tuple[str, ...] = ("timings.jsonl",)) -> dict[str, bytes]:
    """Return every file of a folder by its relative path, but for what may differ."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.relative_to(folder).parts[0] not in without
    }
