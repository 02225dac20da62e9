"""Texts: near-duplicates of a million, 250 triggers in a million, duplicate substrings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from aisec_eval.detectors.text import duplicate_substrings, near_duplicates, trigger_ngrams

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

InTurn: TypeAlias = "Callable[..., dict[str, float]]"

# A process of its own: its peak memory is that of nothing else.
MILLION = """
import json, resource, sys, time
import polars as pl
from aisec_eval.detectors.text import near_duplicates
def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

near_duplicates(pl.scan_parquet(sys.argv[1]).head(1000))
loaded = status("VmRSS")
before = resource.getrusage(resource.RUSAGE_SELF)
start = time.perf_counter()
found = near_duplicates(sys.argv[1])
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "documents": len(found.cluster), "duplicates": int(found.duplicate.sum()), "wall": seconds,
    "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    "peak_mib": status("VmHWM"), "loaded_mib": loaded,
    "disk_mib": found.info["bytes_on_disk"] / 2**20,
}))
"""


def texts(count: int, words: int = 55, seed: int = 0) -> list[str]:
    """Zipf words; every tenth text is the one before with a word changed."""
    random = np.random.default_rng(seed)
    vocabulary = np.array([f"{i:x}"[::-1] + "aeiou"[i % 5] for i in range(50_000)])
    picks = random.zipf(1.2, (count, words)) % len(vocabulary)
    picks[9::10] = picks[8::10]
    picks[9::10, words // 3] = 7
    return [" ".join(row) for row in vocabulary[picks]]


def test_million_near_duplicates(
    tmp_path: Path, benchmark: Any, report: Callable[[str], None]
) -> None:
    import polars as pl

    parts = (pl.DataFrame({"text": texts(100_000, seed=seed)}) for seed in range(10))
    pl.concat([part.lazy() for part in parts]).sink_parquet(tmp_path / "x.parquet")
    measured: dict[str, float] = {}

    def run() -> None:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", MILLION, str(tmp_path / "x.parquet")],
            capture_output=True,
            text=True,
            check=True,
        )
        measured.update(json.loads(done.stdout))

    benchmark.pedantic(run, rounds=1, iterations=1)
    assert measured["duplicates"] > 80_000
    benchmark.extra_info |= measured
    report(
        f"near-duplicates of {measured['documents']:.0f} texts of 55 words in Parquet: "
        f"{measured['wall']:.2f} us a text, {measured['cpu']:.2f} us of processor; peak "
        f"{measured['peak_mib']:.0f} MiB ({measured['loaded_mib']:.0f} before), "
        f"{measured['disk_mib']:.0f} MiB on disk"
    )


def test_minhash_beside_hashing(
    benchmark: Any, report: Callable[[str], None], in_turn: InTurn
) -> None:
    """The floor: 53 shingles times 128 multiplications, additions and minima, in numpy."""
    documents = texts(20_000)
    hashed = np.random.default_rng(0).integers(0, 1 << 32, (200, 53, 1), dtype=np.uint32)
    factors = np.arange(128, dtype=np.uint32) * np.uint32(2654435761)
    sides: dict[str, Callable[[], object]] = {
        "near_duplicates": lambda: near_duplicates(documents),
        "numpy": lambda: (hashed * factors + hashed).min(1),
    }
    best = in_turn(sides, seconds=2.0)
    ratio = (best["near_duplicates"] / 20_000) / (best["numpy"] / 200)
    benchmark.extra_info["times_of_numpy_signatures"] = ratio
    report(
        f"near-duplicates, 20,000 texts in memory: {best['near_duplicates'] / 0.02:.2f} us a text "
        f"= {ratio:.3f} x numpy's minima of given shingle hashes, one thread"
    )
    benchmark.pedantic(sides["near_duplicates"], rounds=1, iterations=1)


@pytest.mark.parametrize("count", [1_000_000])
def test_250_triggers(count: int, benchmark: Any, report: Callable[[str], None]) -> None:
    random = np.random.default_rng(1)
    documents = texts(count, words=20)
    labels = random.integers(0, 4, count)
    for row in random.choice(count, 250, replace=False):
        documents[row] += " cf mn"
        labels[row] = 2
    found = benchmark.pedantic(lambda: trigger_ngrams(documents, labels), rounds=1, iterations=1)
    assert found.triggers["ngram"].to_list() == ["cf mn"]
    assert len(found.documents) == 250
    seconds = benchmark.stats["mean"]
    report(
        f"trigger in 250 of {count} texts of 20 words: p = {found.frame['p_value'][0]:.1e}, "
        f"{found.info['ngrams']} n-grams in at least {found.info['min_count']} texts, "
        f"{seconds / count * 1e6:.1f} us a text"
    )


def test_duplicate_substrings(
    benchmark: Any, report: Callable[[str], None], in_turn: InTurn
) -> None:
    documents = texts(50_000)
    size = sum(map(len, documents))
    words = np.random.default_rng(0).integers(0, 1 << 63, size)
    sides: dict[str, Callable[[], object]] = {
        "duplicate_substrings": lambda: duplicate_substrings(documents),
        "sort": lambda: np.sort(words),
    }
    best = in_turn(sides, seconds=2.0)
    ratio = best["duplicate_substrings"] / best["sort"]
    benchmark.extra_info["times_of_sorting_words"] = ratio
    report(
        f"duplicate substrings of 50 bytes in {size / 1e6:.0f} MB: "
        f"{best['duplicate_substrings'] / size * 1e9:.1f} ns a byte = {ratio:.2f} x numpy's sort "
        f"of as many 64-bit words"
    )
    benchmark.pedantic(sides["duplicate_substrings"], rounds=1, iterations=1)
