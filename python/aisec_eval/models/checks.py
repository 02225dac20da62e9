"""What running a few samples on load can tell: is the import right, is the input as expected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import InputError, ModelImportError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

Run = "Callable[[NDArray[np.float32]], NDArray[np.float32]]"

TOLERANCE = 1e-4
"""Largest accepted difference between a lowered graph and its original, relative to the scale."""
SOFTMAX = (
    "outputs look like probabilities (every row sums to 1): attacks and margins expect logits; "
    "remove the final softmax"
)
_REAL = 64
"""Given samples that are run; enough to tell a working classifier from chance."""


@dataclass(frozen=True, eq=False)
class Options:
    """What the caller of `load_model` said about the model."""

    input_shape: tuple[int, ...] | None = None
    bounds: tuple[float, float] | None = None
    name: str | None = None
    samples: NDArray[Any] | None = None
    labels: NDArray[Any] | None = None
    flat: bool = False
    """Take outputs of any shape, in row-major order, for scores."""


def probes(options: Options, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return inputs to compare on: random in the range, random beyond it, and real ones."""
    low, high = options.bounds or (0.0, 1.0)
    rng = np.random.Generator(np.random.Philox(key=0))
    inside = low + (high - low) * rng.random((2, *shape))
    beyond = (high - low) * rng.standard_normal((2, *shape))
    parts = [inside.astype(np.float32), beyond.astype(np.float32)]
    if options.samples is not None:
        parts.append(arranged(options.samples, shape)[0][:4])
    return np.concatenate(parts)


def differs(value: NDArray[Any], expected: NDArray[Any]) -> float | None:
    """Return the relative difference where it is more than rounding, else None.

    It is relative to the largest expected magnitude; where `expected` is not finite nothing is
    asked of `value`.
    """
    usable = np.isfinite(expected)
    if not usable.any():
        return None
    gap = np.abs(value.astype(np.float64) - expected)[usable].max()
    scale = np.abs(expected[usable]).max()
    if gap <= TOLERANCE * scale + 1e-6:
        return None
    return float(gap / max(scale, 1e-6)) if np.isfinite(gap) else math.inf


def check_graph(
    graph: Graph,
    x: NDArray[np.float32],
    expected: NDArray[np.float32],
    values: Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]],
    where: str,
) -> None:
    """Compare the graph's outputs with the original's, and name the first node that differs.

    Args:
        graph: the lowered network.
        x: probes [n, *input_shape].
        expected: the original's outputs [n, num_classes].
        values: every intermediate value of the original by node name, for a batch of one.
        where: the model's name, for the message.

    Raises:
        ModelImportError: some output is off by more than `TOLERANCE`.
    """
    outputs = graph.forward(x)
    for i in range(len(x)):
        gap = differs(outputs[i], expected[i])
        if gap is None:
            continue
        one = x[i : i + 1]
        known = values(one)
        first = f"the output: off by {gap:.1e}"
        for node in range(graph.num_nodes):
            # A leading ~ marks the same values in another order of axes.
            name = graph.node_name(node).lstrip("~")
            if name not in known or known[name].size != math.prod(graph.node_shape(node)):
                continue
            value, original = graph.forward(one, node).ravel(), known[name].ravel()
            if name != graph.node_name(node):
                value, original = np.sort(value), np.sort(original)
            off = differs(value, original)
            if off is not None:
                first = f'node "{name}" ({graph.node_op(node)}): off by {off:.1e}'
                break
        raise ModelImportError(
            f"{where}: the lowered graph differs from the model, first at {first} relative "
            f"(at most {TOLERANCE:.0e} is accepted); please report this model"
        )


def arranged(samples: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], str | None]:
    """Return samples in the model's layout as float32, and a warning if they were not.

    Raises:
        InputError: no reordering of axes makes them fit.
    """
    x = np.asarray(samples)
    if x.ndim < 1 or len(x) == 0 or x.dtype.kind not in "fiub":
        raise InputError(
            f"samples has shape {list(x.shape)} and dtype {x.dtype}; pass numbers [n, *input_shape]"
        )
    given = x.shape[1:]
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError("samples holds NaN or infinity; every value must be finite")
    if given == shape:
        return x, None
    taken = f"samples have shape {list(given)}, the model takes {list(shape)}"
    if len(shape) == len(given) == 3:
        if (given[2], given[0], given[1]) == shape:
            return x.transpose(0, 3, 1, 2), (
                f"{taken}: they are HWC (channels last), the model is CHW (channels first); "
                "pass x.transpose(0, 3, 1, 2)"
            )
        if (given[1], given[2], given[0]) == shape:
            return x.transpose(0, 2, 3, 1), (
                f"{taken}: they are CHW (channels first), the model is HWC (channels last); "
                "pass x.transpose(0, 2, 3, 1)"
            )
    if math.prod(given) == math.prod(shape):
        return x.reshape(-1, *shape), f"{taken}: pass x.reshape(-1, {', '.join(map(str, shape))})"
    raise InputError(f"{taken}; pass samples of the model's shape")


def warnings(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    x: NDArray[np.float32],
    outputs: NDArray[np.float32],
    options: Options,
    softmax: str = SOFTMAX,
) -> list[str]:
    """Say in plain words what looks wrong, given the outputs on the probes `x`.

    Args:
        run: the model.
        x: probes [n, *input_shape].
        outputs: `run(x)`.
        options: what the caller said about the model.
        softmax: what to say where the outputs look like probabilities.

    Raises:
        InputError: samples or labels that fit neither the model nor each other.
    """
    found = []
    if outputs.shape[1] < 2:
        found.append(
            f"the model has {outputs.shape[1]} output: attacks need one logit a class, at least 2"
        )
    if not np.isfinite(outputs).all():
        found.append("some outputs are NaN or infinite on random inputs")
    if probabilities(outputs):
        found.append(softmax)
    if not np.array_equal(run(x), outputs, equal_nan=True):
        found.append("two runs on the same input differ: the model is not deterministic")
    if options.samples is not None:
        found += about_samples(run, x.shape[1:], options)
    elif options.labels is not None:
        raise InputError("labels were given without samples; pass both")
    return found


def label_warnings(
    labels: Callable[[NDArray[np.float32]], NDArray[np.int64]],
    x: NDArray[np.float32],
    first: NDArray[np.int64],
    classes: int,
    options: Options,
) -> list[str]:
    """As `warnings`, for a model that returns labels only; `first` is `labels(x)`."""
    found = ["the model returns labels only: attacks that need scores cannot run"]
    if not np.array_equal(labels(x), first):
        found.append("two runs on the same input differ: the model is not deterministic")
    if options.samples is None:
        if options.labels is not None:
            raise InputError("labels were given without samples; pass both")
        return found

    def indicator(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        # What is checked of samples depends on the largest output only.
        return np.eye(classes, dtype=np.float32)[labels(inputs)]

    return found + about_samples(indicator, x.shape[1:], options)


def probabilities(outputs: NDArray[np.float32]) -> bool:
    """Return whether every row is a probability distribution over at least two classes."""
    if outputs.shape[1] < 2 or not np.isfinite(outputs).all():
        return False
    inside = bool((outputs >= 0).all() and (outputs <= 1).all())
    return inside and bool(np.allclose(outputs.sum(axis=1), 1, atol=1e-4))


def about_samples(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    shape: tuple[int, ...],
    options: Options,
) -> list[str]:
    """Say in plain words what looks wrong on the samples the caller gave.

    Raises:
        InputError: samples or labels that fit neither the model nor each other.
    """
    samples, note = arranged(options.samples, shape)
    found = [note] if note else []
    samples = samples[:_REAL]
    low, high = options.bounds or (0.0, 1.0)
    least, most = float(samples.min()), float(samples.max())
    if least < low or most > high:
        fix = "divide by 255" if low == 0 and high == 1 and 1.5 < most <= 255 else "rescale them"
        found.append(
            f"samples range over [{least:g}, {most:g}], outside the input range "
            f"[{low:g}, {high:g}]; {fix} or pass bounds=({least:g}, {most:g})"
        )
    outputs = run(samples)
    if not np.isfinite(outputs).all():
        found.append("some outputs are NaN or infinite on the given samples")
    if options.labels is None:
        return found
    classes = outputs.shape[1]
    labels = _labels(options.labels, len(np.asarray(options.samples)), classes)[:_REAL]
    accuracy = _accuracy(outputs, labels)
    for factor, words in ((1 / 255, "divided by 255"), (255, "multiplied by 255")):
        if (factor < 1) == (most > 1.5) and len(labels) >= 8:
            other = _accuracy(run(samples * np.float32(factor)), labels)
            # Beyond three standard errors of either estimate.
            if other - accuracy > 3 * math.sqrt(0.5 / len(labels)):
                found.append(
                    f"accuracy is {accuracy:.0%} on the given samples and {other:.0%} when they "
                    f"are {words}: the input range looks wrong"
                )
    chance = 1 / classes
    spread = math.sqrt(chance * (1 - chance) / len(labels))
    if accuracy <= chance + 2 * spread and len(labels) >= 8:
        found.append(
            f"accuracy is {accuracy:.0%} on {len(labels)} given samples, close to chance "
            f"({chance:.0%}): check labels, input range and layout"
        )
    return found


def _labels(labels: Any, count: int, classes: int) -> NDArray[np.int64]:
    y = np.asarray(labels)
    if y.shape != (count,) or y.dtype.kind not in "iu":
        raise InputError(
            f"labels has shape {list(y.shape)} and dtype {y.dtype}, expected {count} integers"
        )
    if y.min() < 0 or y.max() >= classes:
        raise InputError(
            f"labels range over {y.min()}..{y.max()}, the model has classes 0..{classes - 1}"
        )
    return y.astype(np.int64)


def _accuracy(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float((outputs.argmax(axis=1) == labels).mean())
