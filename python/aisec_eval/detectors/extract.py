"""What a model sees of its training data: features, logits and last-layer errors in one pass.

The layer read by default is the input of the last affine layer, never the logits: what a backdoor
leaves behind is seen there, and a detector that reads the logits instead works on ten numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CapabilityError, InputError
from ..models.base import Model
from .passes import Reader
from .source import MIB, open_source
from .sources.arrays import ArraySource, NpySource
from .sources.spool import Rows, RowsSource, rows_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from ..models.layers import Layers
    from .passes import Progress
    from .source import Source

    Finish = Callable[[tuple[Any, ...], Any], tuple[Any, ...]]

_LARGEST_BLOCK = 256
_ACTIVATIONS = 64 * MIB
"""Bytes of all layers of one block."""
DEFAULT = "the input of the last affine layer (default)"


@dataclass(frozen=True, eq=False)
class Extraction:
    """What a model sees of each sample, one row a sample, in the order given."""

    features: NDArray[np.float32]
    """The layer, flattened [n, d]."""
    logits: NDArray[np.float32]
    """[n, classes]."""
    errors: NDArray[np.float32]
    """`softmax(logits) - onehot(label)` [n, classes]: the gradient of the loss by the logits. Its
    outer product with the features is the gradient by the last layer's weights."""
    label: NDArray[np.int64]
    """Labels given, or the predicted classes [n]."""
    layer: Mapping[str, Any]
    """Which layer was read: name, operator, shape, index, how it was chosen."""


def extract(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    layer: str | int | None = None,
    memory_limit: int | None = None,
    progress: Progress = None,
) -> Extraction:
    """Run a model once over data and keep features, logits and last-layer errors.

    Args:
        model: a model whose layers JAX can run (ONNX, JAX, flax, equinox, lowered scikit-learn).
        x: inputs [n, *input_shape] in the model's input range, floats: an array, a path to a
            `.npy` file, or any other source that `scan` takes, with rows of flattened inputs.
        y: labels [n], integers in 0..classes-1, or what `scan` takes beside `x`; the predicted
            classes when None.
        layer: name or index of the layer to read; the input of the last affine layer when None.
        memory_limit: bytes for one block of samples and its activations; what is returned (4 bytes
            a number) comes on top.
        progress: called as `progress(rows done, rows in all or 0 if unknown, note)`.

    Raises:
        CapabilityError: the inside of the model is hidden, or no layer can be chosen.
        InputError: inputs, labels or layer do not fit; the row is named.
        DatasetError: a file cannot be read.
    """
    layers = layers_of(model)
    index, about = choose(layers, layer)
    source = open_inputs(model, x, y, memory_limit)
    finish = _with_errors if labelled(source, y) else _with_predicted
    run = Pass(model, layers, (index, layers.output), finish, memory_limit)
    parts = list(run(Reader(source, memory_limit, progress, 1)))
    label = np.concatenate([y for _, y in parts])
    features, logits, errors = (np.concatenate([found[k] for found, _ in parts]) for k in range(3))
    if finish is _with_predicted:
        label = logits.argmax(axis=1).astype(np.int64)
    return Extraction(features.reshape(len(label), -1), logits, errors, label, about)


def extract_source(
    model: Model,
    x: Any,
    y: Any,
    *,
    layer: str | int | None = None,
    probabilities: bool = False,
    memory_limit: int | None = None,
    progress: Progress = None,
) -> tuple[RowsSource, dict[str, Any]]:
    """Return the features of a model, or its probabilities, as a source, and what was read.

    Features that take more than a fourth of `memory_limit` are kept in a temporary file.

    Raises:
        CapabilityError: the inside of the model is hidden, or no layer can be chosen.
        InputError: inputs, labels or layer do not fit.
        DatasetError: a file cannot be read, or the temporary one not be written.
    """
    layers = layers_of(model)
    if probabilities and layer is not None:
        raise InputError("layer= does not go with a method that reads probabilities")
    index, about = choose(layers, layers.output if probabilities else layer)
    finish = _probabilities if probabilities else _features
    run = Pass(model, layers, (index, layers.output), finish, memory_limit)
    reader = Reader(open_inputs(model, x, y, memory_limit), memory_limit, progress, 1)
    own = labelled(reader.source, y)
    rows = Rows(reader.source.name, (math.prod(layers.table[index].shape),), reader.limit // 4)
    labels = []
    for (found, predicted), given in run(reader):
        rows.append(found)
        labels.append(given if own else predicted.astype(np.int64))
    rows.finish()
    about |= {"labels": "given" if own else "predicted by the model"}
    if probabilities:
        about["chosen"] = "softmax of the logits, as the method asks for probabilities"
    return rows_source(reader.source.name, rows, np.concatenate(labels)), about


def layers_of(model: Any) -> Layers:
    """Return the layers of a model.

    Raises:
        InputError: `model` was not loaded.
        CapabilityError: its inside is hidden.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"model={type(model).__name__} is no Model; load it first: ae.load_model(...)"
        )
    layers = model.layers
    if layers is None:
        raise CapabilityError(
            f"model {model.name!r} does not show its layers (black boxes and torch modules do not);"
            " load an ONNX export of it, or compute the features yourself: scan(features, labels)"
        )
    return layers


def choose(layers: Layers, layer: str | int | None) -> tuple[int, dict[str, Any]]:
    """Return the index of the layer to read, and what to tell of it."""
    index = layers.penultimate if layer is None else layers.find(layer)
    return index, layers.describe(index) | {"chosen": DEFAULT if layer is None else "given"}


def open_inputs(model: Model, x: Any, y: Any, memory_limit: int | None) -> Source:
    """Return inputs of a model as a source of flattened rows.

    Raises:
        InputError: their shape or dtype is not the model's.
    """
    source = open_source(x, y, memory_limit=memory_limit)
    shape = dtype = None
    if isinstance(source, ArraySource):
        shape, dtype = source.x.shape[1:], source.x.dtype
    elif isinstance(source, NpySource):
        shape, dtype = source.shape[1:], source.dtype
    if shape is not None and shape not in (model.input_shape, (math.prod(model.input_shape),)):
        raise InputError(
            f"{source.name}: samples of shape {list(shape)}, the model takes "
            f"{list(model.input_shape)}"
        )
    if dtype is not None and dtype.kind != "f":
        raise InputError(
            f"{source.name}: dtype {dtype}, expected floats in the model's input range; for 8-bit "
            "images pass x.astype(np.float32) / 255"
        )
    return source


def labelled(source: Source, y: Any) -> bool:
    """Whether labels were given, beside the inputs or as one of their columns."""
    return y is not None or getattr(source, "label", None) is not None


def as_inputs(rows: NDArray[Any], model: Model, name: str, first: int) -> NDArray[np.float32]:
    """Return flattened rows as inputs [b, *input_shape]; `first` rows came before.

    Raises:
        InputError: they are too long or too short, or a value is not finite.
    """
    if rows.shape[1] != math.prod(model.input_shape):
        raise InputError(
            f"{name}: rows of {rows.shape[1]} values, the model takes {list(model.input_shape)}"
        )
    finite = np.isfinite(rows)
    if not finite.all():
        row, place = (int(i[0]) for i in np.nonzero(~finite))
        raise InputError(f"{name}: row {first + row}: value {place} is not finite")
    return rows.reshape(-1, *model.input_shape).astype(np.float32, copy=False)


def _check_labels(labels: NDArray[np.int64], classes: int, name: str, first: int) -> None:
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{name}: row {first + row}: label {labels[row]}, the model has classes "
            f"0..{classes - 1}"
        )


def activations(model: Model) -> int:
    """Return the bytes of all layers of one sample; of a black box, twice its input."""
    layers = model.layers
    if layers is None:
        return 8 * math.prod(model.input_shape)
    return layers.bytes


class Pass:
    """Runs layers of a model over a source, block after block of fixed size.

    A row is always at the same place of the same block, whatever batches the source comes in. Only
    a memory limit that asks for smaller blocks can change the last bits of what XLA computes.
    """

    def __init__(
        self,
        model: Model,
        layers: Layers,
        wanted: tuple[int, ...],
        finish: Finish,
        memory_limit: int | None,
    ) -> None:
        self._model = model
        self._classes = math.prod(layers.table[layers.output].shape)
        self._apply, self._params = layers.function(wanted)
        self._finish = finish
        each = layers.bytes
        most = min(_ACTIVATIONS, (memory_limit or 4 * _ACTIVATIONS) // 4)
        self.block = 1 << max(0, min(_LARGEST_BLOCK, most // each).bit_length() - 1)
        """Samples evaluated together."""

    def __call__(
        self, reader: Reader
    ) -> Iterator[tuple[tuple[NDArray[Any], ...], NDArray[np.int64]]]:
        """Yield outputs [b, ...] and labels [b] of every block; the last one is shorter."""
        import jax

        params = jax.device_put(self._params)
        before: tuple[Any, NDArray[np.int64]] | None = None
        for x, y in self._blocks(reader):
            padded = np.zeros(self.block, np.int32)
            # Labels that are no classes of the model are refused where they are read.
            padded[: len(y)] = np.clip(y, -1, 2**31 - 1)
            run = _compiled()
            found = run(self._apply, self._finish, params, x, padded)
            # While this block is computed, the one before is handed out.
            if before is not None:
                yield _numpy(*before)
            before = found, y
        if before is not None:
            yield _numpy(*before)

    def _blocks(self, reader: Reader) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Cut the source into blocks; a fresh buffer each, as JAX may read it later."""
        x, y, count = self._fresh()
        for first, (rows, labels) in reader.batches("features"):
            inputs = as_inputs(rows, self._model, reader.source.name, first)
            if self._finish is _with_errors:
                _check_labels(labels, self._classes, reader.source.name, first)
            start = 0
            while start < len(rows):
                taken = min(self.block - count, len(rows) - start)
                x[count : count + taken] = inputs[start : start + taken]
                y[count : count + taken] = labels[start : start + taken]
                start, count = start + taken, count + taken
                if count == self.block:
                    yield x, y
                    x, y, count = self._fresh()
        if count:
            x[count:] = 0
            yield x, y[:count]

    def _fresh(self) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
        shape = (self.block, *self._model.input_shape)
        return np.empty(shape, np.float32), np.empty(self.block, np.int64), 0


def _numpy(
    found: tuple[Any, ...], y: NDArray[np.int64]
) -> tuple[tuple[NDArray[Any], ...], NDArray[np.int64]]:
    return tuple(np.asarray(part)[: len(y)] for part in found), y


@cache
def _compiled() -> Callable[..., Any]:
    import jax

    def run(apply: Any, finish: Finish, params: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return finish(apply(params, x), y)

    return jax.jit(run, static_argnums=(0, 1))


def _features(outputs: tuple[Any, ...], _y: Any) -> tuple[Any, ...]:
    layer, logits = outputs
    return layer.reshape(len(layer), -1).astype(np.float32), logits.argmax(axis=1)


def _probabilities(outputs: tuple[Any, ...], _y: Any) -> tuple[Any, ...]:
    import jax

    logits = outputs[1].astype(np.float32)
    return jax.nn.softmax(logits, axis=1), logits.argmax(axis=1)


def _with_errors(outputs: tuple[Any, ...], y: Any) -> tuple[Any, ...]:
    import jax

    layer, logits = (part.astype(np.float32) for part in outputs)
    errors = jax.nn.softmax(logits, axis=1) - jax.nn.one_hot(y, logits.shape[1])
    return layer.reshape(len(layer), -1), logits, errors


def _with_predicted(outputs: tuple[Any, ...], _y: Any) -> tuple[Any, ...]:
    return _with_errors(outputs, outputs[1].argmax(axis=1))
