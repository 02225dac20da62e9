"""What every engine may ask of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aisec_eval._core import Graph


@dataclass(frozen=True)
class Capabilities:
    """What a model can do; engines ask for these, never for a type."""

    gradient: bool = False
    """Input gradients, through the native graph or through JAX."""
    graph: bool = False
    """Lowered to the engine's graph: native forward and gradient, certified bounds."""
    scores: bool = True
    """Returns one score a class; False when only a label comes back."""
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
    """A classifier: a batch of inputs to one logit a class, and what is true of it."""

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

    @property
    def graph(self) -> Graph | None:
        """The native graph, or None when the model could not be lowered."""
        return None

    def jax_function(self) -> tuple[Callable[[Any, Any], Any], Any] | None:
        """Return `(apply, params)` with `apply(params, x) -> logits` traceable by JAX, or None.

        Parameters are arguments, so that one compilation serves every checkpoint.
        """
        return None


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
