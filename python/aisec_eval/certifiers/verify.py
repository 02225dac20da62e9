"""verify(): whether a network can violate a property, as VNN-COMP asks it."""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from .._validate import check_count, check_seed
from ..errors import InputError, UnsupportedOperationError
from ..models import Model, load_network
from ..results import VerifyResult
from .certificate import Certificate, case_of
from .complete import WHY
from .property import Property
from .replay import Replay
from .rounds import Cases
from .vnnlib import read_vnnlib

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from aisec_eval._core import Graph


def verify(
    net: str | os.PathLike[str] | Model,
    property: str | os.PathLike[str] | Property,  # noqa: A002
    *,
    timeout: float = 60.0,
    seed: int = 0,
    memory_limit: int | None = None,
    certificate: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> VerifyResult:
    """Decide whether some input makes the network violate the property.

    A search for counterexamples comes first, then CROWN bounds; then inputs of at most 20 numbers
    are split until every part is decided, and with more of them the signs of neurons, over bounds
    with optimised slopes (beta-CROWN). `unsat` holds for the network in real arithmetic: bounds
    are float64, every rounding error taken off. A `sat` comes with an input that lies exactly in
    the box and whose outputs, by interval arithmetic, meet a clause; where the network is an ONNX
    file and onnxruntime is installed, its float32 outputs do so too, within VNN-COMP's tolerance.
    `info["replay"]` says which.

    Args:
        net: path of an ONNX file, or a model with a graph.
        property: path of a `.vnnlib` or `.vnnlib.gz` file, or what `read_vnnlib` returned.
        timeout: seconds of wall time, loading included.
        seed: of the search's random numbers.
        memory_limit: bytes that coefficients may take while bounds are computed.
        certificate: file to write the certificate of an `unsat` to, compressed where its name ends
            in `.gz`. Without it nothing is kept for one, and `certificate` of the result is None.
        progress: called with boxes bounded, boxes known so far, and what is running.

    Returns:
        Status, counterexample and reason. The same for equal calls, unless time ran out.

    Raises:
        InputError: the property is not well formed, does not fit the network, or an option is
            wrong.
        ModelImportError: the network cannot be read.
        UnsafeArtifactError: the network's file is not safe to open.
    """
    start = time.monotonic()
    if not (isinstance(timeout, int | float) and math.isfinite(timeout) and timeout > 0):
        raise InputError(f"timeout={timeout!r} must be a number of seconds above 0")
    seed = check_seed(seed)
    if memory_limit is not None:
        check_count("memory_limit", memory_limit)

    def left() -> float:
        return start + timeout - time.monotonic()

    def read() -> tuple[Property, Model]:
        question = property if isinstance(property, Property) else read_vnnlib(property)
        model = net if isinstance(net, Model) else _load(net, question)
        _check_sizes(model, question)
        return question, model

    try:
        read_ = read() if isinstance(net, Model) else _within(timeout, read)
    except UnsupportedOperationError as error:
        result = VerifyResult("unknown", reason=f"unsupported operator: {error}")
    except TimeoutError:
        result = VerifyResult("unknown", reason="timeout: the network was still being read")
    else:
        question, model = read_
        if question.unsupported:
            result = VerifyResult("unknown", reason=f"unsupported property: {question.unsupported}")
        elif model.graph is None:
            why = model.report.not_certifiable or "the model was not lowered to the engine's graph"
            result = VerifyResult("unknown", reason=f"unsupported operator: {why}")
        else:
            replay = Replay(model.graph, model)
            record = certificate is not None
            result = _decide(
                model.graph, question, replay, seed, left, memory_limit, record, progress
            )
    if certificate is not None and isinstance(result.certificate, Certificate):
        result.certificate.save(certificate)
    return replace(result, seconds=time.monotonic() - start)


TOO_LARGE = "not kept: its record is larger than 256 MiB"
"""What is said of an `unsat` without the certificate that was asked for."""

T = TypeVar("T")


def _within(seconds: float, work: Callable[[], T]) -> T:
    """Return what the work returns, or give up on it: reading a large network has no other end."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, daemon=True).start()
    return done.result(seconds)


def _load(net: str | os.PathLike[str], question: Property) -> Model:
    low = min((float(case.lower.min()) for case in question.cases), default=0.0)
    high = max((float(case.upper.max()) for case in question.cases), default=1.0)
    return load_network(net, (low, high) if low < high else None)


def _check_sizes(model: Model, question: Property) -> None:
    inputs = math.prod(model.input_shape)
    for what, has, declared in (
        ("inputs", inputs, question.inputs),
        ("outputs", model.num_classes, question.outputs),
    ):
        if has != declared:
            raise InputError(
                f"the property declares {declared} {what}, {model.name!r} has {has}: "
                "they do not belong together"
            )


def _decide(
    graph: Graph,
    question: Property,
    replay: Replay,
    seed: int,
    left: Callable[[], float],
    memory_limit: int | None,
    record: bool,
    progress: Callable[[int, int, str], None] | None,
) -> VerifyResult:
    cases = Cases(graph, question.cases, replay, seed, left, memory_limit, record, progress)
    settled = cases.settle()
    if settled.status == "sat":
        info = {"replay": replay.note}
        return VerifyResult("sat", settled.counterexample, domains=settled.domains, info=info)
    if settled.worst is not None:
        worst = settled.worst
        bound = worst.bound if math.isfinite(worst.bound) else math.nan
        reason = worst.reason
        if replay.contradicted:
            reason = f"counterexample {replay.contradicted}"
            # What ran out is still the first word.
            reason = reason if worst.reason == WHY["met"] else f"{worst.reason}; {reason}"
        return VerifyResult("unknown", reason=reason, bound=bound, domains=settled.domains)
    proofs = [tree.proof for tree in settled.trees] if record else [None]
    if any(proof is None for proof in proofs):
        info = {"certificate": TOO_LARGE} if record else {}
        return VerifyResult("unsat", domains=settled.domains, info=info)
    proven = tuple(
        case_of(case, proof or "") for case, proof in zip(question.cases, proofs, strict=True)
    )
    methods = " and ".join(sorted({tree.name for tree in settled.trees}))
    about = {"method": methods, "graph": graph.digest, "domains": settled.domains}
    return VerifyResult(
        "unsat", certificate=Certificate(about, graph.digest, proven), domains=settled.domains
    )
