"""What a bundle claims, computed again: on its models, and on its data where that is there."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import _files
from ..errors import AisecError, DatasetError
from ..results import CERTIFIED, VERDICTS
from ..suite.identity import ranges, samples_digest
from ..suite.inputs import DataSource, Plant, Samples, load_samples
from ..suite.recheck import recheck
from .contents import evaluations
from .contents import scans as scans_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..models.base import Model
    from ..results import Evaluation, Run
    from .lock import Lock, LockedCell, LockedData


@dataclass(frozen=True)
class Inputs:
    """The models of a bundle, and those of its datasets that are there."""

    models: Mapping[str, Model]
    data: Mapping[str, Samples]
    problems: list[str]
    """One line for each dataset that is not the one the lock names."""
    notes: tuple[str, ...]
    """One line for each dataset that is not there."""


def load(members: Mapping[str, bytes], lock: Lock, home: Path, files: Mapping[str, Path]) -> Inputs:
    """Load the models from the bundle and the datasets from here.

    Args:
        members: the bundle's files.
        lock: its lock.
        home: a folder of our own, in which the models are written.
        files: datasets that are files, by id.

    Raises:
        ModelImportError, UnsafeArtifactError: a model cannot be loaded.
    """
    from ..models import load_model

    models: dict[str, Model] = {}
    for locked in lock.models:
        path = _files.write_bytes(home / locked.file, members[locked.file])
        models[locked.id] = load_model(path, name=locked.id, input_shape=locked.input_shape)
    data: dict[str, Samples] = {}
    problems: list[str] = []
    notes: list[str] = []
    for locked_data in lock.data:
        try:
            samples = load_samples(_source(locked_data, files))
        except (AisecError, KeyError) as error:
            why = str(error) if isinstance(error, AisecError) else "not given (--data ID=PATH)"
            notes.append(f"data {locked_data.id} ({locked_data.source}): {why}")
            continue
        data[locked_data.id] = samples
        if samples.digest != locked_data.digest:
            problems.append(f"data {locked_data.id}: what is here is not what was evaluated")
    for cell in lock.cells:
        there = data.get(cell.data)
        if there is not None and not _same(cell, there):
            problems.append(f"{cell.entry}: its samples are not those of data {cell.data}")
    return Inputs(models, data, problems, tuple(notes))


def _source(locked: LockedData, files: Mapping[str, Path]) -> DataSource:
    if locked.file:
        source = str(files[locked.id].resolve())
    elif Path(locked.source).suffix or Path(locked.source).name != locked.source:
        raise DatasetError("its name is that of a file")
    else:
        source = locked.source
    plant = None
    if locked.plant is not None:
        plant = Plant(locked.plant.rate, locked.plant.target, locked.plant.size, locked.plant.seed)
    ids = None if locked.ids is None else (locked.ids[0], locked.ids[1])
    return DataSource(locked.id, source, locked.split, ids, plant)


def _same(cell: LockedCell, samples: Samples) -> bool:
    return samples_digest(samples.x, samples.y) == cell.samples and ranges(samples.ids) == cell.ids


def evidence(run: Run, inputs: Inputs) -> list[str]:
    """Replay adversarial examples; where the data is there, compare clean verdicts and labels."""
    return [
        f"{result.model}, {result.threat}: {line}"
        for result in recheck(run, inputs.models, inputs.data)
        for line in result.problems
    ]


def certificates(run: Run, lock: Lock, inputs: Inputs) -> list[str]:
    """Prove every certified sample again, by the checker that shares no code with certifiers."""
    found = evaluations(run)
    problems = []
    for cell in lock.of("evaluate"):
        samples = inputs.data.get(cell.data)
        if samples is not None and cell.threat is not None:
            model = inputs.models[cell.model or ""]
            problems += _certificates(cell, found[cell.entry], model, samples)
    return problems


def _certificates(cell: LockedCell, e: Evaluation, model: Model, samples: Samples) -> list[str]:
    from ..certifiers.prove_again import prove_again

    chosen = np.flatnonzero(e.verdict == VERDICTS.index(CERTIFIED))
    method = cell.settings.get("certify")
    if len(chosen) == 0 or cell.threat is None:
        return []
    if not isinstance(method, str):
        return [f"{cell.where}: {len(chosen)} samples certified, but by no certifier"]
    reasons = prove_again(
        model,
        samples.x[chosen],
        samples.y[chosen],
        cell.threat.ball(),
        e.margin_lower[chosen],
        method,
    )
    return [
        f"{cell.where}: sample {e.sample[row]}: claimed certified with margin "
        f"{e.margin_lower[row]:.6g}: {reason}"
        for row, reason in zip(chosen, reasons, strict=True)
        if reason
    ]


def scans(run: Run, lock: Lock, inputs: Inputs) -> list[str]:
    """Scan again; the same samples must be flagged and the planted ones be those planted."""
    from ..detectors import scan

    found = scans_of(run)
    problems = []
    for cell in lock.of("scan"):
        samples, claimed = inputs.data.get(cell.data), found[cell.entry]
        if samples is None:
            continue
        rate, method = cell.settings.get("rate"), cell.settings.get("method")
        again = scan(
            samples.x.reshape(len(samples.x), -1),
            samples.y,
            method=str(method),
            rate=None if rate is None else float(Fraction(str(rate))),
        )
        if not np.array_equal(again.flagged, claimed.result.flagged):
            problems.append(f"{cell.where}: other samples are flagged than it says")
        if not _equal(samples.poison, claimed.poison):
            problems.append(f"{cell.where}: other samples are poisoned than it says")
    return problems


def _equal(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)
