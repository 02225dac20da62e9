"""Scanning a file takes memory, and address space, for a batch, the statistics and the result."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

SCRIPT = """
import resource
import sys
import numpy as np
import polars as pl
import aisec_eval as ae

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) // 1024

# What is loaded once is not what is measured.
ae.scan(pl.DataFrame({"a": [1.0, 2.0]}).lazy())
ae.scan(np.zeros((2, 2), np.float32))
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
space = (status("VmSize") + int(sys.argv[1])) << 20
resource.setrlimit(resource.RLIMIT_AS, (space, space))
labels = None if len(sys.argv) < 4 else sys.argv[3]
result = ae.scan(sys.argv[2], labels)
print(len(result.score), status("VmHWM") - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs"
)
@pytest.mark.parametrize("source", ["npy", "parquet", "parquet of large row groups"])
def test_memory_does_not_follow_the_data(tmp_path, source):
    rows, dim = 1_200_000, 128
    part = np.random.default_rng(0).normal(size=(20_000, dim)).astype(np.float32)
    path = tmp_path / f"x.{source.split()[0]}"
    # Less address space than the data, so that it cannot be mapped as a whole either.
    arguments = [512, path]
    if source == "npy":
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(rows // len(part)):
                part.tofile(file)
        np.save(tmp_path / "y.npy", np.arange(rows) % 3)
        arguments.append(tmp_path / "y.npy")
    else:
        frame = pl.DataFrame({f"f{i}": part[:, i] for i in range(dim)})
        size = 20_000 if source == "parquet" else 262_144
        pl.concat([frame.lazy()] * (rows // len(part))).sink_parquet(path, row_group_size=size)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    scanned, mebibytes = map(int, done.stdout.split())
    assert scanned == rows
    # The data is 586 MiB of float32.
    assert mebibytes < 200, mebibytes


MANY_CLASSES = """
import sys
import numpy as np
import aisec_eval as ae

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

random = np.random.default_rng(0)
folder, limit, methods = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
small, y = random.normal(size=(600, 8)).astype(np.float32), np.load(folder + "/y.npy")
for method in methods:
    # What is loaded once is not what is measured.
    ae.scan(small, np.arange(600) % 6, method=method)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
for method in methods:
    result = ae.scan(folder + "/x.npy", y, method=method, memory_limit=limit << 20)
    assert result.info["directions"].startswith("frequent directions"), method
    print(method, status("VmHWM") - before)
    open("/proc/self/clear_refs", "w").write("5")
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs"
)
@pytest.mark.parametrize("method", ["scan"])
def test_many_classes_hold_the_limit(tmp_path, method):
    random = np.random.default_rng(0)
    classes, dim, limit = 1000, 64, 24
    y = np.arange(24_000) % classes
    x = random.standard_normal((len(y), dim), dtype=np.float32)
    x += random.standard_normal((classes, dim), dtype=np.float32)[y]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    # Covariance matrices of all classes would have 21 MiB, beside batches and projections.
    # A process each: what one detector freed is not always given back before the next.
    done = subprocess.run(
        [sys.executable, "-c", MANY_CLASSES, str(tmp_path), str(limit), method],
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = dict(line.split() for line in done.stdout.splitlines())
    assert list(peaks) == [method]
    # The result and its making are 33 bytes a sample; the rest is what freed memory leaves behind.
    assert all(float(peak) < limit + 6 for peak in peaks.values()), peaks
