"""TracIn on the last layer: how much training on one sample moved the loss of another.

Pruthi, Liu, Kale & Sundararajan, "Estimating Training Data Influence by Tracing Gradient Descent",
NeurIPS 2020, arXiv:2002.08484 (TracInCP). The gradient of the cross-entropy by the weights of the
last layer is the outer product of the error `e = softmax(logits) - onehot(label)` and the features
h, so the dot product of two samples' gradients is `(e . e') (h . h' + 1)`: two matrix products, the
gradients themselves are never there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError, InputError
from .source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .extract import Extraction
    from .passes import Progress
    from .source import Source

_BLOCK = 2048
"""Rows multiplied at once: always the same, so that sums do not depend on how rows are stored."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a model at one point of its training sees of some samples, in their order."""

    features: Any
    """Inputs of the last layer [n, d]: an array, a `.npy` or Parquet path, or what else `scan`
    takes."""
    errors: Any
    """`softmax(logits) - onehot(label)` [n, classes], the same."""
    learning_rate: float = 1.0
    """Step size of the training from here to the next checkpoint, times its number of epochs."""

    @staticmethod
    def of(extraction: Extraction, learning_rate: float = 1.0) -> Checkpoint:
        """Take what `extract` returned."""
        return Checkpoint(extraction.features, extraction.errors, learning_rate)


def self_influence(
    checkpoints: Sequence[Checkpoint], *, bias: bool = True, progress: Progress = None
) -> NDArray[np.float64]:
    """Return how much training on each sample lowered its own loss: high for wrong labels.

    `sum_t rate_t |e|^2 (|h|^2 + 1)`, in one pass over each checkpoint, a block of rows at a time.

    Args:
        checkpoints: of the training samples, all in one order.
        bias: whether the last layer has a bias; without one the 1 is left out.
        progress: called as `progress(rows done, rows in all or 0 if unknown, note)`.

    Returns:
        float64 [n], at least 0.

    Raises:
        InputError: no checkpoints, a value is not finite, or sizes do not match.
        DatasetError: a file cannot be read, or has fewer rows than another.
    """
    _check(checkpoints)
    total: NDArray[np.float64] | None = None
    for number, checkpoint in enumerate(checkpoints):
        found = []
        for h, e in _blocks(checkpoint, number, len(checkpoints), progress):
            squares = [np.square(v, dtype=np.float64).sum(axis=1) for v in (e, h)]
            found.append(checkpoint.learning_rate * squares[0] * (squares[1] + bias))
        total = _add(total, np.concatenate(found), number)
    return _finite(total)


def influence(
    checkpoints: Sequence[Checkpoint],
    tests: Sequence[Checkpoint],
    *,
    bias: bool = True,
    memory_limit: int | None = None,
    progress: Progress = None,
) -> NDArray[np.float64]:
    """Return how much training on each sample lowered the loss of each test sample.

    `sum_t rate_t (e . e') (h . h' + 1)`: positive for samples that helped (proponents), negative
    for those that harmed (opponents). Training samples are read a block at a time, test samples are
    held.

    Args:
        checkpoints: of the training samples [n], all in one order.
        tests: of the test samples [m], by the same models in the same order; their learning rates
            are not used.
        bias: whether the last layer has a bias.
        memory_limit: bytes that the result may take.
        progress: called as `progress(rows done, rows in all or 0 if unknown, note)`.

    Returns:
        float64 [n, m].

    Raises:
        InputError: as many checkpoints as tests are needed; a value is not finite, sizes do not
            match, or the result does not fit.
        DatasetError: a file cannot be read, or has fewer rows than another.
    """
    _check(checkpoints)
    if len(tests) != len(checkpoints):
        raise InputError(
            f"{len(checkpoints)} checkpoints of the training samples and {len(tests)} of the test "
            "samples; pass one of each for every model"
        )
    total: NDArray[np.float64] | None = None
    for number, (checkpoint, test) in enumerate(zip(checkpoints, tests, strict=True)):
        held = [(h.copy(), e.copy()) for h, e in _blocks(test, number, len(tests), None)]
        features, errors = (np.concatenate(part) for part in zip(*held, strict=True))
        rows, found = 0, []
        for h, e in _blocks(checkpoint, number, len(checkpoints), progress):
            if h.shape[1] != features.shape[1] or e.shape[1] != errors.shape[1]:
                raise InputError(
                    f"checkpoint {number}: {h.shape[1]} features and {e.shape[1]} classes of the "
                    f"training samples, {features.shape[1]} and {errors.shape[1]} of the tests"
                )
            rows += len(h)
            if memory_limit is not None and 8 * rows * len(features) > memory_limit:
                raise InputError(
                    f"influences on {len(features)} test samples do not fit in {memory_limit >> 20}"
                    " MiB; pass fewer of them at a time"
                )
            alike = (h @ features.T).astype(np.float64) + bias
            alike *= e @ errors.T
            alike *= checkpoint.learning_rate
            found.append(alike)
        total = _add(total, np.concatenate(found), number)
    return _finite(total)


def _check(checkpoints: Sequence[Checkpoint]) -> None:
    if not checkpoints:
        raise InputError("no checkpoints: pass at least one")
    for number, checkpoint in enumerate(checkpoints):
        rate = checkpoint.learning_rate
        if not (isinstance(rate, int | float) and math.isfinite(rate) and rate > 0):
            raise InputError(f"checkpoint {number}: learning_rate={rate!r} must be above 0")


def _blocks(
    checkpoint: Checkpoint, number: int, count: int, progress: Progress
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield features and errors of the same rows, checked; the next block may overwrite them."""
    features, errors = (open_source(v, None) for v in (checkpoint.features, checkpoint.errors))
    rows = features.rows or 0
    first = 0
    for h, e in zip_longest(_even(features), _even(errors)):
        if h is None or e is None or len(h) != len(e):
            raise DatasetError(
                f"checkpoint {number}: features and errors have different numbers of rows "
                f"(after row {first})"
            )
        for name, values in (("features", h), ("errors", e)):
            if not (np.isfinite(values.min()) and np.isfinite(values.max())):
                row = first + int(np.argmin(np.isfinite(values).all(axis=1)))
                raise InputError(f"checkpoint {number}: {name} of row {row} are not finite")
        if max(float(e.max()), -float(e.min())) > 1 + 1e-3:
            raise InputError(
                f"checkpoint {number}: errors must be softmax(logits) - onehot(label), between "
                "-1 and 1"
            )
        yield h, e
        first += len(h)
        if progress is not None:
            progress(number * rows + first, count * rows, f"checkpoint {number + 1}")
    if not first:
        raise InputError(f"checkpoint {number}: holds no rows")


def _even(source: Source) -> Iterator[NDArray[Any]]:
    """Yield blocks of `_BLOCK` rows, the last one shorter, however the source cuts them."""
    kept: list[NDArray[Any]] = []
    have = 0
    for x, _ in source.batches(_BLOCK):
        if not have and len(x) == _BLOCK:
            yield x
            continue
        kept.append(x.copy())
        have += len(x)
        while have >= _BLOCK:
            whole = np.concatenate(kept)
            yield whole[:_BLOCK]
            kept, have = [whole[_BLOCK:]], have - _BLOCK
    if have:
        yield np.concatenate(kept)


def _add(
    total: NDArray[np.float64] | None, found: NDArray[np.float64], number: int
) -> NDArray[np.float64]:
    if total is None:
        return found
    if total.shape != found.shape:
        raise InputError(
            f"checkpoint {number}: {list(found.shape)} influences, {list(total.shape)} before; "
            "every checkpoint is of the same samples"
        )
    total += found
    return total


def _finite(total: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if total is None or not np.isfinite(total).all():
        raise InputError("influences overflow: scale the features")
    return total
