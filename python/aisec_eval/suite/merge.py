"""Shards of a cell joined into one evaluation, and the cells into a run folder."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _files, runs
from ..errors import RunError
from ..findings import Findings
from ..parts import join
from ..results import ERROR, VERDICTS, Evaluation, Scan, Spent
from .gate import GateResult, judge
from .identity import digest, engine
from .scan_shards import assemble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .plan import Cell, Plan
    from .shard import Shard
    from .spec import ModelTable
    from .store import Store


def merge(plan: Plan, store: Store, errors: Mapping[str, str]) -> list[GateResult]:
    """Write the run folder from the shards that are there; return how its gates fared.

    Samples of a failed shard become `error` rows. Shards that were never computed, because the
    run was interrupted, are left out and counted in the manifest.

    Args:
        plan: what was to be computed.
        store: where the results are; the run is written beside them.
        errors: one line for each failed shard, by its key.

    Raises:
        RunError: a shard cannot be read or the folder cannot be written.
    """
    evaluations: list[Evaluation] = []
    scans: list[Scan] = []
    results: dict[int, Evaluation | Scan] = {}
    cells: list[dict[str, Any]] = []
    for index, cell in enumerate(plan.cells):
        about = describe(cell)
        found = read_cell(cell, store, errors)
        if isinstance(found, Scan):
            about["entry"] = runs.entry_name(len(scans), found.data, found.result.method)
            scans.append(found)
        elif found is not None:
            about["entry"] = runs.entry_name(len(evaluations), found.model, found.threat)
            evaluations.append(found)
        if found is not None:
            results[index] = found
        cells.append(about)
    gates = judge_gates(plan, results)
    missing = sum(
        1 for s in plan.shards if s.key not in errors and not (store.shards / s.key).is_dir()
    )
    manifest = {
        "kind": "suite",
        "suite": {
            "name": plan.suite.name,
            "version": plan.suite.version,
            "description": plan.suite.description,
            "seed": plan.suite.seed,
        },
        "plan": {
            "digest": digest([shard.key for shard in plan.shards]),
            "shards": len(plan.shards),
            "failed": len(errors),
            "missing": missing,
        },
        "engine": engine(),
        "models": [
            {"id": m.id, "digest": d, **({"path": m.path} if m.url is None else _stated(m))}
            for m in plan.suite.model
            if (d := next((c.model_digest for c in plan.cells if c.model == m.id), None))
        ],
        "data": [
            {
                "id": d.id,
                "source": d.source,
                "digest": c.samples.digest,
                "samples": c.samples.count,
            }
            for d in plan.suite.data
            if (c := next((c for c in plan.cells if c.data == d.id), None))
        ],
        "cells": cells,
        "gates": [asdict(gate) for gate in gates],
        "warnings": list(plan.warnings),
    }
    lines = [errors[shard.key] for shard in plan.shards if shard.key in errors]
    write(store, manifest, evaluations, scans, lines)
    return gates


def _stated(model: ModelTable) -> dict[str, Any]:
    """Return what a suite says of a black box."""
    return {"url": model.url, "version": model.version}


def judge_gates(plan: Plan, results: Mapping[int, Evaluation | Scan]) -> list[GateResult]:
    """Judge every gate of the suite on the results there are, by the index of their cell."""
    return [
        verdict
        for gate in plan.suite.gates
        for verdict in judge(
            gate,
            plan.suite.gate[gate.key],
            [(plan.cells[i].name, results[i]) for i in plan.in_scope(gate) if i in results],
        )
    ]


def write(
    store: Store,
    manifest: Mapping[str, Any],
    evaluations: Sequence[Evaluation],
    scans: Sequence[Scan],
    errors: Sequence[str],
) -> None:
    """Replace the run's results; a kill at any point leaves shards from which to do it again.

    The manifest goes first and comes last: a folder with one is whole.
    """
    with _files._write_errors(store.folder):
        merged = store.temporary / "merged"
        shutil.rmtree(merged, ignore_errors=True)
        runs.write_run(merged, manifest, evaluations, scans, errors)
        (store.folder / "manifest.json").unlink(missing_ok=True)
        for name in ("evaluations", "scans"):
            shutil.rmtree(store.folder / name, ignore_errors=True)
        for name in ("evaluations", "scans", "errors.json", "manifest.json"):
            if (merged / name).exists():
                os.replace(merged / name, store.folder / name)
        _files.sync_folder(store.folder)


def describe(cell: Cell) -> dict[str, Any]:
    """Return what identifies a cell in the manifest."""
    about: dict[str, Any] = {
        "kind": cell.kind,
        "task": cell.task,
        "data": cell.data,
        "shards": [shard.key for shard in cell.shards],
    }
    if cell.threat is not None:
        about["model"] = cell.model
        about["threat"] = cell.threat.describe()
    return about


def read_cell(cell: Cell, store: Store, errors: Mapping[str, str]) -> Evaluation | Scan | None:
    """Return the joined result of a cell, None when nothing of it has been computed."""
    if len(cell.shards) > 1 and cell.kind == "scan":
        there = all((store.shards / shard.key).is_dir() for shard in cell.shards)
        return assemble(cell.shards, store) if there else None
    parts: list[Evaluation | None] = []
    shards: list[Shard] = []
    for shard in cell.shards:
        if shard.key in errors:
            shards.append(shard)
            parts.append(None)
        elif (store.shards / shard.key).is_dir():
            result = store.read(shard)
            if isinstance(result, Scan):
                return result
            if not isinstance(result, Evaluation):
                raise RunError(f"{store.shards / shard.key}: is no evaluation")
            shards.append(shard)
            parts.append(result)
    if cell.kind == "scan" or not shards:
        return None
    known = next((part for part in parts if part is not None), None)
    return join(
        [
            error_rows(cell, shard, known) if part is None else part
            for shard, part in zip(shards, parts, strict=True)
        ]
    )


def error_rows(cell: Cell, shard: Shard, like: Evaluation | None) -> Evaluation:
    """Return the rows of a shard that failed: verdict `error`, nothing known."""
    first, stop = shard.rows
    n = stop - first
    shape = cell.samples.x.shape[1:]
    nothing = np.zeros((0, *shape), dtype=np.float32)
    return Evaluation(
        sample=cell.samples.ids[first:stop],
        label=cell.samples.y[first:stop],
        verdict=np.full(n, VERDICTS.index(ERROR), dtype=np.int8),
        x_adv=nothing,
        x_clean=nothing,
        margin=np.full(n, np.nan),
        margin_lower=np.full(n, -np.inf),
        distance=np.full(n, np.nan),
        found_by=("",) * n,
        spent=Spent.zeros(n),
        model=cell.model,
        model_digest=cell.model_digest,
        threat=like.threat if like is not None else str(cell.threat),
        info=like.info if like is not None else {},
        findings=Findings(),
    )
