"""Reads ONNX files: admission checks for untrusted bytes, then a plain record of the network.

The only file that imports `onnx`. Sizes are checked before anything is allocated for them.
"""

from __future__ import annotations

import math
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import (
    AisecError,
    ModelImportError,
    UnsafeArtifactError,
    UnsupportedOperationError,
)

from . import onnx_oracle
from .builder import MAX_RANK
from .onnx_network import OnnxNetwork, Step, printable, reason_of
from .protobuf import scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

MAX_FILE_BYTES = 1 << 30
OPSETS = range(7, 22)
_ALWAYS_UNPACKED = 64 << 20
"""Bytes that any gzipped file may unpack to; larger ones may hold a few times their size."""
_MOST_PACKED = 16

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


def read(path: Path) -> OnnxNetwork:
    """Read and admit an ONNX file, gzipped or not.

    Raises:
        UnsafeArtifactError: external data, or sizes out of proportion to the file.
        UnsupportedOperationError: an operator, opset or type outside the supported set.
        ModelImportError: missing, unreadable or invalid.
    """
    where = path.name
    try:
        if path.exists() and not path.is_file():
            raise ModelImportError(f"{where}: not a file; give the path of an ONNX file")
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
    if data.startswith(b"\x1f\x8b"):
        data = _unpacked(data, where)
    scan(data, where)

    import onnx

    try:
        proto = onnx.ModelProto.FromString(data)
        del data
        _check_texts(proto.graph, where)
        _admit(proto, where)
        onnx.checker.check_model(proto)
        return _record(proto, where)
    except AisecError:
        raise
    except Exception as error:  # untrusted bytes: anything can be wrong
        raise ModelImportError(f"{where}: not a valid ONNX model: {reason_of(error)}") from None


def _unpacked(data: bytes, where: str) -> bytes:
    """Return what gzip packed, of bounded size."""
    most = min(MAX_FILE_BYTES, _ALWAYS_UNPACKED + _MOST_PACKED * len(data))
    unpack = zlib.decompressobj(wbits=31)
    try:
        network = unpack.decompress(data, most)
    except zlib.error as error:
        raise ModelImportError(f"{where}: the gzip data is damaged ({error})") from None
    if unpack.unconsumed_tail:
        raise UnsafeArtifactError(
            f"{where}: more than {most} bytes once unpacked, out of proportion to the file; "
            "not loaded"
        )
    if not unpack.eof:
        raise ModelImportError(f"{where}: the gzip data is cut short; fetch it again")
    return network


def _check_texts(graph: Any, where: str) -> None:
    """Refuse names that are not UTF-8, which the parser hands out as bytes."""
    texts = [t.name for t in graph.initializer] + [v.name for v in (*graph.input, *graph.output)]
    for node in graph.node:
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
        texts += [attribute.name for attribute in node.attribute]
    if not all(isinstance(text, str) for text in texts):
        raise ModelImportError(f"{where}: not a valid ONNX model: a name is not UTF-8 text")


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
                f"{where}: operator {printable(node.op_type)} of domain {node.domain!r} "
                f"(node {_node_name(node)!r}) is not supported; export with standard operators"
            )
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise UnsupportedOperationError(
                    f"{where}: operator {printable(node.op_type)} (node {_node_name(node)!r}) is "
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
    return printable(node.name or next(iter(node.output), ""))


def _record(proto: Any, where: str) -> OnnxNetwork:
    from onnx import numpy_helper

    graph = proto.graph
    stored = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedOperationError(
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
                op=printable(node.op_type),
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


class Oracle:
    """ONNX's reference evaluator on one network, with the operators of `onnx_oracle`.

    The network must have been lowered before, so that its sizes are known to be bounded.
    """

    def __init__(self, network: OnnxNetwork) -> None:
        from onnx.reference import ReferenceEvaluator

        self._network = network
        try:
            self._evaluator = ReferenceEvaluator(
                network.proto, new_ops=_own_operators(network.opset < 13)
            )
        except Exception as error:
            raise self._failure(error) from None

    def values(self, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run on one input of the network's full shape; return every value by its node's name.

        Raises:
            ModelImportError: the evaluator cannot run the network.
        """
        feed = {self._network.input: x.astype(self._network.input_dtype)}
        try:
            with np.errstate(all="ignore"):
                values = self._evaluator.run(None, feed, intermediate=True)
        except Exception as error:
            raise self._failure(error) from None
        return {printable(k): np.asarray(v) for k, v in values.items() if v is not None}

    def output(self, x: NDArray[Any]) -> NDArray[Any]:
        """Run on one input and return the flattened output."""
        return self.values(x)[printable(self._network.output)].ravel()

    def _failure(self, error: Exception) -> ModelImportError:
        return ModelImportError(
            f"{self._network.where}: the ONNX reference evaluator cannot run it: {reason_of(error)}"
        )


@cache
def _own_operators(joined: bool) -> list[type]:
    """Wrap the implementations of `onnx_oracle` as classes the evaluator takes."""
    from onnx.reference.op_run import OpRun

    older = onnx_oracle.BEFORE_13.items() if joined else ()

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda _self, *inputs, **attrs: (function(*inputs, **attrs),)

    return [
        type(name, (OpRun,), {"op_domain": "", "_run": wrapped(function)})
        for name, function in (*onnx_oracle.OPERATORS.items(), *older)
    ]
