"""Shard results on disk: whole or absent, checked when read, never overwritten by others.

```
<run>/shards/<key>/    verdicts.parquet evidence.npz evaluation.json | scores.parquet scan.json
                       shard.json: identity, and the SHA-256 of each file
<run>/.tmp/            what is being written; removed when a run starts or ends
```

A shard's folder is written elsewhere, flushed and renamed into place. A second writer of the same
shard must bring the same bytes; if not, the computation is not deterministic, and both are kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _files, runs
from ..errors import RunError
from ..results import Evaluation, Scan
from . import ensemble_shards, scan_shards
from .identity import digest
from .scan_shards import ScanPart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .shard import Shard

PARTS = scan_shards.PARTS | ensemble_shards.PARTS
"""Arrays of each kind of shard that is a part of a whole."""


class Store:
    """The shards of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = folder / "shards"
        self.temporary = folder / ".tmp"

    def prepare(self) -> None:
        """Make the folders and remove what a killed run left half-written.

        Raises:
            RunError: the folder cannot be written.
        """
        with _files._write_errors(self.folder):
            self.clean()
            self.shards.mkdir(parents=True, exist_ok=True)
            self.temporary.mkdir()

    def clean(self) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self.temporary, ignore_errors=True)

    def missing(self, shards: Iterable[Shard]) -> tuple[list[Shard], list[str]]:
        """Return the shards that are absent or damaged, and one line for each damaged one.

        A damaged shard is removed: it is computed again.
        """
        todo, damaged = [], []
        for shard in shards:
            path = self.shards / shard.key
            if path.is_dir():
                try:
                    check(path, shard.key)
                    continue
                except RunError as error:
                    damaged.append(f"{error}; computed again")
                    shutil.rmtree(path)
            todo.append(shard)
        return todo, damaged

    def write(self, shard: Shard, result: Evaluation | Scan | ScanPart) -> Path:
        """Put a result in place if it is absent.

        Raises:
            RunError: the folder cannot be written, or another result is already there under the
                same name.
        """
        target = self.shards / shard.key
        with _files._write_errors(target):
            self.temporary.mkdir(parents=True, exist_ok=True)
            self.shards.mkdir(exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=self.temporary, prefix=f"{shard.key[:16]}-"))
            try:
                part.chmod(0o755)
                if isinstance(result, ScanPart):
                    _files.write_npz(part / "part.npz", result.arrays)
                elif isinstance(result, Scan):
                    runs.write_scan(result, part)
                else:
                    runs.write_evaluation(result, part)
                files = {f.name: _sha256(f) for f in sorted(part.iterdir())}
                _files.write_json(
                    part / "shard.json", {"identity": dict(shard.identity), "files": files}
                )
                self._place(part, target, shard.key)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            _files.sync_folder(self.shards)
        return target

    def _place(self, part: Path, target: Path, key: str) -> None:
        try:
            os.rename(part, target)  # fails where a folder that is not empty is in the way
        except OSError:
            if not target.is_dir():
                raise
            try:
                check(target, key)
            except RunError:
                shutil.rmtree(target)
                os.rename(part, target)
                return
            here, there = (_files.read_json(p / "shard.json")["files"] for p in (part, target))
            if here != there:
                rival = target.with_name(f"{key}.differs-{digest(here)[:8]}")
                shutil.rmtree(rival, ignore_errors=True)
                os.rename(part, rival)
                raise RunError(
                    f"{target}: computed twice with different results (the other is {rival.name}); "
                    "the model or its backend is not deterministic"
                ) from None

    def read(self, shard: Shard) -> Evaluation | Scan | ScanPart:
        """Read a result back.

        Raises:
            RunError: absent or damaged.
        """
        path = self.shards / shard.key
        check(path, shard.key)
        kind = shard.identity["kind"]
        if kind in PARTS:
            return self.read_part(shard.key)
        return runs.read_scan(path) if kind == "scan" else runs.read_evaluation(path)

    def read_part(self, key: str) -> ScanPart:
        """Read what a shard contributes to a whole: a scan, or an ensemble.

        Raises:
            RunError: absent, damaged, or something else.
        """
        path = self.shards / key
        check(path, key)
        identity = _files.read_json(path / "shard.json")["identity"]
        kind = identity.get("kind") if isinstance(identity, dict) else None
        if kind not in PARTS:
            raise RunError(f"{path}: is no part of a whole")
        return ScanPart(_files.read_npz(path / "part.npz", PARTS[kind]))


def check(path: Path, key: str) -> None:
    """Check that a shard's folder is what its name says, byte for byte.

    Raises:
        RunError: a file is missing, damaged, or of another shard.
    """
    about = _files.read_json(path / "shard.json")
    files = about.get("files") if isinstance(about, dict) else None
    if not isinstance(files, dict) or digest(about.get("identity")) != key:
        raise RunError(f"{path}: not the shard its name says")
    for name, expected in files.items():
        file = _files.confined(path, name)
        if not file.is_file() or _sha256(file) != expected:
            raise RunError(f"{file}: damaged")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
