"""Checking a run again: every piece of evidence replayed against the models it speaks of.

Nothing a run folder claims is taken on trust. Adversarial examples go through
`_core.check_adversarial`, which shares no code with the search; clean verdicts through the model;
samples, where the data is given, are compared with it, and those certified proven again by
`_core.check_certificate`, which shares no code with the certifiers; gates are judged anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RunError
from ..results import BROKEN, CERTIFIED, ERROR, MISCLASSIFIED, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ..models.base import Model
    from ..results import Evaluation, Run, Scan
    from .inputs import Samples


@dataclass(frozen=True)
class Rechecked:
    """What became of one evaluation's evidence."""

    model: str
    threat: str
    samples: int
    broken: int
    confirmed: int
    """Adversarial examples that are what they claim to be."""
    certified: int
    """Samples claimed certified."""
    proven: int
    """Of those, proven again by the independent checker, where that was asked for."""
    clean: bool
    """Whether the clean verdicts were computed again, which needs the data."""
    problems: tuple[str, ...]
    """One line for each claim that does not hold."""


def recheck(
    run: Run,
    models: Mapping[str, Model],
    data: Mapping[str, Samples] | None = None,
    *,
    prove: bool = False,
) -> list[Rechecked]:
    """Check every evaluation of a run again.

    Args:
        run: a run read back, `load_run(folder)`.
        models: the models by the name they have in the run.
        data: the datasets by their suite id; without them clean verdicts are not computed again.
        prove: whether to prove certified samples again, where their data is there.

    Raises:
        RunError: a model is missing or is another one than was evaluated.
    """
    results = []
    for index, evaluation in enumerate(run.evaluations):
        model = models.get(evaluation.model)
        if model is None:
            raise RunError(
                f"{run.path}: no model given for {evaluation.model!r}; "
                f"add --model {evaluation.model}=PATH or --suite SUITE.toml"
            )
        if model.digest != evaluation.model_digest:
            raise RunError(
                f"{run.path}: {evaluation.model!r} was {evaluation.model_digest[:16]} when it was "
                f"evaluated, the one given is {model.digest[:16]}; give the file that was evaluated"
            )
        threat = evaluation.info.get("threat")
        if not isinstance(threat, dict):
            raise RunError(f"{run.path}: evaluation {index} does not say its threat model")
        samples = _samples_of(run, index, data)
        results.append(_recheck(evaluation, model, threat, samples, prove))
    return results


def _samples_of(run: Run, index: int, data: Mapping[str, Samples] | None) -> Samples | None:
    if data is None:
        return None
    entry = run.manifest["evaluations"][index]
    for cell in run.manifest.get("cells", ()):
        if cell.get("entry") == entry and cell.get("kind") == "evaluate":
            return data.get(cell["data"])
    return None


def _recheck(
    e: Evaluation,
    model: Model,
    threat: Mapping[str, Any],
    samples: Samples | None,
    prove: bool,
) -> Rechecked:
    codes = {verdict: code for code, verdict in enumerate(VERDICTS)}
    rows = np.flatnonzero(e.verdict == codes[BROKEN])
    confirmed, reasons = replay(
        model,
        e.x_clean,
        e.x_adv,
        e.label[rows],
        threat,
        transform=[e.transform[row] for row in rows] if e.transform else (),
        ids=e.sample[rows],
        seed=_seed(e),
    )
    certified = e.verdict == codes[CERTIFIED]
    problems = [
        f"sample {e.sample[row]}: adversarial example refused: {reason}"
        for row, reason in zip(rows[~confirmed], reasons, strict=True)
    ]
    problems += [
        f"sample {e.sample[row]}: certified with margin {e.margin_lower[row]:g}"
        for row in np.flatnonzero(certified & ~(e.margin_lower > 0))
    ]
    problems += [
        f"sample {e.sample[row]}: an attack got below its certified margin"
        for row in np.flatnonzero(certified & (e.margin < e.margin_lower))
    ]
    if len(np.unique(e.sample)) != len(e.sample):
        problems.append("a sample is counted twice")
    proven = 0
    if samples is not None:
        problems += _clean_problems(e, model, samples, rows, codes)
        if prove and not problems:
            open_ = _unproven(e, model, samples, threat, np.flatnonzero(certified))
            proven = int(certified.sum()) - len(open_)
            problems += open_
    return Rechecked(
        model=e.model,
        threat=e.threat,
        samples=len(e.sample),
        broken=len(rows),
        confirmed=int(confirmed.sum()),
        certified=int(certified.sum()),
        proven=proven,
        clean=samples is not None,
        problems=tuple(problems),
    )


def _seed(e: Evaluation) -> int:
    seed = e.info.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise RunError(f"{e.model}, {e.threat}: seed {seed!r} is no integer of 0 to 2**64 - 1")
    return seed


def replay(
    model: Model,
    x: NDArray[np.float32],
    x_adv: NDArray[np.float32],
    labels: NDArray[np.int64],
    threat: Mapping[str, Any],
    *,
    transform: Sequence[str] = (),
    ids: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.bool_], list[str]]:
    """Check adversarial examples with the engine's independent checker.

    Args:
        model: the model they are to fool.
        x: clean inputs [n, *input].
        x_adv: adversarial examples [n, *input].
        labels: true labels [n].
        threat: what `ThreatModel.describe` gave.
        transform: under threat models of transformations, which one made each of them [n].
        ids: sample ids [n], and
        seed: of the evaluation, which the random numbers of corruptions follow from.

    Returns:
        Which hold [n], and the reason of each one that does not.

    Raises:
        RunError: the model has no graph to replay on.
        InputError: `threat` is no threat model.
        CapabilityError: corruptions cannot be computed here.
    """
    from ..attacks.base import Problem
    from ..attacks.replay import replay as check
    from ..attacks.target import Target
    from ..threats import parse

    if model.graph is None:
        why = model.report.not_certifiable or "it has no graph"
        raise RunError(f"model {model.name!r} cannot be replayed: {why}")
    if len(x) == 0:
        return np.zeros(0, dtype=np.bool_), []
    ids = np.arange(len(x)) if ids is None else ids
    problem = Problem(x, labels, ids, parse(threat), seed)
    found = check(Target.of(model, "native"), problem, x_adv, transform)
    ok, reason = found.confirmed, found.reason
    return ok, [text for good, text in zip(ok, reason, strict=True) if not good]


def _unproven(
    e: Evaluation,
    model: Model,
    samples: Samples,
    threat: Mapping[str, Any],
    rows: NDArray[np.intp],
) -> list[str]:
    """Prove certified samples again; name those that are not."""
    from ..certifiers.prove_again import prove_again
    from ..threats import parse

    place = {int(sample): row for row, sample in enumerate(samples.ids)}
    at = [place[int(e.sample[row])] for row in rows]
    reasons = prove_again(
        model,
        samples.x[at],
        e.label[rows],
        parse(threat),
        e.margin_lower[rows],
        str(e.info.get("certify")),
    )
    return [
        f"sample {e.sample[row]}: claimed certified with margin {e.margin_lower[row]:.6g}: {reason}"
        for row, reason in zip(rows, reasons, strict=True)
        if reason
    ]


def _clean_problems(
    e: Evaluation,
    model: Model,
    samples: Samples,
    broken: NDArray[np.int64],
    codes: Mapping[str, int],
) -> list[str]:
    """Compare with the data itself: which samples, which labels, which are classified right."""
    place = {int(sample): row for row, sample in enumerate(samples.ids)}
    unknown = [int(sample) for sample in e.sample if int(sample) not in place]
    if unknown:
        return [f"sample {unknown[0]}: not in the data"]
    at = np.array([place[int(sample)] for sample in e.sample])
    problems = [
        f"sample {e.sample[row]}: label {e.label[row]}, the data says {samples.y[at[row]]}"
        for row in np.flatnonzero(samples.y[at] != e.label)
    ]
    problems += [
        f"sample {e.sample[row]}: its clean input is not the data's"
        for row, clean in zip(broken, e.x_clean, strict=True)
        if not np.array_equal(clean, samples.x[at[row]])
    ]
    logits = np.asarray(model.logits(samples.x[at]), dtype=np.float64)
    right = logits.argmax(axis=1) == e.label
    claimed = e.verdict != codes[MISCLASSIFIED]
    judged = e.verdict != codes[ERROR]
    problems += [
        f"sample {e.sample[row]}: classified {'right' if right[row] else 'wrong'}, "
        f"claimed {VERDICTS[e.verdict[row]]}"
        for row in np.flatnonzero((right != claimed) & judged)
    ]
    return problems


def suite_inputs(path: str | Path) -> tuple[dict[str, Model], dict[str, Samples]]:
    """Load the models and datasets of a suite, by their ids."""
    from .inputs import load_samples, load_suite_model
    from .load import load_suite
    from .plan import data_source, model_source

    suite = load_suite(path)
    sources = [data_source(suite, table) for table in suite.data]
    data = {source.name: load_samples(source) for source in sources if not source.table}
    models = {table.id: load_suite_model(model_source(suite, table)) for table in suite.model}
    return models, data


def gate_problems(run: Run, path: str | Path) -> list[str]:
    """Judge a suite's gates on the verdicts in a run; name what the run states otherwise."""
    from .load import load_suite
    from .merge import describe, judge_gates
    from .plan import make_plan

    plan = make_plan(load_suite(path))
    cells = run.manifest.get("cells", [])
    planned = [_identity(describe(cell)) for cell in plan.cells]
    if [_identity(cell) for cell in cells] != planned:
        return [f"{run.path} is not a run of {path} as it is now"]
    entries = dict(zip(run.manifest["evaluations"], run.evaluations, strict=True))
    scans = dict(zip(run.manifest["scans"], run.scans, strict=True))
    results: dict[int, Evaluation | Scan] = {}
    for index, cell in enumerate(cells):
        found = (scans if cell["kind"] == "scan" else entries).get(cell.get("entry"))
        if found is not None:
            results[index] = found
    judged = [asdict(verdict) for verdict in judge_gates(plan, results)]
    return [] if judged == run.manifest.get("gates") else ["the gates are not what the run states"]


def _identity(cell: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell is about; its shards' names also depend on the build that planned them."""
    return {key: value for key, value in cell.items() if key not in ("entry", "shards")}
