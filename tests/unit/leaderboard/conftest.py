"""One small run and its bundle, for all tests of the room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from aisec_eval.leaderboard import bundle
from helpers.tiny_bundle import run_here
from helpers.tiny_suite import write_suite

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Bundled:
    suite: Path
    run: Path
    path: Path
    data: dict[str, Path]
    """The datasets, which are a file."""


def bundled(folder: Path) -> Bundled:
    suite = write_suite(folder)
    run_here(suite, folder / "run")
    path = bundle(folder / "run", suite, folder / "tiny.zip")
    data = dict.fromkeys(("digits", "poisoned"), folder / "digits.npz")
    return Bundled(suite, folder / "run", path, data)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    return bundled(tmp_path_factory.mktemp("bundle"))
