"""A model scans a file that is larger than the memory it may use."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import sys
import jax
import numpy as np
import aisec_eval as ae

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) // 1024

random = np.random.default_rng(0)
one = random.normal(size=(1000, 300)).astype(np.float32)
two = random.normal(size=(300, 6)).astype(np.float32)
model = ae.load_model(lambda x: jax.nn.relu(x @ one) @ two, input_shape=(1000,))
# What is loaded and compiled once is not what is measured.
ae.scan(random.random((600, 1000)).astype(np.float32), model=model, memory_limit=16 << 20)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
result = ae.scan(sys.argv[1], model=model, memory_limit=16 << 20)
print(len(result.score), result.info["layer"]["shape"][0], status("VmHWM") - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs"
)
def test_neither_inputs_nor_features_are_held(tmp_path):
    rows, part = 60_000, np.random.default_rng(0).random((5000, 1000), dtype=np.float32)
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 1000)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(rows // len(part)):
            part.tofile(file)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "x.npy")],
        capture_output=True,
        text=True,
        check=True,
    )
    scanned, features, mebibytes = map(int, done.stdout.split())
    assert (scanned, features) == (rows, 300)
    # The inputs are 229 MiB, the features 69 MiB.
    assert mebibytes < 60, mebibytes
