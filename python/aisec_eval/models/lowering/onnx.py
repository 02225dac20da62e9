"""Reads ONNX files: admission checks for untrusted bytes, then a plain record of the network.

The only file that imports `onnx`. Operators are lowered by the table in `onnx_ops`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import ModelImportError, UnsafeArtifactError, UnsupportedOperationError

from . import onnx_oracle
from .emit import MAX_RANK, Emitter, NotLowerable, Shape, Value, sample_shape
from .onnx_fold import FOLD, Budget
from .onnx_ops import OPERATORS, Step
from .protobuf import scan
from .simplify import simplify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from .ir import GraphSpec

MAX_FILE_BYTES = 1 << 30
OPSETS = range(8, 22)

# TensorProto.DataType: name and bytes an element, of the types a network may store.
_TYPES = {
    1: ("float32", 4),
    2: ("uint8", 1),
    3: ("int8", 1),
    4: ("uint16", 2),
    5: ("int16", 2),
    6: ("int32", 4),
    7: ("int64", 8),
    9: ("bool", 1),
    10: ("float16", 2),
    11: ("float64", 8),
    12: ("uint32", 4),
    13: ("uint64", 8),
    16: ("bfloat16", 2),
}


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """An admitted ONNX graph as plain data; only nodes the output depends on."""

    where: str
    steps: tuple[Step, ...]
    constants: Mapping[str, NDArray[Any]]
    input: str
    input_shape: tuple[int | None, ...]
    """As declared, batch axis included; None where symbolic."""
    input_dtype: str
    output: str
    output_rank: int | None
    opset: int
    proto: Any = field(repr=False)


def read(path: Path) -> OnnxNetwork:
    """Read and admit an ONNX file.

    Raises:
        UnsafeArtifactError: external data, or sizes out of proportion to the file.
        UnsupportedOperationError: an operator, opset or type outside the supported set.
        ModelImportError: missing, unreadable or invalid.
    """
    where = path.name
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UnsafeArtifactError(
                f"{where}: {size} bytes, more than the limit of {MAX_FILE_BYTES}; not loaded"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelImportError(
            f"{where}: cannot be read ({error.strerror}); give the path of an ONNX file"
        ) from None
    scan(data, where)

    import onnx

    try:
        proto = onnx.ModelProto.FromString(data)
    except Exception:
        raise ModelImportError(f"{where}: not an ONNX model; export it again") from None
    del data
    _admit(proto, where)
    try:
        onnx.checker.check_model(proto)
    except Exception as error:
        raise ModelImportError(f"{where}: not a valid ONNX model: {_reason(error)}") from None
    return _record(proto, where)


def _admit(proto: Any, where: str) -> None:
    """Refuse what must not reach any further code: see the module's limits."""
    graph = proto.graph
    if proto.functions or proto.training_info:
        what = "local functions" if proto.functions else "training information"
        raise UnsupportedOperationError(
            f"{where}: holds {what}; export an inference graph of standard operators"
        )
    for tensor, owner in _tensors(graph, where):
        _check_tensor(tensor, owner)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedOperationError(
                f"{where}: operator {_printable(node.op_type)} of domain {node.domain!r} "
                f"(node {_node_name(node)!r}) is not supported; export with standard operators"
            )
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise UnsupportedOperationError(
                    f"{where}: operator {_printable(node.op_type)} (node {_node_name(node)!r}) is "
                    "control flow; export a graph without loops and branches"
                )
    if graph.sparse_initializer:
        raise UnsupportedOperationError(f"{where}: sparse initializers are not supported")
    opset = _opset(proto)
    if opset not in OPSETS:
        raise UnsupportedOperationError(
            f"{where}: opset {opset} is not supported ({OPSETS[0]} to {OPSETS[-1]} are); "
            "export again with opset_version=17"
        )


def _opset(proto: Any) -> int:
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)


def _tensors(graph: Any, where: str) -> Any:
    for tensor in graph.initializer:
        yield tensor, f"{where}: initializer {tensor.name!r}"
    for sparse in graph.sparse_initializer:
        yield sparse.values, f"{where}: sparse initializer"
        yield sparse.indices, f"{where}: sparse initializer"
    for node in graph.node:
        for attribute in node.attribute:
            owner = f"{where}: attribute {attribute.name!r} of node {_node_name(node)!r}"
            for tensor in (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors):
                yield tensor, owner


def _check_tensor(tensor: Any, owner: str) -> None:
    if tensor.data_location == 1 or tensor.external_data:
        raise UnsafeArtifactError(
            f"{owner} is stored in another file; "
            "save the model as a single file (onnx.save_model without external data)"
        )
    if tensor.data_type not in _TYPES:
        raise UnsupportedOperationError(
            f"{owner} has element type {tensor.data_type}, which is not supported; use float32"
        )
    dims = list(tensor.dims)
    if len(dims) > MAX_RANK or min(dims, default=0) < 0:
        raise UnsafeArtifactError(
            f"{owner} has shape {dims[:12]}, not at most {MAX_RANK} sizes of at least 0"
        )
    count = math.prod(dims)
    name, width = _TYPES[tensor.data_type]
    if tensor.HasField("raw_data"):
        held = len(tensor.raw_data) // width
    elif name == "float32":
        held = len(tensor.float_data)
    elif name == "float64":
        held = len(tensor.double_data)
    elif name == "int64":
        held = len(tensor.int64_data)
    elif name in ("uint32", "uint64"):
        held = len(tensor.uint64_data)
    else:
        held = len(tensor.int32_data)
    if count != held:
        raise UnsafeArtifactError(
            f"{owner} claims {count} elements and holds {held}; the file is damaged or hostile"
        )


def _node_name(node: Any) -> str:
    return _printable(node.name or next(iter(node.output), ""))


def _record(proto: Any, where: str) -> OnnxNetwork:
    from onnx import numpy_helper

    graph = proto.graph
    stored = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelImportError(
            f"{where}: has inputs {[i.name for i in inputs]} and outputs "
            f"{[o.name for o in graph.output]}; export a classifier with one input and one output"
        )
    declared, output = inputs[0].type.tensor_type, graph.output[0]
    dtype = _TYPES.get(declared.elem_type, (f"type {declared.elem_type}", 0))[0]
    if dtype not in ("float32", "float64"):
        raise UnsupportedOperationError(
            f"{where}: input {inputs[0].name!r} is {dtype}; export with a float32 input"
        )
    dims = declared.shape.dim
    if not declared.HasField("shape") or len(dims) > MAX_RANK:
        raise ModelImportError(
            f"{where}: input {inputs[0].name!r} declares no shape of at most {MAX_RANK} axes; "
            "export it again"
        )
    shape = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims
    )

    live = _prune(graph, output.name)
    steps = []
    for node in graph.node:
        attributes = {}
        for attribute in node.attribute:
            value = _attribute(attribute)
            attributes[attribute.name] = (
                numpy_helper.to_array(value) if attribute.type == attribute.TENSOR else value
            )
        steps.append(
            Step(
                op=_printable(node.op_type),
                name=_node_name(node),
                inputs=tuple(node.input),
                outputs=tuple(node.output),
                attrs=attributes,
            )
        )
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name in live}
    rank = output.type.tensor_type
    return OnnxNetwork(
        where=where,
        steps=tuple(steps),
        constants=constants,
        input=inputs[0].name,
        input_shape=shape,
        input_dtype=dtype,
        output=output.name,
        output_rank=len(rank.shape.dim) if rank.HasField("shape") else None,
        opset=_opset(proto),
        proto=proto,
    )


def _prune(graph: Any, output: str) -> set[str]:
    """Delete nodes the output does not depend on, so that nothing ever runs them."""
    live = {output}
    kept = []
    for node in reversed(graph.node):
        if live.intersection(node.output):
            live.update(node.input)
            kept.append(node)
    kept.reverse()
    if len(kept) < len(graph.node):
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)
    return live


def _attribute(attribute: Any) -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if attribute.type in (attribute.FLOATS, attribute.INTS) else value


# Lowering


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
    emitter = Emitter(sample, network.input)
    budget = Budget(sum(c.size for c in network.constants.values()))
    values: dict[str, Any] = {**network.constants, network.input: Value(0, full), "": None}
    for step in network.steps:
        results = _lower_step(network, step, emitter, budget, values)
        for name, result in zip(step.outputs, results, strict=False):
            values[name] = result
            if isinstance(result, Value):
                emitter.label(result, _printable(name))
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
        raise ModelImportError(f"{where}: {_reason(error)}") from None
    raise UnsupportedOperationError(f"{where} is not supported; {_STILL_WORKS}")


_STILL_WORKS = (
    "attacks still work on the network as a JAX function: load_model(function, input_shape=...)"
)


def reference_values(network: OnnxNetwork, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Run ONNX's reference evaluator on one input; return every value by its node's name.

    Args:
        network: admitted and lowered, so that its sizes are known to be bounded.
        x: of the network's full input shape.

    Raises:
        ModelImportError: the evaluator cannot run the network.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(network.proto, new_ops=_own_operators())
            feed = {network.input: x.astype(network.input_dtype)}
            values = evaluator.run(None, feed, intermediate=True)
    except Exception as error:
        raise ModelImportError(
            f"{network.where}: the ONNX reference evaluator cannot run it: {_reason(error)}"
        ) from None
    return {_printable(k): np.asarray(v) for k, v in values.items() if v is not None}


@cache
def _own_operators() -> list[type]:
    """Wrap the implementations of `onnx_oracle` as classes the evaluator takes."""
    from onnx.reference.op_run import OpRun

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda _self, *inputs, **attrs: (function(*inputs, **attrs),)

    return [
        type(name, (OpRun,), {"op_domain": "", "_run": wrapped(function)})
        for name, function in onnx_oracle.OPERATORS.items()
    ]


def reference_output(network: OnnxNetwork, x: NDArray[Any]) -> NDArray[Any]:
    """Run ONNX's reference evaluator on one input; return its flattened output."""
    return reference_values(network, x)[_printable(network.output)].ravel()


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return _printable(text, 300)


def _printable(text: str, length: int = 120) -> str:
    """Return text of the file's author without control characters, fit for one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:length])
