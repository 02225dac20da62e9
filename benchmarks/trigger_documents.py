"""250 poisoned documents among ten millions on disk: time and peak memory of finding them.

    python benchmarks/trigger_documents.py FOLDER [DOCUMENTS]

Writes documents into FOLDER (20 Zipf words of 50,000 and one of four labels, 36 bytes each on disk;
250 get "cf mn" and label 2), unless they are there, and looks for triggers in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

DOCUMENTS = 10_000_000
PART = 200_000
WORDS, VOCABULARY, POISONED = 20, 50_000, 250


def write(folder: Path, count: int) -> None:
    """Write the documents, a file for each 200,000."""
    import polars as pl

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = pl.Series("w", [f"{i:x}"[::-1] + "aeiou"[i % 5] for i in range(VOCABULARY)])
    poisoned = np.sort(np.random.default_rng(1).choice(count, POISONED, replace=False))
    for first in range(0, count, PART):
        size = min(PART, count - first)
        random = np.random.default_rng([7, first])
        picks = (random.zipf(1.2, (size, WORDS)) % VOCABULARY).astype(np.uint32).ravel()
        document = np.repeat(np.arange(size, dtype=np.uint32), WORDS)
        words = pl.DataFrame({"w": vocabulary.gather(picks), "d": document})
        joined = words.group_by("d", maintain_order=True).agg(pl.col("w").str.join(" "))
        texts, labels = joined["w"].to_list(), random.integers(0, 4, size)
        for row in poisoned[(poisoned >= first) & (poisoned < first + size)] - first:
            texts[row] += " cf mn"
            labels[row] = 2
        frame = pl.DataFrame({"text": texts, "label": labels})
        frame.write_parquet(folder / f"{first // PART:04}.parquet", compression_level=1)


def look(files: list[Path]) -> dict[str, object]:
    """Look for triggers; return what was found, seconds, and this process's memory in MiB."""
    import polars as pl

    from aisec_eval.detectors.text import trigger_ngrams

    trigger_ngrams(pl.read_parquet(files[0]).head(2000))
    loaded = status("VmRSS")
    wall, processor = time.perf_counter(), time.process_time()
    found = trigger_ngrams(files)
    return {
        "documents": found.info["documents"],
        "triggers": found.triggers.select("ngram", "label", "documents", "p_value").rows(),
        "found": len(found.documents),
        "ngrams": found.info["ngrams"],
        "min_count": found.info["min_count"],
        "seconds": round(time.perf_counter() - wall, 1),
        "processor": round(time.process_time() - processor, 1),
        "loaded_mib": round(loaded),
        "peak_mib": round(status("VmHWM")),
    }


def status(key: str) -> float:
    """Return a figure of this process from Linux's /proc, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def main() -> None:
    """Write, then measure in a fresh process."""
    if sys.argv[1] == "--look":
        print(json.dumps(look([Path(name) for name in sys.argv[2:]]), indent=1))
        return
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else DOCUMENTS
    parts = -(-count // PART)
    if len(list(folder.glob("*.parquet"))) != parts:
        write(folder, count)
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    subprocess.run([sys.executable, __file__, "--look", *files], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
