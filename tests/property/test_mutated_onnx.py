"""ONNX files changed at random, field by field: loaded and runnable, or refused in one line.

`AISEC_EVAL_FUZZ=50` does fifty times as many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

from helpers.mutants import mutated_bytes, mutated_protobuf
from helpers.onnx_models import OnnxBuilder

if TYPE_CHECKING:
    from pathlib import Path

TIMES = int(os.environ.get("AISEC_EVAL_FUZZ", "1"))
MEMORY = 400 << 20

# Loads every file, runs what is loaded, and writes what neither loads nor is refused; one file
# may take five seconds, all of them `MEMORY` more address space than a good one.
CHILD = """
import json, resource, signal, sys
from pathlib import Path
import numpy as np
from aisec_eval.errors import AisecError
from aisec_eval.models import load_model
folder, memory = Path(sys.argv[1]), int(sys.argv[2])
def run(path):
    model = load_model(path, bounds=(0, 1))
    if model.graph is not None and np.prod(model.input_shape) < 10_000:
        x = np.zeros((2, *model.input_shape), np.float32)
        assert model.graph.forward(x).shape == (2, *model.graph.output_shape)
run(folder / "good.onnx")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
def late(*_):
    raise TimeoutError("more than five seconds")
signal.signal(signal.SIGVTALRM, late)
bad, loaded, refused = {}, 0, 0
for path in sorted(folder.glob("m*.onnx")):
    signal.setitimer(signal.ITIMER_VIRTUAL, 5)
    try:
        run(path)
        loaded += 1
    except AisecError as error:
        refused += 1
        line = str(error)
        if not line.isprintable() or len(line) > 500:
            bad[path.name] = line
    except BaseException as error:
        bad[path.name] = repr(error)
print(json.dumps([bad, loaded, refused]))
"""


def nets() -> list[bytes]:
    """A network of every kind of layer, written for two opsets."""
    found = []
    for opset in (9, 17):
        b = OnnxBuilder(("N", 1, 6, 6), opset=opset)
        x = b.op("Relu", b.op("Conv", "input", b.weights(2, 1, 3, 3), pads=[1, 1, 1, 1]))
        x = b.op("Add", x, b.op("Conv", x, b.weights(2, 2, 1, 1), b.weights(2)))
        x = b.op("MaxPool", b.pad(x, [0, 0, 0, 0, 0, 0, 1, 1]), kernel_shape=[2, 2])
        x = b.op("Concat", x, b.op("Sigmoid", x), axis=1)
        x = b.op("Reshape", b.op("Transpose", x, perm=[0, 2, 3, 1]), b.ints(-1, 144))
        y = b.op("Gemm", x, b.weights(3, 144), b.weights(3), transB=1)
        found.append(b.proto(y).SerializeToString())
        b = OnnxBuilder(("N", 4), opset=opset)
        x = b.op("Tanh", b.op("MatMul", "input", b.weights(4, 5)))
        x = b.op("Mul", b.clip(x, 0.0, 6.0), b.constant([0.5], "float32"))
        y = b.op("MatMul", b.slice(x, [0], [4], [1]), b.weights(4, 2))
        found.append(b.proto(y).SerializeToString())
    return found


def test_whatever_is_changed_is_loaded_or_refused(tmp_path: Path) -> None:
    random, good = Random(7), nets()
    (tmp_path / "good.onnx").write_bytes(good[0])
    for number in range(250 * TIMES):
        mutate = mutated_protobuf if number % 5 else mutated_bytes
        data = mutate(good[number % len(good)], random)
        (tmp_path / f"m{number}.onnx").write_bytes(data)
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(MEMORY)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100 + 50 * TIMES, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    bad, loaded, refused = json.loads(done.stdout)
    assert not bad
    # Neither everything is refused, nor nothing is broken.
    assert loaded > 20 * TIMES
    assert refused > 80 * TIMES
