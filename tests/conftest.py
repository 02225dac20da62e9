"""Thread limits, set before any library starts its pools, and the reference data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Two busy pools on one small machine wait for each other; set before numpy or JAX is imported.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
os.environ.setdefault("POLARS_MAX_THREADS", "2")
os.environ.setdefault("RAYON_NUM_THREADS", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).resolve().parent))


def reference_folder() -> Path:
    """Where the reference data is: `AISEC_EVAL_REFERENCE`, else beside the repository."""
    return Path(os.environ.get("AISEC_EVAL_REFERENCE", ROOT.parent / "shared" / "data"))


def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis is quick by default; `HYPOTHESIS_PROFILE=thorough` searches for long."""
    del config
    from hypothesis import HealthCheck, settings

    common = {
        "deadline": None,
        "suppress_health_check": [HealthCheck.too_slow],
        "derandomize": True,
    }
    settings.register_profile("quick", max_examples=50, **common)
    settings.register_profile("thorough", max_examples=2000, **common)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `reference` tests, saying why, where the data is absent."""
    folder = reference_folder()
    if (folder / "README.md").is_file():
        return
    absent = pytest.mark.skip(reason=f"no reference data at {folder} (set AISEC_EVAL_REFERENCE)")
    for item in items:
        if "reference" in item.keywords or "reference" in getattr(item, "fixturenames", ()):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the reference data."""
    return reference_folder()
