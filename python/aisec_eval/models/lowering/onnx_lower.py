"""Lowers an admitted ONNX network step by step, folding what does not depend on the input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import ModelImportError, UnsafeArtifactError, UnsupportedOperationError

from .builder import NotLowerable, Shape, Value, sample_shape
from .emit import Emitter
from .onnx_fold import FOLD, Budget
from .onnx_network import OnnxNetwork, Step, printable, reason_of
from .onnx_ops import OPERATORS
from .simplify import simplify

if TYPE_CHECKING:
    from .ir import GraphSpec

MIN_VALUES = 1 << 23
"""Elements that the values of one sample may have in any network; large files may have more."""
INPUT_VALUES = 32
"""More of them for each element of the input, as networks for large images have ..."""
MAX_INPUT_VALUES = 1 << 26
"""... up to so many."""


def input_layout(network: OnnxNetwork, given: Shape | None) -> tuple[Shape, Shape]:
    """Return one sample's shape and the full shape (batch axis of size 1) it is run with.

    An axis is the batch axis when it comes first and is symbolic or 1; without one (a rank-1
    input, or an output of rank 1 only) the network takes single samples.

    Raises:
        ModelImportError: the shape is not known or `given` does not fit it.
    """
    declared, where = network.input_shape, f"{network.where}: input {network.input!r}"
    shown = [d if d is not None else "?" for d in declared]
    if given is not None:
        for full in ((1, *given), tuple(given)):
            if len(full) == len(declared) and all(
                d is None or d == f for d, f in zip(declared, full, strict=True)
            ):
                return tuple(given), full
        raise ModelImportError(f"{where} has shape {shown}; input_shape={given} does not fit it")
    batchless = bool(declared) and (
        declared[0] is not None and (len(declared) == 1 or network.output_rank == 1)
    )
    rest = declared if batchless else declared[1:]
    if not declared or not rest or any(d is None for d in rest):
        raise ModelImportError(
            f"{where} has shape {shown}; give one sample's shape, e.g. input_shape=(3, 32, 32)"
        )
    sample = tuple(d for d in rest if d is not None)
    if batchless:
        return sample, sample
    if declared[0] not in (None, 1):
        raise ModelImportError(
            f"{where} has shape {shown}, a batch of {declared[0]}; "
            "export it with a dynamic batch axis or a batch of 1"
        )
    return sample, (1, *sample)


def lower(network: OnnxNetwork, input_shape: Shape | None = None) -> GraphSpec:
    """Lower to the IR; node names are the ONNX names of the values they compute.

    Raises:
        UnsupportedOperationError: an operator without a rule, by name and node.
        ModelImportError: shapes that do not fit, or constants that are not finite.
        UnsafeArtifactError: values too large to compute.
    """
    sample, full = input_layout(network, input_shape)
    stored = sum(c.size for c in network.constants.values())
    image = min(INPUT_VALUES * math.prod(sample), MAX_INPUT_VALUES)
    emitter = Emitter(sample, printable(network.input), MIN_VALUES + 8 * stored + image)
    budget = Budget(stored)
    values: dict[str, Any] = {**network.constants, network.input: Value(0, full), "": None}
    for step in network.steps:
        results = _lower_step(network, step, emitter, budget, values)
        for name, result in zip(step.outputs, results, strict=False):
            values[name] = result
            if isinstance(result, Value):
                emitter.label(result, printable(name))
    output = values.get(network.output)
    if not isinstance(output, Value):
        raise ModelImportError(
            f"{network.where}: output {network.output!r} does not depend on the input"
        )
    scores = tuple(d for d in output.shape if d != 1)
    shape = sample_shape(output.shape) if len(scores) > 1 else scores or (1,)
    return simplify(emitter.finish(output, shape))


def _lower_step(
    network: OnnxNetwork, step: Step, emitter: Emitter, budget: Budget, values: dict[str, Any]
) -> list[Any]:
    emitter.source = f'{step.op} (node "{step.name}")'
    where = f"{network.where}: operator {emitter.source}"
    inputs = [values[name] for name in step.inputs]
    constant = not any(isinstance(value, Value) for value in inputs)
    try:
        if constant and step.op in FOLD:
            with np.errstate(all="ignore"):
                return FOLD[step.op](step, network.opset, budget, *inputs)
        if not constant and step.op in OPERATORS:
            result = OPERATORS[step.op](emitter, step, network.opset, *inputs)
            return result if isinstance(result, list) else [result]
    except NotLowerable as error:
        raise UnsupportedOperationError(
            f"{where}: {error} is not supported; {_STILL_WORKS}"
        ) from None
    except UnsafeArtifactError as error:
        raise UnsafeArtifactError(f"{where}: {error}") from None
    except Exception as error:  # untrusted attributes and shapes: anything can be wrong
        raise ModelImportError(f"{where}: {reason_of(error)}") from None
    raise UnsupportedOperationError(f"{where} is not supported; {_STILL_WORKS}")


_STILL_WORKS = (
    "attacks still work on the network as a JAX function: load_model(function, input_shape=...)"
)
