"""What a network computes on the way: its layers by name, and several of them in one JAX pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aisec_eval.errors import CapabilityError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .lowering.ir import GraphSpec

Function = tuple["Callable[[Any, Any], tuple[Any, ...]]", Any]
"""`(apply, params)`: `apply(params, x)` maps x [n, *input_shape] to one [n, *shape] a layer."""

_AFFINE = frozenset({"affine", "conv2d", "dot_general", "conv_general_dilated"})
_CHANNELS_FIRST = frozenset({"conv2d", "avg_pool2d", "max_pool2d"})
_SHOWN = 12


@dataclass(frozen=True)
class Layer:
    """One value inside a network."""

    name: str
    op: str
    """The operator that computes it."""
    shape: tuple[int, ...]
    """Of one sample."""
    inputs: tuple[int, ...] = ()
    """The layers it is computed from."""
    channels: int | None = None
    """The axis of the channels of feature maps; None where the layer is not known to be such."""

    @property
    def affine(self) -> bool:
        """Whether it is an affine function of one other layer."""
        return self.op in _AFFINE and len(self.inputs) == 1


class Layers:
    """The layers of a network that JAX runs.

    Attributes:
        name: the model's name, for messages.
        table: every layer, in the order of evaluation, the input first.
        output: index of the logits.
    """

    def __init__(
        self,
        name: str,
        table: Sequence[Layer],
        output: int,
        function: Callable[[tuple[int, ...]], Function],
    ) -> None:
        self.name = name
        self.table = tuple(table)
        self.output = output
        self._function = function
        self._known: dict[tuple[int, ...], Function] = {}

    def function(self, layers: tuple[int, ...]) -> Function:
        """Return the JAX function that gives these layers, the same object every time."""
        if layers not in self._known:
            self._known[layers] = self._function(layers)
        return self._known[layers]

    def find(self, layer: str | int) -> int:
        """Return the index of a layer by its name, or by its place (from the end if negative).

        Raises:
            InputError: there is no such layer; the message lists the last ones.
        """
        if isinstance(layer, str):
            for index, known in enumerate(self.table):
                if known.name == layer:
                    return index
        elif not isinstance(layer, bool) and -len(self.table) <= layer < len(self.table):
            return layer % len(self.table)
        last = ", ".join(known.name for known in self.table[-_SHOWN:])
        raise InputError(
            f"{self.name}: layer={layer!r} is none of its {len(self.table)} layers; "
            f"the last ones are {last}"
        )

    @property
    def bytes(self) -> int:
        """Bytes of all layers of one sample, in float32."""
        return 4 * sum(math.prod(layer.shape) for layer in self.table)

    @property
    def penultimate(self) -> int:
        """The input of the last affine layer: what the classes are told apart by.

        Raises:
            CapabilityError: nothing affine leads to the logits.
        """
        return self.table[self._last_affine()].inputs[0]

    @property
    def maps(self) -> int:
        """The last layer of feature maps; where there is none, the penultimate layer."""
        above = self._above(self.output)
        found = [i for i in above if self.table[i].channels is not None]
        return max(found) if found else self.penultimate

    def describe(self, index: int) -> dict[str, Any]:
        """Return name, operator, shape and place of a layer, as JSON can hold it."""
        layer = self.table[index]
        return {
            "name": layer.name,
            "operator": layer.op,
            "shape": list(layer.shape),
            "index": index,
            "of": len(self.table),
        }

    def _last_affine(self) -> int:
        found = [i for i in self._above(self.output) if self.table[i].affine]
        if not found:
            raise CapabilityError(
                f"{self.name}: no affine layer leads to its logits, so no layer can be chosen; "
                "name one with layer="
            )
        return max(found)

    def _above(self, index: int) -> set[int]:
        """Indices of all that a layer is computed from, itself included."""
        seen, left = {index}, [index]
        while left:
            for other in self.table[left.pop()].inputs:
                if other not in seen:
                    seen.add(other)
                    left.append(other)
        return seen


def of_spec(name: str, spec: GraphSpec) -> Layers:
    """Return the layers of a lowered network: its nodes, under their names."""
    from .lowering.to_jax import to_jax

    table: list[Layer] = []
    for node in spec.nodes:
        first = node.op in _CHANNELS_FIRST
        axis = 0 if first else inherited(table, node.op, node.shape, node.inputs)
        table.append(Layer(node.name, node.op, node.shape, node.inputs, axis))
    return Layers(name, table, spec.output, lambda layers: to_jax(spec, layers))


def inherited(
    table: Sequence[Layer], op: str, shape: tuple[int, ...], inputs: tuple[int, ...]
) -> int | None:
    """Return the axis of channels that a layer takes over from one it is computed from."""
    if op in ("reshape", "transpose"):
        return None
    found = [table[i].channels for i in inputs if len(table[i].shape) == len(shape)]
    return next((axis for axis in found if axis is not None), None)
