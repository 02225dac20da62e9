"""scan() beside what bounds it: NumPy in two passes, a float32 GEMM of equal FLOPs, two reads."""

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
CLASSES, DRAWN, GROUP = 10, 1 << 15, 1 << 18
SOURCES = {
    "array": (4 * GROUP, 128),
    "npy": (4 * GROUP, 128),
    "parquet zstd": (2 * GROUP, 128),
    "parquet uncompressed": (2 * GROUP, 128),
    "parquet lists": (2 * GROUP, 128),
    "array wide": (1_000_000, 512),
    "parquet zstd wide": (GROUP, 512),
    "parquet uncompressed wide": (GROUP, 512),
    "parquet lists wide": (GROUP, 512),
    "parquet zstd lists wide": (GROUP, 512),
}
"""Rows and features; those of Parquet are whole row groups."""


def draw(rows: int, dim: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features without structure: rows drawn once, and again and again after them."""
    drawn = np.random.default_rng(0).standard_normal((DRAWN, dim), dtype=np.float32)
    x = np.empty((rows, dim), np.float32)
    for first in range(0, rows, DRAWN):
        x[first : first + DRAWN] = drawn[: rows - first]
    return x, np.arange(rows, dtype=np.int64) % CLASSES


def two_passes(x: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float32]:
    """The same scores by NumPy in float32, 65,536 rows at a time."""
    dim = x.shape[1]
    parts = [slice(first, first + (1 << 16)) for first in range(0, len(x), 1 << 16)]
    count, total = np.zeros(CLASSES), np.zeros((CLASSES, dim))
    products = np.zeros((CLASSES, dim, dim), np.float32)
    for part in parts:
        for c in range(CLASSES):
            own = x[part][y[part] == c]
            count[c] += len(own)
            total[c] += own.sum(axis=0)
            products[c] += own.T @ own
    mean = total / count[:, None]
    lead = [
        np.linalg.eigh(products[c] / count[c] - np.outer(mean[c], mean[c]))[1][:, -1]
        for c in range(CLASSES)
    ]
    score = np.empty(len(x), np.float32)
    for part in parts:
        for c in range(CLASSES):
            inside = y[part] == c
            along = (x[part][inside] - mean[c].astype(np.float32)) @ lead[c].astype(np.float32)
            score[part][inside] = along**2
    return score


def write(folder: Path, source: str, x: NDArray[np.float32], y: NDArray[np.int64]) -> Path:
    """Write the features where the scan reads them from."""
    if source == "npy":
        np.save(folder / "x.npy", x)
        return folder / "x.npy"
    columns = {"x": x} if "lists" in source else {f"f{i}": x[:, i] for i in range(x.shape[1])}
    path = folder / "x.parquet"
    pl.DataFrame(columns | {"label": y}).write_parquet(
        path, compression="zstd" if "zstd" in source else "uncompressed", row_group_size=GROUP
    )
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_spectral(
    source: str,
    tmp_path: Path,
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    rows, dim = SOURCES[source]
    x, y = draw(rows, dim)
    # numpy knows that x.T @ x is symmetric and computes half of it.
    part = slice(0, rows // 8)
    sides: dict[str, Callable[[], object]] = {
        "in memory": functools.partial(ae.scan, x, y),
        "numpy": functools.partial(two_passes, x[part], y[part]),
        "gemm": lambda: x[part].T @ x[part],
        "read": lambda: x[part].max(),
    }
    scan = sides["in memory"]
    if not source.startswith("array"):
        path = write(tmp_path, source, x, y)
        scan = functools.partial(ae.scan, path, y if source == "npy" else None)
        sides["scan"] = scan
    best = in_turn(sides, seconds=0.5)
    best.setdefault("scan", best["in memory"])
    numpy, gemm, read = 8 * best["numpy"], 8 * best["gemm"], 16 * best["read"]
    benchmark.extra_info |= {
        "times_of_numpy": best["scan"] / numpy,
        "times_of_gemm": best["scan"] / gemm,
        "times_of_scan_in_memory": best["scan"] / best["in memory"],
        "times_of_two_reads": best["scan"] / read,
    }
    report(
        f"spectral {source:25} {rows:7} x {dim}: {best['scan']:5.2f} s = "
        f"{best['scan'] / best['in memory']:4.2f} x in memory, "
        f"{best['scan'] / numpy:4.2f} x NumPy in two passes ({numpy:4.2f} s), "
        f"{best['scan'] / gemm:4.2f} x numpy's float32 x.T @ x ({gemm:4.2f} s), "
        f"{best['scan'] / read:5.1f} x two single-threaded reads ({read:4.2f} s)"
    )
    benchmark.pedantic(scan, rounds=1, iterations=1)
