"""What every engine may ask of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import CapabilityError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .layers import Layers
    from .onnx_runtime import Runtime


@dataclass(frozen=True)
class Capabilities:
    """What a model can do; engines ask for these, never for a type."""

    gradient: bool = False
    """Input gradients: through the native graph, through JAX or by `Model.value_and_vjp`."""
    graph: bool = False
    """Lowered to the engine's graph: native forward and gradient, certified bounds."""
    scores: bool = True
    """Returns one score a class; False when only a label comes back: `labels`, no `logits`."""
    deterministic: bool = True
    """The same input always gives the same output."""
    max_batch: int | None = None
    """Largest number of samples one call accepts."""


@dataclass(frozen=True)
class LoadReport:
    """What running a few samples on load showed, in plain words."""

    warnings: tuple[str, ...] = ()
    not_certifiable: str | None = None
    """Why no graph could be built, e.g. `operator Softmax (node "probs")`; None when it could."""


class Model(ABC):
    """A classifier: a batch of inputs to one logit a class, and what is true of it.

    A model that returns labels only (`capabilities.scores` is False) overrides `labels`, and its
    `logits` raises CapabilityError.
    """

    name: str
    digest: str
    """Hex digest of what the model computes (graph or parameters); names shards and caches."""
    input_shape: tuple[int, ...]
    """One sample's shape, in the layout the model takes."""
    num_classes: int
    capabilities: Capabilities
    report: LoadReport

    @abstractmethod
    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits [n, num_classes] for inputs [n, *input_shape]."""

    def labels(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the predicted class [n] for inputs [n, *input_shape]; the first of equal ones."""
        predicted: NDArray[np.int64] = np.argmax(self.logits(x), axis=1).astype(np.int64)
        return predicted

    def value_and_vjp(
        self,
        x: NDArray[np.float32],
        cotangent: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and the input gradient of `sum(logits * cotangent(logits))`.

        For models with gradients of their own, neither a graph nor a JAX function; samples are
        independent of each other.

        Args:
            x: inputs [n, *input_shape].
            cotangent: called once with the logits [n, num_classes], returns as many numbers.

        Returns:
            Logits [n, num_classes] and gradient [n, *input_shape].

        Raises:
            CapabilityError: the model has no gradients of its own.
        """
        del x, cotangent
        raise CapabilityError(f"model {self.name!r} offers no gradient of its own")

    @property
    def graph(self) -> Graph | None:
        """The native graph, or None when the model could not be lowered."""
        return None

    @property
    def layers(self) -> Layers | None:
        """The layers inside, for models that JAX runs; None where the inside is hidden."""
        return None

    def jax_function(self) -> tuple[Callable[[Any, Any], Any], Any] | None:
        """Return `(apply, params)` with `apply(params, x) -> logits` traceable by JAX, or None.

        Parameters are arguments, so that one compilation serves every checkpoint.
        """
        return None

    def runtime(self) -> Runtime:
        """Return the model in ONNX Runtime, for a second opinion on single inputs.

        Raises:
            CapabilityError: it is from no ONNX file, or onnxruntime is not installed or does not
                take it.
        """
        raise CapabilityError(f"model {self.name!r} is from no ONNX file")


def inputs_of(model: Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `x` as C-contiguous float32, checked against the model's input shape.

    Raises:
        InputError: x is not [n, *input_shape].
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    if x.shape[1:] != model.input_shape or x.ndim != len(model.input_shape) + 1:
        expected = ", ".join(map(str, ("n", *model.input_shape)))
        raise InputError(f"x has shape {list(x.shape)}, the model takes [{expected}]")
    return x
