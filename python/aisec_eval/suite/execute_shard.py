"""One shard computed: a function of its inputs alone."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import AisecError, DatasetError, ModelImportError, RunError
from ..results import Evaluation, Scan
from ..threats import Corruptions, parse
from . import ensemble_shards, scan_shards
from .attack_table import attack_objects
from .identity import engine, samples_digest
from .inputs import load_samples, load_suite_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ..models.base import Model
    from .inputs import Samples
    from .scan_shards import ScanPart
    from .shard import Shard
    from .store import Store


def execute_shard(shard: Shard, store: Store | None = None) -> Evaluation | Scan | ScanPart:
    """Compute a shard; the same shard gives the same result in any process on any machine.

    Args:
        shard: what to compute.
        store: where the shards it needs are, if it needs any.

    Raises:
        RunError: this process runs another build of the engine than planned the shard.
        DatasetError, ModelImportError: the data or model on disk changed since.
        AisecError: what the evaluation refuses.
    """
    _same_engine(shard.identity["engine"])
    if shard.identity["kind"] in ensemble_shards.PARTS:
        return ensemble_shards.execute(shard, store)
    if shard.data.table:
        return scan_shards.execute(shard, store)
    samples = load_samples(shard.data)
    first, stop = shard.rows
    x, y, ids = samples.x[first:stop], samples.y[first:stop], samples.ids[first:stop]
    if samples_digest(x, y) != shard.identity["samples"]["digest"]:
        raise DatasetError(f"{shard.data.source}: changed since the run was planned; run it again")
    if shard.identity["kind"] == "scan":
        return _scan(shard, samples)
    if shard.model is None:
        raise RunError(f"shard {shard.key}: evaluates, but names no model")
    planned = shard.identity.get("pool")
    if planned not in (None, samples_digest(samples.x, samples.y)):
        raise DatasetError(f"{shard.data.source}: changed since the run was planned; run it again")
    return _evaluate(shard, load_suite_model(shard.model, shard.data), x, y, ids, samples)


def _evaluate(
    shard: Shard,
    model: Model,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    ids: NDArray[np.int64],
    samples: Samples,
) -> Evaluation:
    from ..attacks import corruption_library
    from ..certifiers import Complete
    from ..evaluation import evaluate

    identity = shard.identity
    if model.digest != identity["model"]["digest"]:
        raise ModelImportError(f"model {model.name}: changed since the run was planned; run again")
    threat = parse(identity["threat"])
    if isinstance(threat, Corruptions) and identity["library"] != corruption_library.versions():
        raise RunError(
            "the worker has other versions of what computes corruptions than planned the run; "
            f"install {identity['library']} everywhere"
        )
    certify = identity["certify"]
    if "certify_seconds" in identity:
        certify = Complete(timeout=float(Fraction(identity["certify_seconds"])))
    return evaluate(
        model,
        x,
        y,
        threat,
        attacks=attack_objects(identity["attacks"]),
        certify=certify,
        seed=identity["seed"],
        sample_ids=ids,
        backend=identity["backend"],
        lattice=identity["lattice"],
        pool=(samples.x, samples.y) if "pool" in identity else None,
        part=True,
    )


def _scan(shard: Shard, samples: Samples) -> Scan:
    from ..detectors import scan
    from ..detectors.evidence import look
    from ..detectors.source import open_source

    features = samples.x.reshape(len(samples.x), -1)
    rate = shard.identity["rate"]
    result = scan(
        features,
        samples.y,
        method=shard.identity["method"],
        rate=None if rate is None else float(Fraction(rate)),
    )
    evidence = look(open_source(features, samples.y), result, samples.x, samples.bounds)
    return Scan(shard.data.name, result, samples.poison, evidence)


def one_line(error: BaseException) -> str:
    """Describe an error in one line; an unexpected one with its type and place."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, AisecError):
        return text
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        code = trace.tb_frame.f_code
        place = f" (in {code.co_qualname}, {code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno})"
    return f"{type(error).__name__}: {text}{place}"


def _same_engine(planned: Mapping[str, str]) -> None:
    here = engine()
    if any(planned[key] != here[key] for key in here):
        raise RunError(
            f"the worker runs another build of the engine ({here['version']}, {here['build'][:8]}) "
            f"than planned the run ({planned['version']}, {planned['build'][:8]}); "
            "install the same one everywhere"
        )
