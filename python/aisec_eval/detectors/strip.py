"""STRIP: a trigger decides whatever is blended over it, so predictions stay certain.

Gao et al., "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019,
arXiv:1902.06531. The entropy of the predictions, averaged over overlays, is low where a trigger is.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_count, check_seed
from ..errors import CapabilityError, InputError
from ..models.base import Model
from ..results import ScanResult
from .extract import activations, as_inputs, labelled, open_inputs
from .nulls import check_bounds, check_clean, check_share, halves, judge
from .passes import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .passes import Progress

_LEAST_ENTROPY = 1e-30
_TOGETHER = 1024
"""Most blended samples evaluated together."""
_STREAM = 0x5354524950


def strip(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    clean: Any = None,
    clean_labels: Any = None,
    overlays: int = 64,
    alpha: float = 1.0,
    fpr: float = 0.01,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    memory_limit: int | None = None,
    progress: Progress = None,
) -> ScanResult:
    """Score samples by how certain a model stays of them when others are blended over them.

    Works on any model that gives scores, black boxes too: `overlays` evaluations a sample. Each
    sample is blended with the same overlays, `clip(x + alpha * overlay, *bounds)`.

    Args:
        model: the model that may have a backdoor.
        x: samples [n, *input_shape] in `bounds`, or what else `extract` takes.
        y: labels [n], for reports by class; the predicted classes when None.
        clean: samples without poison [m, *input_shape], m >= 20: one half (at most `overlays`) is
            blended over, the other gives the null. None: overlays are drawn from `x`, and each
            class is judged by the others.
        clean_labels: their labels [m], so that each class is tested by its own.
        overlays: how many samples are blended over each.
        alpha: weight of the overlay.
        fpr: with clean samples, the share of them that may be flagged: `p <= fpr` is.
        bounds: lowest and highest input value.
        seed: chooses overlays.
        memory_limit: bytes for one block of samples and its activations.
        progress: called as `progress(rows done, rows in all or 0 if unknown, note)`.

    Returns:
        `score` is the negative logarithm of the mean entropy (in nats), higher is more suspicious.
        With clean samples `flagged` is `p_value <= fpr`; without, after an alarm, the samples of
        suspected classes with `p_value <= fpr`. `info` has the null, the verdict on the dataset and
        one test a class.

    Raises:
        CapabilityError: the model gives labels only.
        InputError: samples or options do not fit.
        DatasetError: a file cannot be read.
    """
    if not isinstance(model, Model):
        raise InputError(f"model={type(model).__name__} is no Model; load it: ae.load_model(...)")
    if not model.capabilities.scores:
        raise CapabilityError(f"model {model.name!r} gives labels only; STRIP needs scores")
    overlays, seed = check_count("overlays", overlays), check_seed(seed)
    alpha, fpr = check_share("alpha", alpha, math.inf), check_share("fpr", fpr)
    low, high = check_bounds(bounds)
    source = open_inputs(model, x, y, memory_limit)
    held, held_label, null = None, None, None
    if clean is not None:
        held, held_label = check_clean(clean, clean_labels, model.input_shape)
        used, null = halves(len(held), seed, _STREAM, overlays)
        over = held[used]
    else:
        # A stream of its own: poison may be planted by the same seed.
        order = np.random.Philox(key=seed + (_STREAM << 64))
        over = _reservoir(Reader(source, memory_limit, None, 1), model, overlays, order)
    blend = _Blend(model, over, np.float32(alpha), (low, high), memory_limit)
    entropy, predicted, label = [], [], []
    reader = Reader(source, memory_limit, progress, 1)
    for first, (rows, given) in reader.batches("entropy"):
        inputs = as_inputs(rows, model, source.name, first)
        found, classes = blend(inputs)
        entropy.append(found)
        predicted.append(classes)
        label.append(given)
    own = labelled(source, y)
    labels = np.concatenate(label if own else predicted)
    score = -np.log(np.maximum(np.concatenate(entropy), _LEAST_ENTROPY))
    known = None
    if held is not None and null is not None:
        baseline = -np.log(np.maximum(blend(held[null])[0], _LEAST_ENTROPY))
        known = baseline, None if held_label is None else held_label[null]
    what = "the clean samples that are not blended over others, their entropy"
    p, flagged, info = judge(score, labels, known, what, fpr)
    options = {"overlays": len(over), "alpha": alpha, "seed": seed}
    return ScanResult(
        score=score,
        flagged=flagged,
        p_value=p,
        label=labels,
        method="strip",
        classes=np.unique(labels),
        eigenvalues=np.empty(0),
        info={
            **info,
            **options,
            "source": source.name,
            "model": model.name,
            "labels": "given" if own else "predicted by the model",
        },
    )


def _reservoir(
    reader: Reader, model: Model, count: int, order: np.random.Philox
) -> NDArray[np.float32]:
    """Draw `count` rows, those with the smallest random words, whatever the batches are."""
    kept = np.empty((0, math.prod(model.input_shape)), np.float32)
    words = np.empty(0, np.uint64)
    for first, (x, _y) in reader.batches("overlays"):
        words = np.concatenate([words, order.random_raw(len(x))])
        chosen = np.sort(np.argsort(words, kind="stable")[:count])
        known = len(kept)
        new = chosen[chosen >= known] - known
        found = as_inputs(x, model, reader.source.name, first).reshape(len(x), -1)[new]
        kept = np.concatenate([kept[chosen[chosen < known]], found])
        words = words[chosen]
    return kept.reshape(-1, *model.input_shape)


class _Blend:
    """Mean entropy of samples under all overlays, a fixed number of samples at a time."""

    def __init__(
        self,
        model: Model,
        overlays: NDArray[np.float32],
        alpha: np.float32,
        bounds: tuple[float, float],
        memory_limit: int | None,
    ) -> None:
        self._model = model
        self._overlays = overlays
        self._alpha = alpha
        self._bounds = np.float32(bounds[0]), np.float32(bounds[1])
        each = activations(model)
        most = max(1, (memory_limit or 1 << 30) // 4 // each)
        together = max(1, min(most, _TOGETHER) // len(overlays))
        self._block = 1 << together.bit_length() - 1
        self._function = model.jax_function()

    def __call__(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return entropy [n] and the class predicted without overlays [n]."""
        entropy, predicted = np.empty(len(x)), np.empty(len(x), np.int64)
        for start in range(0, len(x), self._block):
            part = x[start : start + self._block]
            rows = slice(start, start + len(part))
            entropy[rows], predicted[rows] = self._part(part)
        return entropy, predicted

    def _part(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        if self._function is not None:
            apply, params = self._function
            padded = np.zeros((self._block, *x.shape[1:]), np.float32)
            padded[: len(x)] = x
            found = _compiled()(apply, params, padded, self._overlays, self._alpha, *self._bounds)
            h, c = (np.asarray(part)[: len(x)] for part in found)
            return h.astype(np.float64), c.astype(np.int64)
        blended = np.clip(x[:, None] + self._alpha * self._overlays, *self._bounds)
        logits = self._logits(blended.reshape(-1, *x.shape[1:])).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        h = -(np.exp(logits) * logits).sum(axis=1).reshape(len(x), -1).mean(axis=1)
        return h, self._logits(x).argmax(axis=1).astype(np.int64)

    def _logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        step = self._model.capabilities.max_batch or len(x)
        parts = [self._model.logits(x[i : i + step]) for i in range(0, len(x), step)]
        return np.concatenate(parts)


@cache
def _compiled() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def run(
        apply: Any, params: Any, x: Any, overlays: Any, alpha: Any, low: Any, high: Any
    ) -> tuple[Any, Any]:
        blended = jnp.clip(x[:, None] + alpha * overlays, low, high)
        logits = apply(params, blended.reshape(-1, *x.shape[1:])).astype(jnp.float32)
        log_p = jax.nn.log_softmax(logits, axis=1)
        entropy = -(jnp.exp(log_p) * log_p).sum(axis=1).reshape(len(x), -1).mean(axis=1)
        return entropy, apply(params, x).argmax(axis=1)

    return jax.jit(run, static_argnums=0)
