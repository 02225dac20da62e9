"""What names a shard: the hash of everything its result depends on, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROOMS = (
    "attacks",
    "certifiers",
    "datasets",
    "detectors",
    "models",
    "_core*",
    "_validate.py",
    "cases.py",
    "evaluation.py",
    "parts.py",
    "findings.py",
    "results.py",
    "features.py",
    "lattice.py",
    "threats",
    "_exact.py",
    "suite/attack_table.py",
    "suite/ensemble_shards.py",
    "suite/inputs.py",
    "suite/execute_shard.py",
    "suite/scan_shards.py",
    "suite/tables.py",
    "suite/train_function.py",
)
"""The parts of the package that decide what a shard computes."""


def canonical(value: Any) -> bytes:
    """Return `value` as canonical JSON: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """Return the SHA-256 of `value`'s canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


@cache
def engine() -> dict[str, str]:
    """Return what identifies this build: its version and the hash of the code that computes."""
    from .._core import __version__

    package = Path(__file__).parent.parent
    build = hashlib.sha256()
    for pattern in _ROOMS:
        for found in sorted(package.glob(pattern)):
            for file in sorted(found.rglob("*.py")) if found.is_dir() else [found]:
                if file.suffix == ".pyi":
                    continue
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                build.update(f"{file.relative_to(package).as_posix()} {content}\n".encode())
    return {"version": __version__, "build": build.hexdigest()}


def samples_digest(x: NDArray[np.float32], y: NDArray[np.int64]) -> str:
    """Return the SHA-256 of samples and labels: bytes, shape and dtype."""
    import numpy as np

    found = hashlib.sha256(f"{x.dtype.str}{x.shape}{y.dtype.str}".encode())
    found.update(np.ascontiguousarray(x).data)
    found.update(np.ascontiguousarray(y).data)
    return found.hexdigest()


def ranges(ids: NDArray[np.int64]) -> list[list[int]]:
    """Return ascending runs of ids as `[first, one past the last]`: short, and exact."""
    import numpy as np

    breaks = np.flatnonzero(np.diff(ids) != 1) + 1
    return [[int(part[0]), int(part[-1]) + 1] for part in np.split(ids, breaks) if len(part)]
