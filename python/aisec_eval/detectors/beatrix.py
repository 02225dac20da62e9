"""Beatrix: correlations of feature maps that a class does not have.

Ma et al., "The 'Beatrix' Resurrections: Robust Backdoor Detection via Gram Matrices", NDSS 2023,
arXiv:2209.11715. The Gram matrices of powers of a layer's maps have a median and a spread in each
class; a sample with a trigger is off in many entries.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._validate import check_count, check_seed
from ..errors import InputError
from ..results import ScanResult
from .calibrate import leave_one_out
from .extract import Pass, choose, labelled, layers_of, open_inputs
from .kernel_test import halves_apart, two_samples
from .nulls import (
    CLASS_NULL,
    LEAST_CLASSES,
    LEVEL,
    against_classes,
    anomaly_index,
    check_clean,
    check_share,
    conformal,
    halves,
)
from .passes import Reader
from .source import MIB
from .sources.spool import Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ..models.base import Model
    from ..models.layers import Layers
    from .passes import Progress

    Maps = NDArray[np.float32]
    _Measure = Callable[[Maps, Maps], NDArray[np.float64]]

ORDERS = (1, 2, 3, 4, 5, 6, 7, 8)
_STREAM = 0x42454154524958
_LEAST_REFERENCES = 4
_PERMUTATIONS = 4000

CLEAN_NULL = (
    "the samples of a class are drawn as the clean ones of that class are. A p-value is the rank "
    "of the deviation among {m} clean samples of which no limit was made; a class is tested by the "
    "maximum mean discrepancy of its layer from the clean samples (permutations; Bonferroni)"
)
HALVES_NULL = (
    "p-values: {null}. A class is tested by the maximum mean discrepancy between the half of its "
    "samples that deviates more and the other half, on the logarithmic scale, against those of the "
    "other classes (leave one out, Student's t; Bonferroni)"
)


def beatrix(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    clean: Any = None,
    clean_labels: Any = None,
    layer: str | int | None = None,
    channels: int | None = None,
    orders: tuple[int, ...] = ORDERS,
    width: float = 3.0,
    fpr: float = 0.01,
    seed: int = 0,
    memory_limit: int | None = None,
    progress: Progress = None,
) -> ScanResult:
    """Score samples by how far Gram matrices of powers of their feature maps are from their class.

    With maps `A` [channels, positions], `(A^p (A^p)^T)^(1/p)` for every order p, entry by entry.
    Median and median absolute deviation (MAD) of each entry are exact, of clean samples of the
    class or of all its samples. A sample deviates by the sum over orders and entries of what is
    beyond `median +- width * MAD`, relative to that limit plus the mean magnitude of the order's
    medians: the paper divides by the limit alone, which lets maps that are always zero decide, and
    has a width of 10.

    Args:
        model: a model whose layers JAX can run.
        x: inputs [n, *input_shape], or what else `extract` takes.
        y: labels [n]; the predicted classes when None.
        clean: inputs without poison [m, *input_shape], m >= 20: one half sets the limits, the other
            gives the null of p-values. None: each class sets its own limits, which poison that is a
            large part of it widens, and is judged by the others.
        clean_labels: their labels [m]; the predicted classes when None.
        layer: name or index of the layer to read; the last feature maps when None, or the input of
            the last affine layer where there are none.
        channels: axis of the channels in it, where the model does not say; for layers of one axis
            every value is a channel.
        orders: the powers.
        width: how many MADs an entry may be off.
        fpr: with clean samples, the share of them that may be flagged: `p <= fpr` is.
        seed: divides the clean samples, draws permutations and subsets.
        memory_limit: bytes for a block of samples and its activations, and for the matrices of a
            class; activations beyond a fourth of it are kept in a temporary file. Those of one
            class must fit in a fourth of it.
        progress: called as `progress(rows done, rows in all or 0 if unknown, note)`.

    Returns:
        `score` is the deviation. With clean samples `flagged` is `p_value <= fpr`; without, after
        an alarm, the samples of suspected classes with `p_value <= fpr`. `info` has the null, the
        layer, the verdict on the dataset and one test a class.

    Raises:
        CapabilityError: the inside of the model is hidden.
        InputError: inputs, labels or options do not fit.
        DatasetError: a file cannot be read, or the temporary one not be written.
    """
    layers = layers_of(model)
    index, about = choose(layers, layers.maps if layer is None else layer)
    if layer is None:
        about["chosen"] = "the last feature maps (default)"
    shape, axis = _maps(layers, index, channels)
    if not orders or any(check_count("orders", p) > 64 for p in orders):
        raise InputError(f"orders={orders!r} must be integers from 1 to 64, at least one")
    width, fpr = check_share("width", width, math.inf), check_share("fpr", fpr)
    seed = check_seed(seed)
    read = partial(_read, model, layers, index, shape, axis, memory_limit)
    data = read(x, y, progress)
    limit = data.limit
    _check_memory(data, limit)
    deviations = partial(_deviations, orders=orders, width=width, memory=max(MIB, limit // 4))
    if clean is None:
        found = _alone(data, deviations, seed)
    else:
        held, held_label = check_clean(clean, clean_labels, model.input_shape)
        found = _by_clean(data, read(held, held_label, None), deviations, seed)
    tested = [entry for entry in found.table if entry["p"] is not None]
    smallest = min((len(tested) * entry["p"] for entry in tested), default=None)
    p = None if smallest is None else min(1.0, smallest)
    suspected = [entry for entry in tested if entry["p"] * len(tested) < LEVEL]
    targets = [entry["class"] for entry in sorted(suspected, key=lambda e: e["p"])]
    flagged = found.p_value <= fpr
    rule = f"p-values up to {fpr:g}"
    if clean is None:
        flagged &= np.isin(data.label, targets)
        rule = f"in suspected classes: {rule}"
    return ScanResult(
        score=found.score,
        flagged=flagged,
        p_value=found.p_value,
        label=data.label,
        method="beatrix",
        classes=np.unique(data.label),
        eigenvalues=np.empty(0),
        info={
            "null": found.null,
            "rule": rule,
            "dataset": {"poisoned": p is not None and p < LEVEL, "p": p, "level": LEVEL},
            "target_classes": targets,
            "class_tests": found.table,
            "model": model.name,
            "layer": about,
            "maps": list(shape),
            "orders": list(orders),
            "width": width,
            "seed": seed,
            "labels": "given" if data.own else "predicted by the model",
            "notes": found.notes,
        },
    )


class _Data(NamedTuple):
    """What a model sees of samples."""

    rows: Rows
    """Maps [n, channels, positions]."""
    label: NDArray[np.int64]
    own: bool
    """Whether labels were given."""
    limit: int
    """Bytes that may be used."""


class _Found(NamedTuple):
    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    table: list[dict[str, Any]]
    null: str
    notes: list[str]


def _by_clean(data: _Data, clean: _Data, deviations: _Measure, seed: int) -> _Found:
    """Limits by one half of the clean samples of a class, p-values by the other."""
    classes = np.unique(data.label).tolist()
    used, rest = halves(len(clean.label), seed, _STREAM, len(clean.label))
    score, null = np.zeros(len(data.label)), np.full(len(rest), np.nan)
    table, without = [], []
    permutations = max(_PERMUTATIONS, math.ceil(4 * len(classes) / LEVEL))
    for c in classes:
        inside = np.flatnonzero(data.label == c)
        maps = data.rows.take(inside)
        mine = np.flatnonzero(clean.label == c)
        reference = clean.rows.take(used[clean.label[used] == c])
        if len(reference) >= _LEAST_REFERENCES:
            score[inside] = deviations(reference, maps)
            judged = clean.label[rest] == c
            null[judged] = deviations(reference, clean.rows.take(rest[judged]))
        else:
            score[inside] = deviations(maps, maps)
            without.append(c)
        p = None
        if len(mine) >= _LEAST_REFERENCES and len(inside) > 1:
            p = two_samples(maps, clean.rows.take(mine), seed, c, permutations)
        table.append(
            {
                "class": c,
                "samples": len(inside),
                "clean_samples": len(mine),
                "median": float(np.median(score[inside])),
                "p": p,
            }
        )
    null = null[np.isfinite(null)]
    if not len(null):
        raise InputError("clean: no class has at least 4 samples that set its limits")
    notes = []
    if without:
        notes.append(
            "classes with fewer than 4 clean samples set their own limits: "
            + ", ".join(map(str, without))
        )
    return _Found(score, conformal(score, null), table, CLEAN_NULL.format(m=len(null)), notes)


def _alone(data: _Data, deviations: _Measure, seed: int) -> _Found:
    """Each class sets its own limits and is judged by the others."""
    classes = np.unique(data.label)
    score, gaps = np.zeros(len(data.label)), np.full(len(classes), np.nan)
    for i, c in enumerate(classes.tolist()):
        inside = np.flatnonzero(data.label == c)
        maps = data.rows.take(inside)
        score[inside] = deviations(maps, maps)
        gaps[i] = halves_apart(maps, score[inside], seed, c)
    p_value, _ = against_classes(np.log1p(score), data.label)
    table, notes = _by_halves(classes, data.label, score, gaps)
    null = HALVES_NULL.format(null=CLASS_NULL.partition("; a class")[0])
    return _Found(score, p_value, table, null, notes)


def _maps(layers: Layers, index: int, channels: int | None) -> tuple[tuple[int, int], int]:
    """Return channels and positions of a layer, and the axis of the channels.

    Raises:
        InputError: it is not known, or no axis.
    """
    layer = layers.table[index]
    axis = layer.channels if channels is None else channels
    if axis is None:
        if len(layer.shape) != 1:
            raise InputError(
                f"{layers.name}: which axis of layer {layer.name!r}, shape {list(layer.shape)}, "
                "are the channels is not known; pass channels="
            )
        axis = 0
    if isinstance(axis, bool) or not 0 <= axis < len(layer.shape):
        raise InputError(
            f"channels={axis!r} is no axis of layer {layer.name!r}, shape {list(layer.shape)}"
        )
    count = layer.shape[axis]
    return (count, math.prod(layer.shape) // count), axis


def _read(
    model: Model,
    layers: Layers,
    index: int,
    shape: tuple[int, int],
    axis: int,
    memory_limit: int | None,
    x: Any,
    y: Any,
    progress: Progress,
) -> _Data:
    """Run the model over samples."""
    source = open_inputs(model, x, y, memory_limit)
    own = labelled(source, y)
    run = Pass(model, layers, (index, layers.output), _layer_and_class, memory_limit)
    reader = Reader(source, memory_limit, progress, 1)
    rows, labels = Rows(source.name, shape, reader.limit // 4), []
    for (maps, predicted), given in run(reader):
        moved = np.moveaxis(maps, axis + 1, 1).reshape(len(maps), *shape)
        rows.append(np.ascontiguousarray(moved, np.float32))
        labels.append(given if own else predicted.astype(np.int64))
    rows.finish()
    return _Data(rows, np.concatenate(labels), own, reader.limit)


def _layer_and_class(outputs: tuple[Any, ...], _y: Any) -> tuple[Any, ...]:
    layer, logits = outputs
    return layer.astype(np.float32), logits.argmax(axis=1)


def _deviations(
    reference: Maps, queries: Maps, *, orders: tuple[int, ...], width: float, memory: int
) -> NDArray[np.float64]:
    from .._core import gram_deviations

    try:
        return gram_deviations(reference, queries, orders, width, memory)
    except ValueError as error:
        raise InputError(f"the layer's values: {error}") from None


def _check_memory(data: _Data, limit: int) -> None:
    counts = np.unique(data.label, return_counts=True)[1]
    needed = int(counts.max()) * data.rows.row_bytes
    if needed > limit // 4:
        raise InputError(
            f"the maps of the largest class take {needed >> 20} MiB, a fourth of memory_limit is "
            f"{limit // 4 >> 20} MiB; raise it, scan fewer samples, or name a smaller layer="
        )


def _by_halves(
    classes: NDArray[np.int64],
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    gaps: NDArray[np.float64],
) -> tuple[list[dict[str, Any]], list[str]]:
    judged = np.flatnonzero(np.isfinite(gaps))
    p: list[float | None] = [None] * len(judged)
    notes = []
    if len(judged) >= LEAST_CLASSES:
        # An unbiased estimate may be negative: then there is no gap.
        p = list(leave_one_out(np.log(np.maximum(gaps[judged], _least(gaps[judged])))))
    else:
        notes.append(
            f"{len(judged)} classes to compare: with fewer than {LEAST_CLASSES} the verdict "
            "cannot be calibrated, and there is none"
        )
    index = anomaly_index(gaps[judged]) if len(judged) else []
    table: list[dict[str, Any]] = []
    for i, q, a in zip(judged.tolist(), p, index, strict=True):
        inside = label == classes[i]
        table.append(
            {
                "class": int(classes[i]),
                "samples": int(inside.sum()),
                "median": float(np.median(score[inside])),
                "discrepancy": float(gaps[i]),
                "anomaly_index": a,
                "p": None if q is None else float(q),
            }
        )
    return table, notes


def _least(gaps: NDArray[np.float64]) -> float:
    positive = gaps[gaps > 0]
    return float(positive.min()) if len(positive) else 1.0
