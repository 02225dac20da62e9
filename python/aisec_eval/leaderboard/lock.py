"""`suite.lock.json`: the suite resolved, so that nothing about what was run is left open.

It is canonical JSON; its SHA-256 is the suite's id. Read strictly: every key known, every value of
its type, every reference leading somewhere, the bytes exactly those that `dump` gives.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
)

from ..errors import AisecError, InputError, RunError
from ..suite.identity import canonical, digest, engine, ranges, samples_digest
from ..suite.load import is_file_source
from ..threats import L1, L2, Linf, ThreatModel, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ..results import Run
    from ..suite.plan import Cell, Plan

MAX_ROWS = 10_000_000
"""Most rows of one bundle."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Rational = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,40}(/[1-9][0-9]{0,39})?$")]
Entry = Annotated[str, StringConstraints(pattern=r"^[0-9]{3,6}-[a-z0-9.-]{1,100}$")]
Text = Annotated[str, StringConstraints(max_length=10_000)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Range = Annotated[list[Count], Field(min_length=2, max_length=2)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LockedSuite(_Table):
    """Which suite it was."""

    name: Identifier
    version: Identifier
    description: Text
    seed: Count
    sha256: Hex
    """Of the suite file."""


class LockedModel(_Table):
    """A model, whose file is in the bundle."""

    id: Identifier
    digest: Hex
    """Of what it computes, as the engine names it."""
    input_shape: Annotated[list[Count], Field(max_length=8)]
    file: Text


class LockedPlant(_Table):
    """Poison that was planted."""

    rate: Rational
    target: Count
    size: Count
    seed: Count


class LockedData(_Table):
    """A dataset, named or a file that is not in the bundle."""

    id: Identifier
    source: Text
    file: bool
    """Whether `source` is the name of a file rather than of a dataset."""
    split: Text | None
    ids: Range | None
    plant: LockedPlant | None
    digest: Hex


class LockedThreat(_Table):
    """A threat model in exact terms."""

    id: Identifier
    norm: Literal["linf", "l2", "l1"]
    eps: Rational
    bounds: Annotated[list[float], Field(min_length=2, max_length=2)]

    def ball(self) -> ThreatModel:
        """Return the threat model; raises InputError where the radius does not fit the bounds."""
        kinds: dict[str, type[ThreatModel]] = {"linf": Linf, "l2": L2, "l1": L1}
        return kinds[self.norm](Fraction(self.eps), bounds=(self.bounds[0], self.bounds[1]))


class LockedRegion(_Table):
    """A threat model that is no ball, as it describes itself: a patch, a frame, a table."""

    id: Identifier
    describes: dict[str, JsonValue]

    @property
    def norm(self) -> str:
        """What kind it is."""
        return str(self.describes.get("norm"))

    def ball(self) -> ThreatModel:
        """Return the threat model; raises InputError where it is none, or stated otherwise."""
        found = parse(self.describes)
        if found.constraint is None or found.describe() != self.describes:
            raise InputError("threat: not how the engine states a patch, a frame or a table")
        return found


class LockedCell(_Table):
    """One entry of the results: a task on one dataset, and one model and threat model."""

    kind: Literal["evaluate", "scan"]
    entry: Entry
    task: Identifier
    data: Identifier
    samples: Hex
    """Digest of the inputs and labels."""
    ids: Annotated[list[Range], Field(min_length=1)]
    """Sample ids as runs [first, one past the last], in the order of the rows."""
    model: Identifier | None = None
    threat: LockedThreat | LockedRegion | None = None
    settings: dict[str, str | int | float | bool | None]

    @property
    def rows(self) -> int:
        """Number of samples."""
        return sum(stop - first for first, stop in self.ids)

    def sample_ids(self) -> NDArray[np.int64]:
        """Sample ids [rows], in the order of the rows."""
        return np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in self.ids])

    @property
    def where(self) -> str:
        """How gates and messages call it: `normal, Linf 8/255, digits`."""
        ball = "" if self.threat is None else str(self.threat.ball())
        return ", ".join(part for part in (self.model or "", ball, self.data) if part)


class LockedGate(_Table):
    """One line of `[gate]`."""

    metric: Text
    """With its scopes, as written in the suite."""
    claim: Text


class Lock(_Table):
    """The resolved suite."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    suite: LockedSuite
    engine: dict[str, Text]
    gates: list[LockedGate]
    """In the order of the suite file."""
    models: list[LockedModel]
    data: list[LockedData]
    cells: Annotated[list[LockedCell], Field(min_length=1)]

    def dump(self) -> bytes:
        """Return the canonical bytes."""
        return canonical(self.model_dump(mode="json", by_alias=True))

    @property
    def id(self) -> str:
        """SHA-256 of the canonical bytes."""
        return hashlib.sha256(self.dump()).hexdigest()

    def of(self, kind: Literal["evaluate", "scan"]) -> list[LockedCell]:
        """Return the cells of a kind, in order."""
        return [cell for cell in self.cells if cell.kind == kind]


def track(cell: LockedCell) -> str:
    """Name what makes two evaluations comparable: the samples and the threat model."""
    if cell.threat is None:
        raise ValueError(f"{cell.entry} is no evaluation")
    threat = cell.threat.model_dump(mode="json", exclude={"id"})
    return digest({"samples": cell.samples, "ids": cell.ids, "threat": threat})


def read_lock(data: bytes) -> Lock:
    """Read `suite.lock.json`.

    Raises:
        RunError: it is not what `dump` writes, or contradicts itself.
    """
    try:
        lock = Lock.model_validate_json(data)
        if lock.dump() != data:
            raise RunError("suite.lock.json: not in canonical form")
        _check(lock)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"suite.lock.json: {place}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, AisecError):
            raise
        raise RunError(f"suite.lock.json: {' '.join(str(error).split())[:200]}") from None
    return lock


def _check(lock: Lock) -> None:
    models, data = {m.id for m in lock.models}, {d.id for d in lock.data}
    if len(models) != len(lock.models) or len(data) != len(lock.data):
        raise RunError("suite.lock.json: two models or two datasets have one id")
    for kind in ("evaluate", "scan"):
        entries = [cell.entry for cell in lock.cells if cell.kind == kind]
        if len(set(entries)) != len(entries):
            raise RunError("suite.lock.json: an entry is there twice")
    for cell in lock.cells:
        whole = cell.data in data and all(first < stop for first, stop in cell.ids)
        if cell.kind == "evaluate":
            whole = whole and cell.model in models and cell.threat is not None
            _ = cell.where  # the radius fits the bounds
        if not whole:
            raise RunError(f"suite.lock.json: entry {cell.entry} refers to nothing")
    if sum(cell.rows for cell in lock.cells) > MAX_ROWS:
        raise RunError(f"suite.lock.json: more than {MAX_ROWS} rows")


def make_lock(plan: Plan, run: Run, files: Mapping[str, str]) -> Lock:
    """Resolve a suite that was run.

    Args:
        plan: of the suite.
        run: its finished run.
        files: the members that hold the models, by model id.
    """
    suite = plan.suite
    used = {cell.model: cell for cell in plan.cells if cell.kind == "evaluate"}
    sampled = {cell.data: cell for cell in plan.cells}
    entries: Sequence[Any] = run.manifest["cells"]
    infos = dict(zip(run.manifest["evaluations"], run.evaluations, strict=True))
    scans = dict(zip(run.manifest["scans"], run.scans, strict=True))
    return Lock(
        suite=LockedSuite(
            name=suite.name,
            version=suite.version,
            description=suite.description,
            seed=suite.seed,
            sha256=hashlib.sha256(Path(suite.path).read_bytes()).hexdigest(),
        ),
        engine={**engine(), **run.manifest.get("engine", {})},
        gates=[LockedGate(metric=m, claim=c) for m, c in suite.gate.items()],
        models=[
            LockedModel(
                id=m.id,
                digest=used[m.id].model_digest,
                input_shape=list(used[m.id].samples.x.shape[1:]),
                file=files[m.id],
            )
            for m in suite.model
            if m.id in used
        ],
        data=[
            LockedData(
                id=d.id,
                source=PurePath(d.source).name if is_file_source(d.source) else d.source,
                file=is_file_source(d.source),
                split=d.split,
                ids=None if d.ids is None else list(d.ids),
                plant=None
                if d.plant is None
                else LockedPlant(
                    rate=str(d.plant.rate),
                    target=d.plant.target,
                    size=d.plant.size,
                    seed=suite.seed,
                ),
                digest=sampled[d.id].samples.digest,
            )
            for d in suite.data
            if d.id in sampled
        ],
        cells=[
            _locked(cell, about["entry"], (scans if cell.kind == "scan" else infos)[about["entry"]])
            for cell, about in zip(plan.cells, entries, strict=True)
        ],
    )


def _locked(cell: Cell, entry: str, result: Any) -> LockedCell:
    if cell.threat is None:
        threat, settings = None, _scan_settings(cell)
    else:
        threat = _locked_threat(cell.threat_id, cell.threat)
        settings = {key: value for key, value in result.info.items() if key != "threat"}
    return LockedCell(
        kind=cell.kind,
        entry=entry,
        task=cell.task,
        data=cell.data,
        samples=samples_digest(cell.samples.x, cell.samples.y),
        ids=ranges(cell.samples.ids),
        model=cell.model or None,
        threat=threat,
        settings=settings,
    )


def _locked_threat(name: str, threat: ThreatModel) -> LockedThreat | LockedRegion:
    if threat.constraint is not None:
        return LockedRegion(id=name, describes=threat.describe())
    return LockedThreat(
        id=name,
        norm=threat.norm,  # type: ignore[arg-type]  # bundles are of balls and regions only
        eps=str(threat.eps),
        bounds=list(threat.bounds),
    )


def _scan_settings(cell: Cell) -> dict[str, Any]:
    identity = cell.shards[0].identity
    return {"method": identity["method"], "rate": identity["rate"]}
