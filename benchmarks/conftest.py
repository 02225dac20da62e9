"""Benchmarks compare both sides in one run, in turn; ratios are what they report."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

# Set before numpy or JAX starts its threads, so that no side waits for another side's pool.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(os.cpu_count()))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
LINES = pytest.StashKey[list[str]]()

# What several benchmarks share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the reference data; skips where it is absent."""
    folder = Path(os.environ.get("AISEC_EVAL_REFERENCE", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no reference data at {folder} (set AISEC_EVAL_REFERENCE)")
    return folder


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the summary at the end of the run."""
    return request.config.stash.setdefault(LINES, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints the reported lines."""
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def in_turn() -> Callable[..., dict[str, float]]:
    """Runs several sides in turn: `in_turn({name: call}, seconds=1.0) -> {name: best seconds}`."""
    return _in_turn


def _in_turn(sides: dict[str, Callable[[], object]], seconds: float = 1.0) -> dict[str, float]:
    """Seconds of each side's best call, the sides called in turn for about `seconds` each.

    The best of many short calls is what the machine can do; a busy neighbour slows every side
    down alike, and medians with it.
    """
    for call in sides.values():
        call()
    best = dict.fromkeys(sides, float("inf"))
    end = time.perf_counter() + seconds * len(sides)
    while time.perf_counter() < end:
        for name, call in sides.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best
