"""scan() beside what bounds it: reading the bytes twice, and a float32 GEMM of equal FLOPs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

InTurn: TypeAlias = "Callable[..., dict[str, float]]"
ROWS, CLASSES = 1_000_000, 10
SOURCES = {
    "array": 128, "npy": 128, "parquet zstd": 128, "parquet uncompressed": 128,
    "parquet lists": 128, "array wide": 512, "parquet zstd wide": 512,
    "parquet uncompressed wide": 512,
}  # fmt: skip


def draw(rows: int, dim: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features without structure, drawn in parts so that no float64 copy is made."""
    random = np.random.default_rng(0)
    x = np.empty((rows, dim), np.float32)
    for part in np.array_split(x, 20):
        random.standard_normal(out=part, dtype=np.float32)
    return x, np.arange(rows, dtype=np.int64) % CLASSES


@pytest.mark.parametrize("source", SOURCES)
def test_spectral(
    source: str,
    tmp_path: Path,
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    dim = SOURCES[source]
    x, y = draw(ROWS, dim)
    in_memory = functools.partial(ae.scan, x, y)
    scan = in_memory
    if source == "npy":
        np.save(tmp_path / "x.npy", x)
        scan = functools.partial(ae.scan, tmp_path / "x.npy", y)
    elif source.startswith("parquet"):
        features = {"x": x} if "lists" in source else {f"f{i}": x[:, i] for i in range(dim)}
        frame = pl.DataFrame(features | {"label": y})
        codec: Any = "uncompressed" if "uncompressed" in source else "zstd"
        frame.write_parquet(tmp_path / "x.parquet", compression=codec)
        del features, frame
        scan = functools.partial(ae.scan, tmp_path / "x.parquet")

    # numpy knows that x.T @ x is symmetric and computes half of it.
    part = np.ascontiguousarray(x[: ROWS // 8])
    sides: dict[str, Callable[[], object]] = {
        "scan": scan,
        "in memory": in_memory,
        "gemm": lambda: part.T @ part,
        "read": lambda: x.max(),
    }
    best = in_turn(sides, seconds=4.0)
    gemm, read = 8 * best["gemm"], 2 * best["read"]
    benchmark.extra_info |= {
        "times_of_gemm": best["scan"] / gemm,
        "times_of_scan_in_memory": best["scan"] / best["in memory"],
        "times_of_two_reads": best["scan"] / read,
    }
    report(
        f"spectral {source:25} {ROWS:7} x {dim}: {best['scan']:5.2f} s = "
        f"{best['scan'] / best['in memory']:4.2f} x in memory, "
        f"{best['scan'] / gemm:4.2f} x numpy's float32 x.T @ x ({gemm:4.2f} s), "
        f"{best['scan'] / read:5.1f} x two single-threaded reads ({read:4.2f} s)"
    )
    benchmark.pedantic(scan, rounds=1, iterations=1)
