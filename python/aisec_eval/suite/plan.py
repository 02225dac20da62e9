"""From a suite to shards: what is to be computed, in which pieces, under which names.

A **cell** is one task on one model, one dataset and one threat model; a **shard** is a cell on a
range of samples. How many samples follows from an estimate of the cost, never from the number of
workers, so the same suite has the same shards everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import AisecError, InputError, SuiteError
from ..threats import Corruptions
from .attack_table import attack_objects
from .identity import engine, ranges, samples_digest
from .inputs import DataSource, ModelSource, Plant, Samples, load_samples, load_suite_model
from .load import is_file_source, split_scope
from .scan_shards import scan_shards
from .shard import Shard
from .spec import DataTable, EndpointTable, EvaluateTable, ModelTable, ScanTable, Suite
from .tables import is_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set
    from fractions import Fraction

    from ..models.base import Model
    from ..threats import ThreatModel
    from .gate import Gate

TARGET_WORK = 100_000_000_000
"""Multiply-adds one shard is to cost at most: 5 to 30 seconds on one core."""
CORRUPTION_WORK = 50_000_000
"""What making one corrupted image costs, some milliseconds, in multiply-adds."""
SHARD_SAMPLES = (16, 2048)
"""Fewest and most samples of a shard."""
MAX_CELLS = 100_000


@dataclass(frozen=True)
class Cell:
    """One task on one model, dataset and threat model."""

    kind: Literal["evaluate", "scan"]
    task: str
    data: str
    shards: tuple[Shard, ...]
    samples: Samples = field(repr=False)
    model: str = ""
    model_digest: str = ""
    threat: ThreatModel | None = None
    threat_id: str = ""

    @property
    def name(self) -> str:
        """How messages call it: `normal, Linf 8/255, digits`."""
        parts = (self.model, str(self.threat or ""), self.data)
        return ", ".join(part for part in parts if part)

    def matches(self, scopes: Iterable[str]) -> bool:
        """Whether every scope of a gate names something this cell has."""
        names = {self.model, self.data, self.task, self.threat_id}
        if self.threat is None:
            return matches(names, None, scopes)
        return matches(names | {self.threat.norm}, self.threat.eps, scopes)


def matches(names: Set[str], eps: Fraction | None, scopes: Iterable[str]) -> bool:
    """Whether every scope of a gate is one of `names`, the radius `eps`, or one with the other."""
    for scope in scopes:
        name, radius = split_scope(scope)
        whole = scope in names
        if not whole and not ((not name or name in names) and radius is not None and radius == eps):
            return False
    return True


@dataclass(frozen=True)
class Plan:
    """Every cell and shard of a suite."""

    suite: Suite
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()
    """What loading the models showed, one line each."""

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """Every shard once, in plan order; two cells may share one."""
        unique = {shard.key: shard for cell in self.cells for shard in cell.shards}
        return tuple(unique.values())

    def in_scope(self, gate: Gate) -> list[int]:
        """Return the indices of the cells a gate speaks of."""
        kind = "scan" if gate.of_scan else "evaluate"
        return [i for i, c in enumerate(self.cells) if c.kind == kind and c.matches(gate.scopes)]


def make_plan(suite: Suite) -> Plan:
    """Load every model and dataset of `suite` once and cut the work into shards.

    Raises:
        SuiteError: a radius, a target or a gate does not fit the data; too many cells.
        ModelImportError: a model cannot be read.
        DatasetError: a dataset cannot be read.
    """
    planner = _Planner(suite)
    cells: list[Cell] = []
    for index, task in enumerate(suite.task):
        name = task.id or f"task-{index}"
        if isinstance(task, ScanTable):
            cells += planner.scans(task, name)
        else:
            cells += planner.evaluations(task, name)
        if len(cells) > MAX_CELLS:
            raise SuiteError(f"{suite.path}: more than {MAX_CELLS} cells; split the suite")
    plan = Plan(suite, tuple(cells), tuple(planner.warnings))
    for gate in suite.gates:
        in_scope = plan.in_scope(gate)
        if not in_scope:
            raise SuiteError(f'{suite.path}: gate "{gate.key}" speaks of nothing this suite does')
        if gate.of_scan and any(cells[i].samples.poison is None for i in in_scope):
            raise SuiteError(
                f'{suite.path}: gate "{gate.key}" needs planted poison; add [data.plant]'
            )
    return plan


class _Planner:
    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.warnings: list[str] = []
        self.digests: dict[tuple[str, int, int], str] = {}

    def scans(self, task: ScanTable, name: str) -> Iterable[Cell]:
        for data in _chosen(self.suite.data, task.data):
            source = data_source(self.suite, data)
            if source.table:
                yield table_cell(self.suite, task, source, name)
                continue
            samples = load_samples(source)
            identity = {
                "kind": "scan",
                "schema": 1,
                "engine": engine(),
                "method": task.method,
                "rate": None if task.rate is None else str(task.rate),
                "data": data.id,
                "samples": self.rows_identity(data.id, samples, 0, len(samples.y)),
            }
            shard = Shard(identity, None, source, (0, len(samples.y)))
            yield Cell("scan", name, data.id, (shard,), samples)

    def evaluations(self, task: EvaluateTable, name: str) -> Iterable[Cell]:
        threats = [t for t in self.suite.threat if task.threats is None or t.name in task.threats]
        for table in _chosen(self.suite.model, task.models):
            for data in _chosen(self.suite.data, task.data):
                if data.plant is not None and task.data is None:
                    continue  # poisoned data is for scans unless a task asks for it by name
                source = data_source(self.suite, data)
                if source.table:
                    if task.data is None:
                        continue
                    raise SuiteError(
                        f"{self.suite.path}: data {data.id} is a table, which is for scans alone"
                    )
                samples = load_samples(source)
                place = model_source(self.suite, table)
                model = self.load(place, source)
                place = replace(place, input_shape=model.input_shape)
                self.check_fit(table, data, model, samples)
                for threat_table in threats:
                    try:
                        balls = threat_table.models(samples.bounds)
                    except InputError as error:
                        raise SuiteError(
                            f"{self.suite.path}: threat {threat_table.name} on {data.id}: {error}"
                        ) from None
                    for threat in balls:
                        yield Cell(
                            "evaluate",
                            name,
                            data.id,
                            tuple(self.shards(task, model, threat, data.id, source, place)),
                            samples,
                            model.name,
                            model.digest,
                            threat,
                            threat_table.name,
                        )

    def shards(
        self,
        task: EvaluateTable,
        model: Model,
        threat: ThreatModel,
        data_id: str,
        source: DataSource,
        place: ModelSource,
    ) -> Iterable[Shard]:
        from ..attacks import corruption_library
        from ..attacks.registry import resolve

        samples = load_samples(source)
        backend: str = task.backend
        if backend == "auto":
            if model.graph is not None:
                backend = "native"
            elif model.jax_function() is not None:
                backend = "jax"
        common: dict[str, Any] = {
            "kind": "evaluate",
            "schema": 1,
            "engine": engine() | (_jax_versions() if backend == "jax" else {}),
            "model": {"digest": model.digest, "name": model.name}
            | ({} if place.version is None else {"url": place.path, "version": place.version}),
            "threat": threat.describe(),
            "attacks": attacks_json(task),
            "certify": None if task.certify == "none" else task.certify,
            "backend": backend,
            "lattice": None if samples.lattice is None else str(samples.lattice),
            "seed": self.suite.seed,
        }
        if task.certify_seconds is not None:
            common["certify_seconds"] = str(task.certify_seconds)
        if isinstance(threat, Corruptions):
            common["library"] = corruption_library.versions()
        # Attacks with data starts may begin at any sample of the cell, whichever shard it is in.
        attacks = resolve(attack_objects(attacks_json(task)), threat)
        if any(getattr(attack, "starts", 0) for attack in attacks):
            pool = self.rows_identity(data_id, samples, 0, len(samples.y))
            common["pool"] = pool["digest"]
        size = shard_samples(task, model, threat)
        for first in range(0, len(samples.y), size):
            stop = min(first + size, len(samples.y))
            rows = self.rows_identity(data_id, samples, first, stop)
            yield Shard(common | {"samples": rows}, place, source, (first, stop))

    def rows_identity(
        self, data_id: str, samples: Samples, first: int, stop: int
    ) -> dict[str, Any]:
        """Name rows by their content and ids, so that only what is used counts."""
        key = (data_id, first, stop)
        if key not in self.digests:
            self.digests[key] = samples_digest(samples.x[first:stop], samples.y[first:stop])
        return {"digest": self.digests[key], "ids": ranges(samples.ids[first:stop])}

    def load(self, source: ModelSource, data: DataSource) -> Model:
        try:
            model = load_suite_model(source, data)
        except AisecError as error:
            raise type(error)(f"{self.suite.path}: model {source.name}: {error}") from None
        for line in model.report.warnings:
            warning = f"model {source.name}: {line}"
            if warning not in self.warnings:
                self.warnings.append(warning)
        return model

    def check_fit(self, table: ModelTable, data: DataTable, model: Model, samples: Samples) -> None:
        if model.input_shape != samples.x.shape[1:]:
            raise SuiteError(
                f"{self.suite.path}: model {table.id} takes inputs of shape {model.input_shape}, "
                f"data {data.id} has {samples.x.shape[1:]}; name the data it is for in the task"
            )
        if int(samples.y.max()) >= model.num_classes:
            raise SuiteError(
                f"{self.suite.path}: data {data.id} has label {samples.y.max()}, model {table.id} "
                f"only {model.num_classes} classes; name the data it is for in the task"
            )


def table_cell(suite: Suite, task: ScanTable, source: DataSource, name: str) -> Cell:
    """Return the scan of a table, whose rows stay where they are.

    Raises:
        SuiteError: the table cannot be read.
    """
    try:
        shards = scan_shards(task, source)
    except AisecError as error:
        raise SuiteError(f"{suite.path}: data {source.name}: {error}") from None
    table = shards[0].identity["table"]
    none = np.zeros(0, dtype=np.int64)
    samples = Samples(
        np.zeros((0, 0), dtype=np.float32),
        none,
        none,
        table["content"],
        (0.0, 1.0),
        None,
        table_rows=table["rows"],
    )
    return Cell("scan", name, source.name, shards, samples)


def data_source(suite: Suite, table: DataTable) -> DataSource:
    """Return where a suite's dataset is, paths made absolute."""
    source = table.source
    if is_table(source, table.labels):
        place = str((suite.path.parent / source).resolve())
        return DataSource(table.id, place, table=True, labels=table.labels)
    if is_file_source(source):
        source = str((suite.path.parent / source).resolve())
    plant = None
    if table.plant is not None:
        rate = str(table.plant.rate)
        plant = Plant(rate, table.plant.target, table.plant.size, suite.seed)
    return DataSource(table.id, source, table.split, table.ids, plant)


def model_source(suite: Suite, table: ModelTable) -> ModelSource:
    """Return where a suite's model is, its path made absolute."""
    shape = None if table.input_shape is None else tuple(table.input_shape)
    if table.url is not None:
        endpoint = (table.endpoint or EndpointTable()).endpoint()
        return ModelSource(table.id, table.url, shape, table.version, endpoint)
    return ModelSource(table.id, str((suite.path.parent / str(table.path)).resolve()), shape)


def attacks_json(task: EvaluateTable) -> str | list[dict[str, Any]]:
    """Return the attacks of a task as they stand in a shard's identity."""
    if isinstance(task.attacks, str):
        return task.attacks
    return [table.to_json() for table in task.attacks]


_METHOD_FORWARDS = {"light": 3_000, "standard": 11_000, "plus": 15_000, "rand": 12_000}
"""Evaluations a sample may cost, a gradient counted as two more."""
_CERTIFY_FORWARDS = {
    "none": 1,
    "ibp": 5,
    "crown-ibp": 30,
    "crown": 100,
    "alpha-crown": 1_000,
    "complete": 100_000,
}


def _forwards(attack: Any) -> int:
    """Return what an attack may cost a sample, a gradient counted as two evaluations more."""
    gradient = 3 if attack.needs_gradient else 1
    names = ("budget", "queries", "steps", "k")
    runs = [int(n) for name in names if isinstance(n := getattr(attack, name, None), int)]
    return gradient * max(1, next(iter(runs), 1_000)) * max(1, int(attack.restarts))


def shard_samples(task: EvaluateTable, model: Model, threat: ThreatModel) -> int:
    """Return how many samples one shard of a cell gets: a power of two, by the cost of one.

    The estimate is an upper one: every attack runs to its end on every sample.
    """
    graph = model.graph
    if graph is None:
        work = 1000 * prod(model.input_shape)
    else:
        work = 50 * sum(prod(graph.node_shape(i)) for i in range(graph.num_nodes))
    forwards = _CERTIFY_FORWARDS[task.certify]
    if isinstance(threat, Corruptions):
        forwards = len(threat.cases)
        work += CORRUPTION_WORK
    elif isinstance(task.attacks, str):
        forwards += _METHOD_FORWARDS.get(task.attacks, 10_000)
    else:
        forwards += sum(map(_forwards, attack_objects(attacks_json(task))))
    fewest, most = SHARD_SAMPLES
    samples = max(1, TARGET_WORK // (forwards * work))
    return int(np.clip(1 << (samples.bit_length() - 1), fewest, most))


def _chosen(tables: Sequence[Any], names: Sequence[str] | None) -> list[Any]:
    return [table for table in tables if names is None or table.id in names]


def _jax_versions() -> dict[str, str]:
    """XLA promises no bits: the version and the platform belong to the name."""
    from importlib.metadata import version

    import jax

    return {
        "jax": version("jax"),
        "jaxlib": version("jaxlib"),
        "platform": jax.default_backend(),
    }
