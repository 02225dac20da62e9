"""`check_bundle`: believe nothing in a bundle but what can be shown again.

| level | what was done |
|---|---|
| L0 | structure, every digest, the statement, the Merkle root |
| L1 | every accuracy, interval and gate recomputed from the rows |
| L2 | every adversarial example replayed on the bundled model; on the data that is there, clean
verdicts compared and scans done again |
| L2+ | all of the data is there, and every certified sample was proven again |

L2+ is the work of the checker of certificates, which shares no code with the certifiers. Nothing
here says that `open` samples are safe: nothing can.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AisecError, RunError, UnsafeArtifactError
from ..suite.identity import canonical
from . import contents, replay, rows
from .aggregate import aggregate
from .archive import pack, unpack
from .lock import read_lock
from .statement import NAME, statement, subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..results import Run
    from .lock import Lock

LEVELS = ("L0", "L1", "L2", "L2+")
MEANING = {
    "": "not even intact",
    "L0": "intact",
    "L1": "numbers recomputed",
    "L2": "adversarial examples replayed",
    "L2+": "replayed, and certified again",
}


@dataclass(frozen=True)
class BundleCheck:
    """What a bundle is worth."""

    path: Path
    digest: str
    """SHA-256 of the file."""
    level: str
    """The highest of LEVELS that was reached, empty where not even the first."""
    failures: tuple[str, ...]
    """One line for everything that does not hold."""
    notes: tuple[str, ...] = ()
    """One line for everything that could not be checked."""
    lock: Lock | None = None
    run: Run | None = None
    """What the bundle holds, where it could be read; its verdicts are worth its level."""

    @property
    def holds(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.failures


def check_bundle(
    path: str | Path,
    *,
    data: Mapping[str, Path] | None = None,
    certify: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> BundleCheck:
    """Check a bundle as far as it can be checked here.

    Args:
        path: the file.
        data: files of the datasets that are files, by their id in the suite.
        certify: whether to run certifiers again (level L2+).
        progress: called with steps done, steps in all, and what comes next.

    Returns:
        The level reached, and a line for each thing that does not hold or could not be checked.

    Raises:
        RunError: there is no such file.
        UnsafeArtifactError: the file is not safe to read: not the zip a bundle is, a model that
            reaches outside, ...
    """
    source = Path(path)
    members = unpack(source)
    found = BundleCheck(source, hashlib.sha256(pack(members)).hexdigest(), "", ())
    with tempfile.TemporaryDirectory(prefix="aisec-bundle-") as home:
        checked = _Checker(found, members, Path(home), data or {}).check(certify, progress)
    return (
        checked if checked.run is None else replace(checked, run=replace(checked.run, path=source))
    )


class _Checker:
    """The steps of a check, each only after the one before it held."""

    def __init__(
        self, found: BundleCheck, members: Mapping[str, bytes], home: Path, data: Mapping[str, Path]
    ) -> None:
        self.found = found
        self.members = members
        self.home = home
        self.data = data
        self.inputs: replay.Inputs | None = None

    def check(self, certify: bool, progress: Callable[[int, int, str], None] | None) -> BundleCheck:
        steps = [self.intact, self.recomputed, self.replayed, *([self.again] if certify else [])]
        for number, (level, step) in enumerate(zip(LEVELS, steps, strict=False)):
            if progress is not None:
                progress(number, len(steps), MEANING[level])
            try:
                failures = step()
            except UnsafeArtifactError:
                raise
            except AisecError as error:
                failures = [self.relative(str(error))]
            if failures:
                return replace(self.found, failures=tuple(failures))
            if level == LEVELS[-1] and self.found.notes:
                return self.found
            self.found = replace(self.found, level=level)
        return self.found

    def relative(self, message: str) -> str:
        """Leave out the temporary folder: names are then those of the run inside."""
        return " ".join(message.replace(f"{self.home}/", "").split())

    def intact(self) -> list[str]:
        """L0: the members are those the statement names, whole, and make one run."""
        if not {NAME, "suite.lock.json"} <= self.members.keys():
            return [f"{NAME} or suite.lock.json is missing"]
        claimed = contents.canonical_json(self.members, NAME)
        failures = _digests(claimed.get("subject"), self.members)
        if failures:
            return failures
        lock = read_lock(self.members["suite.lock.json"])
        odd = sorted(contents.expected(lock) ^ self.members.keys())
        if odd:
            return [f"{odd[0]}: {'no part of this suite' if odd[0] in self.members else 'missing'}"]
        contents.canonical_json(self.members, "env.json")
        run = contents.restore(self.members, lock, self.home / "run")
        self.found = replace(self.found, lock=lock, run=run)
        stated, expected = _without_gates(claimed), _without_gates(self.statement())
        if stated != expected:
            return [f"{NAME}: is not what the files say, or its Merkle root is not theirs"]
        return []

    def recomputed(self) -> list[str]:
        """L1: every number follows from the rows."""
        failures = []
        if self.members["aggregate.json"] != canonical(self.aggregate()):
            failures.append("aggregate.json: not what the rows give")
        if self.members[NAME] != canonical(self.statement()):
            failures.append(f"{NAME}: its gates are not how the rows fare")
        return failures

    def replayed(self) -> list[str]:
        """L2: the adversarial examples hold, and what can be compared with data does."""
        run, lock = self.read()
        self.inputs = replay.load(self.members, lock, self.home, self.data)
        self.found = replace(self.found, notes=self.inputs.notes)
        if self.inputs.problems:
            return self.inputs.problems
        return replay.evidence(run, self.inputs) + replay.scans(run, lock, self.inputs)

    def again(self) -> list[str]:
        """L2+: bounds derived once more, by code that did not make them."""
        run, lock = self.read()
        if self.inputs is None:
            raise RunError("certified before anything was loaded")
        return replay.certificates(run, lock, self.inputs)

    def read(self) -> tuple[Run, Lock]:
        if self.found.run is None or self.found.lock is None:
            raise RunError("not read yet")
        return self.found.run, self.found.lock

    def aggregate(self) -> dict[str, Any]:
        run, lock = self.read()
        return aggregate(lock, contents.evaluations(run), contents.scans(run))

    def statement(self) -> dict[str, Any]:
        run, lock = self.read()
        tree = rows.root(contents.evaluations(run))
        return statement(self.members, lock, self.aggregate(), *tree)


def _digests(claimed: object, members: Mapping[str, bytes]) -> list[str]:
    """Compare every member with the digest the statement has of it."""
    stated = {}
    for subject in claimed if isinstance(claimed, list) else ():
        if not isinstance(subject, dict) or not isinstance(subject.get("name"), str):
            return [f"{NAME}: a subject has no name"]
        stated[subject["name"]] = subject
    there = {subject["name"]: subject for subject in subjects(members)}
    failures = [
        f"{name}: not the file the statement names"
        if name in stated
        else f"{name}: not named by the statement"
        for name, subject in there.items()
        if stated.get(name) != subject
    ]
    return failures + [f"{name}: named by the statement, missing" for name in stated.keys() - there]


def _without_gates(claimed: Mapping[str, Any]) -> dict[str, Any]:
    predicate = claimed.get("predicate")
    kept = dict(predicate) if isinstance(predicate, dict) else {}
    kept.pop("gates", None)
    return {**claimed, "predicate": kept}
