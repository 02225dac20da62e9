"""A model from a JAX function: lowered to the native graph where its operators allow."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import InputError, ModelImportError, UnsupportedOperationError

from . import checks
from .base import Capabilities, LoadReport, Model, inputs_of
from .jit import Jitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .layers import Layers
    from .lowering.jaxpr import Traced


class JaxModel(Model):
    """A classifier `apply(params, x)`. Built by `load_function`."""

    def __init__(
        self,
        apply: Callable[[Any, Any], Any],
        params: Any,
        *,
        name: str,
        digest: str,
        input_shape: tuple[int, ...],
        num_classes: int,
        graph: Graph | None,
    ) -> None:
        self.name = name
        self.digest = digest
        self.input_shape = input_shape
        self.num_classes = num_classes
        self.capabilities = Capabilities(gradient=True, graph=graph is not None)
        self.report = LoadReport()
        self._apply = apply
        self._params = params
        self._graph = graph

    @property
    def graph(self) -> Graph | None:
        """The native graph, or None when the function could not be lowered."""
        return self._graph

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits [n, num_classes] for inputs [n, *input_shape]; native where lowered.

        Raises:
            InputError: x does not have the model's shape.
        """
        x = inputs_of(self, x)
        if self._graph is not None:
            return self._graph.forward(x)
        return self._jitted(x) if len(x) else np.zeros((0, self.num_classes), np.float32)

    @cached_property
    def layers(self) -> Layers:
        """Every value the traced function computes from its input."""
        from .lowering import jaxpr

        def function(x: Any) -> Any:
            return self._apply(self._params, x)

        return jaxpr.trace(function, (1, *self.input_shape), self.name).layers()

    @cached_property
    def _jitted(self) -> Jitted:
        return Jitted(self._apply, self._params)

    def jax_function(self) -> tuple[Callable[[Any, Any], Any], Any]:
        """Return the user's own function as `(apply, params)`."""
        return self._apply, self._params


def load_callable(function: Callable[[Any], Any], options: checks.Options) -> JaxModel:
    """Load a plain JAX callable from inputs [n, *input_shape] to logits [n, classes].

    Raises:
        InputError: input_shape is missing.
        ModelImportError: JAX cannot trace the function, or it is not a classifier.
    """
    name = getattr(function, "__name__", None) or type(function).__name__
    return load_function(lambda _params, x: function(x), (), options, name)


def load_function(
    apply: Callable[[Any, Any], Any],
    params: Any,
    options: checks.Options,
    name: str,
    notes: tuple[str, ...] = (),
) -> JaxModel:
    """Load `apply(params, x)`: trace it, lower it where possible and check what comes out.

    Args:
        apply: traceable by JAX, x [n, *input_shape] to [n, classes], samples independent.
        params: its parameters, any pytree of arrays.
        options: what the caller said about the model.
        name: used where `options.name` is None.
        notes: warnings the adapter already has.
    """
    from .lowering import jaxpr

    shape = options.input_shape
    name = options.name or name
    if shape is None:
        raise InputError(
            f"{name}: give one sample's shape without the batch axis, e.g. input_shape=(3, 32, 32)"
        )
    traced = jaxpr.trace(lambda x: apply(params, x), (1, *shape), name)
    if len(traced.output_shape) != 2 or traced.output_shape[0] != 1:
        raise ModelImportError(
            f"{name}: maps [1, {', '.join(map(str, shape))}] to {list(traced.output_shape)}; "
            "expected [1, classes]: the function takes and returns a batch"
        )
    run = Jitted(apply, params)
    x = checks.probes(options, shape)
    expected = run(x)
    graph, reason = None, None
    if any(checks.differs(a, b) for a, b in zip(run(x[:2]), expected, strict=False)):
        reason = (
            "a sample's outputs depend on the rest of its batch; put the model in evaluation mode"
        )
    else:
        graph, reason = _lower(traced, x, expected)
    model = JaxModel(
        apply,
        params,
        name=name,
        digest=traced.digest if graph is None else graph.digest,
        input_shape=shape,
        num_classes=traced.output_shape[1],
        graph=graph,
    )
    found = [*notes, *checks.warnings(run, x, expected, options)]
    if reason is not None:
        found.append(f"not certifiable: {reason}; attacks through JAX still work")
    model.report = LoadReport(tuple(found), reason)
    return model


def _lower(
    traced: Traced, x: NDArray[np.float32], expected: NDArray[np.float32]
) -> tuple[Graph | None, str | None]:
    """Return the checked native graph, or None and why there is none."""
    from .lowering import jaxpr

    try:
        spec = jaxpr.lower(traced)
    except UnsupportedOperationError as error:
        return None, str(error)
    try:
        graph = spec.to_core()
    except ValueError as error:
        raise ModelImportError(f"{traced.name}: {error}; please report this model") from None
    checks.check_graph(graph, x, expected, traced.values, traced.name)
    return graph, None
