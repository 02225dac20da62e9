"""Spectral signatures of a Parquet table under a limit of address space, against NumPy.

The table is written in parts, scanned by a process whose address space is limited (`RLIMIT_AS`),
and scored again by NumPy, in two chunked passes in a process without a limit. Both sets of scores
must agree. `--distinct-gib` writes fewer files and links them again and again.

    python benchmarks/scan_beyond_memory.py --gib 20 --limit-mib 2048 --layout columns
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DIM, CLASSES = 512, 10
FILE_ROWS = 1 << 18
"""Rows of a file: one row group."""

SCAN = """
import json, resource, sys, time
path, limit, out = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (int(limit) << 20,) * 2)
import numpy as np
import aisec_eval as ae
wall, cpu = time.perf_counter(), time.process_time()
result = ae.scan(path)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
status = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("Vm"))
peak = {key: int(status[key].split()[0]) // 1024 for key in ("VmPeak", "VmHWM")}
np.save(out, result.score)
heavy = [name for name in ("jax", "polars", "pyarrow", "scipy") if name in sys.modules]
print(json.dumps({"rows": len(result.score), "seconds": wall, "cpu_seconds": cpu, **peak,
                  "loaded": heavy}))
"""


def features(part: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one file, drawn anew wherever they are needed: float32 [rows, DIM] and labels."""
    random = np.random.default_rng([7, part])
    y = random.integers(0, CLASSES, rows)
    x = random.standard_normal((rows, DIM), dtype=np.float32)
    # A direction a class that leads, so that eigenvectors are determined.
    lead = random.standard_normal((rows, 1), dtype=np.float32) * np.float32(3)
    x += lead * _directions()[y] + y[:, None].astype(np.float32)
    return x, y


def _directions() -> np.ndarray:
    found = np.random.default_rng(8).standard_normal((CLASSES, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def write(folder: Path, parts: int, distinct: int, layout: str, codec: str) -> int:
    """Write the files, one at a time; return the bytes that a reader sees."""
    import polars as pl

    for part in range(distinct, parts):
        (folder / f"part-{part:04d}.parquet").symlink_to(f"part-{part % distinct:04d}.parquet")
    for part in range(distinct):
        x, y = features(part, FILE_ROWS)
        columns = {"x": x} if layout == "lists" else {f"f{i}": x[:, i] for i in range(DIM)}
        frame = pl.DataFrame(columns | {"label": y})
        path = folder / f"part-{part:04d}.parquet"
        frame.write_parquet(path, compression=codec, row_group_size=FILE_ROWS, statistics=False)
    return sum(file.stat().st_size for file in folder.iterdir())


def numpy_scores(parts: int, distinct: int) -> np.ndarray:
    """The same scores by another route: sums of products in float64 from chunks, two passes."""
    times = np.bincount(np.arange(parts) % distinct)
    count = np.zeros(CLASSES)
    total = np.zeros((CLASSES, DIM))
    products = np.zeros((CLASSES, DIM, DIM))
    for part in range(distinct):
        x, y = features(part, FILE_ROWS)
        for c in range(CLASSES):
            # About a fixed point near the mean: the products keep their digits.
            own = x[y == c].astype(np.float64) - c
            count[c] += times[part] * len(own)
            total[c] += times[part] * own.sum(axis=0)
            products[c] += times[part] * (own.T @ own)
    mean = total / count[:, None]
    directions = []
    for c in range(CLASSES):
        covariance = products[c] / count[c] - np.outer(mean[c], mean[c])
        directions.append(np.linalg.eigh(covariance)[1][:, -1])
    scores = []
    for part in range(distinct):
        x, y = features(part, FILE_ROWS)
        score = np.empty(len(y))
        for c in range(CLASSES):
            own = x[y == c].astype(np.float64) - c
            score[y == c] = ((own - mean[c]) @ directions[c]) ** 2
        scores.append(score)
    return np.concatenate([scores[part % distinct] for part in range(parts)])


def main() -> None:
    """Run it and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=1.0, help="size of the features")
    parser.add_argument("--distinct-gib", type=float, help="of it, written; the rest are links")
    parser.add_argument("--limit-mib", type=int, default=2048, help="address space of the scan")
    parser.add_argument("--layout", choices=("columns", "lists"), default="columns")
    parser.add_argument("--codec", choices=("uncompressed", "zstd", "snappy", "lz4"),
                        default="uncompressed")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="where the table is written and removed")
    chosen = parser.parse_args()
    size = FILE_ROWS * DIM * 4 / (1 << 30)
    parts = max(1, round(chosen.gib / size))
    distinct = min(parts, max(1, round((chosen.distinct_gib or chosen.gib) / size)))
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        (folder / "table").mkdir()
        size = write(folder / "table", parts, distinct, chosen.layout, chosen.codec)
        command = [sys.executable, "-c", SCAN, folder / "table", chosen.limit_mib]
        command = [*map(str, command), str(folder / "scores.npy")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            sys.exit(done.stderr)
        score = np.load(folder / "scores.npy")
    start = time.perf_counter()
    expected = numpy_scores(parts, distinct)
    report = json.loads(done.stdout) | {
        "gib_distinct": distinct * FILE_ROWS * DIM * 4 / (1 << 30),
        "gib_read_a_pass": size / (1 << 30),
        "layout": chosen.layout,
        "codec": chosen.codec,
        "limit_mib": chosen.limit_mib,
        "numpy_seconds": time.perf_counter() - start,
        "largest_difference": float(np.abs(score - expected).max() / expected.mean()),
    }
    print(json.dumps(report))
    if len(score) != len(expected) or report["largest_difference"] > 1e-5:
        sys.exit("the scores differ")


if __name__ == "__main__":
    main()
