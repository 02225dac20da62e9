"""A model from an ONNX file: the native graph, or JAX where an operator is not native."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import CapabilityError, ModelImportError

from . import checks
from .base import Capabilities, LoadReport, Model, inputs_of
from .jit import Jitted
from .lowering.to_jax import to_jax

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .layers import Layers
    from .lowering.ir import GraphSpec
    from .onnx_runtime import Runtime


class OnnxModel(Model):
    """An ONNX classifier. Built by `load_onnx`."""

    def __init__(self, spec: GraphSpec, graph: Graph | None, name: str, path: Path) -> None:
        self.name = name
        self.digest = spec.digest if graph is None else graph.digest
        self.input_shape = spec.input_shape
        (self.num_classes,) = spec.output_shape
        self.capabilities = Capabilities(gradient=True, graph=graph is not None)
        self.report = LoadReport()
        self._spec = spec
        self._graph = graph
        self._path, self._stamp = path, _stamp(path)

    @property
    def graph(self) -> Graph | None:
        """The native graph, or None when an operator is not native."""
        return self._graph

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits [n, num_classes] for inputs [n, *input_shape].

        Raises:
            InputError: x does not have the model's shape.
        """
        x = inputs_of(self, x)
        if self._graph is not None:
            return self._graph.forward(x)
        return self._jitted(x) if len(x) else np.zeros((0, self.num_classes), np.float32)

    @cached_property
    def layers(self) -> Layers:
        """The nodes of the lowered network; ONNX names where a node is one of the file's."""
        from .layers import of_spec

        return of_spec(self.name, self._spec)

    @cached_property
    def _jax(self) -> tuple[Callable[[Any, Any], Any], Any]:
        return to_jax(self._spec)

    @cached_property
    def _jitted(self) -> Jitted:
        return Jitted(*self._jax)

    def jax_function(self) -> tuple[Callable[[Any, Any], Any], Any]:
        """Return `(apply, params)`, the same graph under JAX; imports JAX."""
        return self._jax

    def runtime(self) -> Runtime:
        """Return the file's network in ONNX Runtime; reads the file again.

        Raises:
            CapabilityError: onnxruntime is not installed or does not take the network, or the file
                is not the one that was loaded.
        """
        from .lowering import onnx, onnx_lower
        from .onnx_runtime import Runtime

        if _stamp(self._path) != self._stamp:
            raise CapabilityError(f"{self._path.name}: the file has changed since it was loaded")
        network = onnx.read(self._path)
        full = onnx_lower.input_layout(network, self.input_shape)[1]
        # What the output does not depend on was left out.
        data = network.proto.SerializeToString()
        return Runtime(data, network.input, full, network.input_dtype, network.where)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file's content, None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def load_onnx(path: Path, options: checks.Options) -> OnnxModel:
    """Read, lower and check an ONNX file; the oracle is ONNX's reference evaluator.

    Raises:
        UnsafeArtifactError: the file would read other files or exhaust memory.
        UnsupportedOperationError: an operator the engine does not know.
        ModelImportError: unreadable, invalid, not a classifier, or lowered wrongly.
    """
    from .lowering import onnx, onnx_lower

    network = onnx.read(path)
    spec = onnx_lower.lower(network, options.input_shape)
    if options.flat:
        spec = spec.flattened()
    if len(spec.output_shape) != 1:
        raise ModelImportError(
            f"{network.where}: output {network.output!r} has shape {list(spec.output_shape)} "
            "for one sample; a classifier gives one score a class"
        )
    full = onnx_lower.input_layout(network, options.input_shape)[1]
    foreign = spec.not_native
    try:
        graph = None if foreign else spec.to_core()
    except ValueError as error:
        raise ModelImportError(f"{network.where}: {error}") from None
    name = options.name or path.name.removesuffix(".gz").removesuffix(".onnx")
    model = OnnxModel(spec, graph, name, path)

    oracle = onnx.Oracle(network)

    def values(x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        return oracle.values(x.reshape(full))

    x = checks.probes(options, model.input_shape)
    expected = np.stack([oracle.output(one.reshape(full)) for one in x])
    outputs = model.logits(x)
    if graph is not None:
        checks.check_graph(graph, x, expected, values, network.where)
    else:
        for got, wanted in zip(outputs, expected, strict=True):
            gap = checks.differs(got, wanted)
            if gap is not None:
                raise ModelImportError(
                    f"{network.where}: its JAX function differs from the model: off by {gap:.1e} "
                    f"relative (at most {checks.TOLERANCE:.0e} is accepted); please report it"
                )
    found = checks.warnings(model.logits, x, outputs, options)
    reason = None
    if foreign is not None:
        reason = f"operator {foreign.source}"
        remedy = "attacks through JAX still work"
        if foreign.op in ("softmax", "log_softmax"):
            remedy += "; export the model without its softmax to certify it"
        found.append(f"not certifiable: {reason} has no bounds; {remedy}")
    model.report = LoadReport(tuple(found), reason)
    return model
