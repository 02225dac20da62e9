"""Certified robustness to poisoned training data, from the votes of an ensemble.

The training set is cut into buckets by a hash of each sample, every model is trained, reproducibly,
on its buckets alone, and the ensemble votes. Then a radius follows from the votes: that many
samples may be inserted, deleted or changed anywhere in the training set (one that changes bucket
counts twice), and the prediction stands. Whoever has the votes can compute it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_count
from ..errors import DatasetError, InputError
from . import binomial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl
    from numpy.typing import ArrayLike, NDArray

METHODS = ("dpa", "finite-aggregation", "run-off", "bagging")
_BLOCK = 64 << 20
"""Bytes of votes that are read at a time."""


@dataclass(frozen=True, eq=False)
class VoteCertificates:
    """What an ensemble predicts and how much poison that survives, one row a sample."""

    prediction: NDArray[np.int64]
    radius: NDArray[np.int64]
    """Poisoned samples that cannot change the prediction [n]; -1 where none is certified."""
    label: NDArray[np.int64] | None
    method: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the radii depend on beside the votes: `num_classes`, `feeds` and the like."""

    def certified_accuracy(self, poison: int = 0) -> float:
        """Fraction of samples that stay right whatever `poison` training samples are.

        Raises:
            InputError: labels were not given.
        """
        if self.label is None:
            raise InputError("accuracy needs labels: certify_votes(votes, labels)")
        return float(np.mean((self.prediction == self.label) & (self.radius >= poison)))

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row a sample: sample, label where it is known, prediction, radius."""
        import polars as pl

        known = {} if self.label is None else {"label": self.label}
        rows = np.arange(len(self.radius))
        return pl.DataFrame(
            {"sample": rows, **known, "prediction": self.prediction, "radius": self.radius}
        )


def certify_votes(
    votes: Any,
    labels: ArrayLike | None = None,
    *,
    method: str = "dpa",
    num_classes: int | None = None,
    feeds: ArrayLike | None = None,
    training_size: int | None = None,
    subsample: int | None = None,
    alpha: float = 0.001,
) -> VoteCertificates:
    """Certify an ensemble's predictions against poisoned training data.

    Args:
        votes: the class each model predicts, integers [n, models], or a path to a `.npy` file of
            them. For "run-off" logits [n, models, num_classes].
        labels: true classes [n], for accuracies.
        method: "dpa", deep partition aggregation, one bucket a model (Levine & Feizi 2021,
            arXiv:2006.14768); "finite-aggregation", buckets that feed several models (Wang et al.
            2022, arXiv:2202.02628), never below the former where each feeds one; "run-off", a
            second vote between the leading two (Rezaei et al. 2023, arXiv:2302.02300); "bagging",
            models trained on random draws (Jia et al. 2021, arXiv:2008.04495), where a radius is
            right with probability 1 - `alpha` a sample.
        num_classes: one more than the largest vote when None.
        feeds: for "finite-aggregation" and "run-off", the models that each bucket feeds, integers
            [buckets, d], as of `spread`; one bucket a model when None.
        training_size: for "bagging", samples in the training set.
        subsample: for "bagging", samples each model was trained on, drawn with replacement.
        alpha: for "bagging", the probability that a radius is too large.

    Returns:
        Predictions and radii in the order of the votes. Between equal counts the smaller class
        wins.

    Raises:
        InputError: votes, feeds or options do not fit.
        DatasetError: the file cannot be read.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    array = _open(votes)
    dimensions = 3 if method == "run-off" else 2
    if array.ndim != dimensions or 0 in array.shape:
        shape = "[n, models, num_classes]" if dimensions == 3 else "[n, models]"
        raise InputError(f"votes have shape {list(array.shape)}, {method} takes {shape}")
    options: dict[str, Any] = {}
    if method in ("finite-aggregation", "run-off"):
        options["feeds"] = _feeds(feeds, array.shape[1])
    if method == "run-off":
        parts = [_run_off(block, options["feeds"]) for block in _blocks(array)]
    else:
        classes = num_classes if num_classes is not None else int(array.max()) + 1
        check_count("num_classes", classes)
        options["num_classes"] = classes
        if method == "bagging":
            options |= {"training_size": training_size, "subsample": subsample, "alpha": alpha}
            certify = _bagging(training_size, subsample, alpha, array.shape[1], classes)
        else:
            certify = _counted(classes, options.get("feeds"))
        parts = [certify(_checked(block, classes)) for block in _blocks(array)]
    prediction, radius = (np.concatenate(column) for column in zip(*parts, strict=True))
    return VoteCertificates(prediction, radius, _labels(labels, len(array)), method, options)


def spread(models: int, d: int, *, seed: int = 0) -> NDArray[np.uint32]:
    """Return which models each of `models` buckets feeds under finite aggregation [models, d].

    Bucket b feeds the models b + s (mod `models`) for `d` shifts s, 0 and random ones, so that each
    model is fed by `d` buckets.

    Raises:
        InputError: `d` is not between 1 and `models`.
    """
    check_count("models", models)
    if not 1 <= d <= models:
        raise InputError(f"d={d!r} must lie between 1 and models={models}")
    shifts = np.sort(np.random.Generator(np.random.Philox(seed)).permutation(models)[:d])
    fed: NDArray[np.int64] = (np.arange(models)[:, None] + shifts - shifts[0]) % models
    return fed.astype(np.uint32)


def _open(votes: Any) -> NDArray[Any]:
    if not isinstance(votes, str | Path):
        return np.asarray(votes)
    try:
        array: NDArray[Any] = np.load(votes, mmap_mode="r", allow_pickle=False)
        return array
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{votes}: cannot be read as a .npy file of votes: {error}") from None


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    rows = max(1, _BLOCK // max(1, array[0].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _checked(votes: NDArray[Any], classes: int) -> NDArray[np.uint32]:
    if votes.dtype.kind not in "iu":
        raise InputError(f"votes have dtype {votes.dtype}, expected integers; logits are run-off's")
    if votes.min() < 0 or votes.max() >= classes:
        raise InputError(f"votes must lie in 0..{classes - 1}, got {votes.min()}..{votes.max()}")
    return np.ascontiguousarray(votes, dtype=np.uint32)


def _feeds(feeds: ArrayLike | None, models: int) -> NDArray[np.uint32]:
    if feeds is None:
        return np.arange(models, dtype=np.uint32)[:, None]
    array = np.asarray(feeds)
    valid = array.ndim == 2 and array.dtype.kind in "iu" and array.size > 0
    if not valid or array.min() < 0 or array.max() >= models:
        raise InputError(
            f"feeds must be integers [buckets, d] below {models}, the models there are"
        )
    if (np.diff(np.sort(array, axis=1), axis=1) == 0).any():
        raise InputError("feeds must name a model once in each bucket")
    return np.ascontiguousarray(array, dtype=np.uint32)


def _labels(labels: ArrayLike | None, n: int) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise InputError(f"labels must be integers [{n}], got {array.dtype} {list(array.shape)}")
    return array.astype(np.int64)


def _counted(classes: int, feeds: NDArray[np.uint32] | None) -> Any:
    from .._core import vote_radii

    return lambda votes: vote_radii(votes, classes, feeds)


def _run_off(logits: NDArray[Any], feeds: NDArray[np.uint32]) -> Any:
    from .._core import run_off_radii

    if logits.dtype.kind != "f":
        raise InputError(f"run-off takes logits, floats, got {logits.dtype}")
    return run_off_radii(np.ascontiguousarray(logits, dtype=np.float32), feeds)


def _bagging(n: int | None, k: int | None, alpha: float, models: int, classes: int) -> Any:
    if n is None or k is None:
        raise InputError("bagging needs training_size and subsample")
    check_count("training_size", n)
    check_count("subsample", k)
    if not 0 < alpha < 1:
        raise InputError(f"alpha={alpha!r} must lie between 0 and 1")
    radii: dict[tuple[int, int], int] = {}

    def radius(leader: int, second: int) -> int:
        # Simultaneous limits of the two counts, a share of alpha for each class.
        if (leader, second) not in radii:
            low = binomial.lower_limit(leader, models, alpha / classes)
            high = min(1 - low, 1 - binomial.lower_limit(models - second, models, alpha / classes))
            radii[leader, second] = _bagging_radius(low, high, n, k)
        return radii[leader, second]

    def certify(votes: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        counts = np.zeros((len(votes), classes), dtype=np.int64)
        np.add.at(counts, (np.arange(len(votes))[:, None], votes), 1)
        prediction = counts.argmax(axis=1)
        leader = counts.max(axis=1)
        np.put_along_axis(counts, prediction[:, None], 0, axis=1)
        second = counts.max(axis=1)
        pairs = zip(leader.tolist(), second.tolist(), strict=True)
        return prediction, np.array([radius(*pair) for pair in pairs], dtype=np.int64)

    return certify


def _bagging_radius(low: float, high: float, n: int, k: int) -> int:
    """Return the most modified samples that a gap of `low - high` survives (theorem 1); -1: none.

    The theorem rounds `low` down and `high` up to multiples of n^-k: at most that is taken off.
    """
    gap = low - high - 2 * float(n) ** -k

    def holds(r: int) -> bool:
        size = np.arange(n, n + r + 1, dtype=np.float64)
        # Sizes below n give less: the first term grows with them and the second does not.
        moved = (size / n) ** k - 2 * ((size - r) / n) ** k
        return bool(moved.max() + 1 - gap < -1e-12 * max(1.0, moved.max()))

    if not holds(0):
        return -1
    reach = 1
    while reach < n and holds(reach):
        reach *= 2
    below, above = 0, min(reach, n)
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if holds(middle) else (below, middle)
    return below
