"""Probabilities with some wrong labels, and what confident learning says by definition."""

from __future__ import annotations

from typing import Any

import numpy as np

FILTERS = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
)


def draw(
    seed: int, *, levels: int | None = None, n: int | None = None, k: int | None = None
) -> Any:
    """Probabilities [n, k] and labels; with `levels` they are multiples of 1 / levels, tied often.

    Only uniform numbers of a counter-based generator: the same in every numpy version.
    """
    uniform = np.random.Generator(np.random.Philox(seed)).random
    n = n or int(20 + 1200 * uniform() ** 2)
    k = k or int(2 + 11 * uniform())
    share = uniform(k) ** 2 + 0.01  # rare classes
    true = np.searchsorted(np.cumsum(share / share.sum())[:-1], uniform(n))
    wrong = uniform(n) < 0.25 * uniform()
    y = np.where(wrong, (uniform(n) * k).astype(np.int64), true)
    logits = 3 * uniform((n, k)) + (1 + 5 * uniform()) * np.eye(k)[true] * uniform((n, 1))
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    if levels is not None:
        p = np.round(p * levels) / levels
    dtype = np.float32 if seed % 3 == 0 else np.float64
    return p.astype(dtype), np.minimum(y, k - 1).astype(np.int64)


def mask(p: np.ndarray, y: np.ndarray, filter_by: str) -> np.ndarray:
    """The mask by its definition, whole matrices at once; the earlier of equal rows."""
    n, k = p.shape
    counts = np.bincount(y, minlength=k)
    means = [np.mean(p[:, c][y == c]) if counts[c] else 2 for c in range(k)]
    cut = np.clip(means, 2e-6, None) - 1e-6
    sure = p >= cut
    guess = np.where(sure.sum(axis=1) > 1, p.argmax(axis=1), sure.argmax(axis=1))
    confident = sure.any(axis=1)
    joint = np.zeros((k, k), dtype=np.int64)
    np.add.at(joint, (guess[confident], y[confident]), 1)  # [true, given]
    joint[np.arange(k), np.arange(k)] = joint.diagonal().clip(min=1)
    scaled = joint / joint.sum(axis=0) * counts
    scaled = scaled / scaled.sum() * n
    whole = np.stack([_whole(scaled[:, i]) for i in range(k)], axis=1)
    for i in range(k):
        lacking = max(1 - whole[i, i], 0)
        others = max(np.count_nonzero(whole[:, i]) - 1.0, 1.0)
        own = max(whole[i, i], 1)
        whole[:, i] = np.trunc(np.maximum(whole[:, i] - lacking / others, 0))
        whole[i, i] = own
    by_pair, by_class = np.zeros(n, bool), np.zeros(n, bool)
    for i in np.flatnonzero(counts > 1):
        rows = np.flatnonzero(y == i)
        spare = len(rows) - whole[i, i]
        if spare > 0:
            by_class[rows[np.argsort(p[rows, i], kind="stable")[:spare]]] = True
        for j in range(k):
            if j != i and whole[j, i] > 0:
                order = np.argsort(-(p[rows, j] - p[rows, i]), kind="stable")
                by_pair[rows[order[: whole[j, i]]]] = True
    chosen = {
        "prune_by_noise_rate": by_pair,
        "prune_by_class": by_class,
        "both": by_pair & by_class,
        "confident_learning": confident & (guess != y),
        "predicted_neq_given": p.argmax(axis=1) != y,
    }[filter_by]
    favoured = p.copy()
    favoured[np.arange(n), y] += 1e-6
    return chosen & (favoured.argmax(axis=1) != y)


def _whole(values: np.ndarray) -> np.ndarray:
    rounded = values.round()
    missing = int(values.sum().round() - rounded.sum())
    order = np.argsort(values - rounded)
    if missing > 0:
        rounded[order[::-1][:missing]] += 1
    elif missing < 0:
        rounded[order[:-missing]] -= 1
    return rounded.astype(np.int64)


def qualities(p: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The three label qualities by their formulas."""
    n, k = p.shape
    own = p[np.arange(n), y].astype(np.float64)
    others = np.where(np.eye(k, dtype=bool)[y], -np.inf, p).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p.astype(np.float64)), 0).sum(axis=1) / np.log(k)
    weighted = entropy / own.clip(1e-6)
    return {
        "self_confidence": own,
        "normalized_margin": (own - others + 1) / 2,
        "confidence_weighted_entropy": np.divide(
            np.log1p(weighted), weighted, out=np.ones(n), where=weighted > 0
        ),
    }
