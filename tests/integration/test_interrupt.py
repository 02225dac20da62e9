"""Ctrl-C ends a long native call promptly and leaves the interpreter usable."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

SCRIPT = """
import json
import numpy as np
from aisec_eval import _core

width, depth = 1024, 30
nodes = [{"name": "x", "op": "input", "attrs": {"shape": [width]}}]
for index in range(depth):
    tensors = {"weight": 0, "bias": 1}
    nodes.append({"name": f"fc{index}", "op": "affine", "inputs": [index], "tensors": tensors})
weight = np.eye(width, dtype=np.float32)
spec = json.dumps({"nodes": nodes, "output": depth})
graph = _core.Graph(spec, [weight, np.zeros(width, np.float32)])
x = np.zeros((60_000, width), np.float32)
print("ready", flush=True)
try:
    graph.forward(x)
except KeyboardInterrupt:
    print("interrupted", graph.forward(x[:2]).shape, flush=True)
else:
    print("finished", flush=True)
"""


def test_interrupt_ends_a_long_forward() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)  # The call takes tens of seconds; well inside it.
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        output, errors = process.communicate(timeout=60)
    assert output == "interrupted (2, 1024)\n", errors
    assert time.monotonic() - started < 10
    assert process.returncode == 0
