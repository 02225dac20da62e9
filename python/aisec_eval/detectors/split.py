"""Leave-class-out splits: a class that falls into two parts as no other class does.

A backdoor puts samples of other classes under one label. Seen with the spread that the *other*
classes have (so that poison cannot widen its own yardstick), the class has two parts, far apart,
and one of them varies as classes do among each other. Both are measured for every class, and a
class is judged against the remaining ones: the null is that its figures are like theirs.

All directions come from the additive statistics of one pass. A second pass projects a bounded
sample of each class, chosen by a hash of the row; the parts are found there. A third pass scores
every sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..results import ScanResult
from .calibrate import clean_shares, leave_one_out, stouffer
from .mixture import discriminant_split, fit_mixture, split_line
from .passes import Reader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .mixture import Mixture
    from .passes import Progress
    from .source import Source

LEVEL = 0.005
"""Chance of an alarm on a dataset without poison, as far as the null is true."""
_LEAST_CLASSES = 5
_SUBSET = 20_000
_BETWEEN = 16
_LEADING = 16
_STARTS = 5
_MIXTURE_LEADING = 4
_FITTED = 16
_RIDGE = 1e-3
_LARGER_PART = 0.3
_CERTAIN = 30.0

NULL = (
    "how far apart the two parts of a class are, and how much more one of them varies between "
    "classes than the other, are, on the logarithmic scale, alike in all classes: normal with a "
    "common mean and variance, and independent of each other. Each class is tested against the "
    "others (leave one out, Student's t), both tests are combined (Stouffer), and the number of "
    "classes, and that either part may be the one that varies more, are corrected for "
    "(Bonferroni). A clean class that alone consists of two kinds can "
    "raise a false alarm"
)


@dataclass
class _Class:
    """What is known of one class."""

    index: int
    mean: NDArray[np.float64]
    projection: NDArray[np.float64]
    """To leading and between-class directions, in the spread of the other classes [d, r]."""
    leading: NDArray[np.float64]
    """Leading directions, within them [r, starts]."""
    between: NDArray[np.float64]
    """Between-class directions, within them [r, b]."""
    separation: float = np.nan
    """log(between variance) + log of the share explained against the rest."""
    spread: float = np.nan
    """Log ratio of the between-class variances of the parts."""
    p: float = 1.0
    part: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    """The smaller part of the split, of the samples of the second pass."""
    mixture: Mixture | None = None
    basis: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    """Of the mixture, within the projection [r, s]."""
    sign: float = 1.0
    """1 where the first part of the mixture is the suspicious one, else -1."""

    def log_odds(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of the suspicious part, of projected samples [n, r]."""
        if self.mixture is None:
            # No second part was found: how far out, as far less than any alarm.
            odds = np.log1p((z**2).mean(1)) - _CERTAIN
        else:
            odds = self.sign * self.mixture.log_odds(z @ self.basis)
        clipped: NDArray[np.float64] = np.clip(odds, -_CERTAIN, _CERTAIN)
        return clipped


def class_splits(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """Score samples by the odds that they belong to a second part of their class.

    Args:
        source: features and labels, read three times.
        rate: not used: the rate is estimated.
        memory_limit: bytes for a batch, the statistics and the samples of the second pass.
        progress: told of the rows read.

    Raises:
        InputError: the features do not fit, or are not finite.
    """
    del rate
    reader = Reader(source, memory_limit, progress, 3)
    try:
        labels, counts, classes = _directions(reader)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None
    notes = []
    if len(classes) < len(labels):
        small = [int(c) for i, c in enumerate(labels) if i not in {k.index for k in classes}]
        names = ", ".join(map(str, small[:10])) + (" ..." if len(small) > 10 else "")
        notes.append(f"classes with too few samples for their dimension, left out: {names}")
    samples = _subsets(reader, labels, counts, classes)
    for c in classes:
        _measure(c, samples[c.index])
    judged = [c for c in classes if np.isfinite(c.separation) and np.isfinite(c.spread)]
    dataset = _judge(judged, notes)
    # The parts are looked for where they matter: in the most suspicious classes.
    fitted = sorted(judged, key=lambda c: (c.p, c.index))[:_FITTED]
    for c in fitted:
        _fit(c, samples[c.index])
    suspected = [c for c in fitted if dataset["poisoned"] and c.p * len(judged) < LEVEL]
    del samples
    score, clean = _scores(reader, labels, fitted, suspected, len(judged))
    info = _info(reader, labels, counts, classes, suspected, clean, dataset, notes)
    return ScanResult(
        score=score,
        flagged=clean < 0.5,
        p_value=clean_shares(np.argsort(-score, kind="stable"), clean),
        label=reader.label,
        method="split",
        classes=labels,
        eigenvalues=np.empty(0),
        info=info,
    )


def _directions(reader: Reader) -> tuple[NDArray[np.int64], NDArray[np.int64], list[_Class]]:
    """First pass: class labels, counts, and the directions of every class large enough."""
    from .._core import Statistics

    statistics = None
    for _, (x, y) in reader.batches("statistics"):
        if statistics is None:
            statistics = Statistics(
                x.shape[1], reader.limit - reader.batch - reader.source.window_bytes
            )
        statistics.update(x, y)
    if statistics is None:
        raise InputError(f"{reader.source.name}: holds no rows")
    labels, counts, means = statistics.classes()
    if len(labels) < 3:
        return labels, counts, []
    d = means.shape[1]
    total = np.zeros((d, d))
    for label in labels.tolist():
        total += statistics.covariance(label)
    typical = int(np.median(counts))
    b = max(1, min(len(labels) - 2, _BETWEEN, d, typical // 20))
    lead = min(d, _LEADING, max(_MIXTURE_LEADING, typical // 10 - b))
    classes = []
    for i, label in enumerate(labels.tolist()):
        if counts[i] >= 10 * min(d, lead + b):
            own = statistics.covariance(label)
            rest = (total - own) / (len(labels) - 1)
            others = np.delete(means, i, axis=0)
            classes.append(_project(i, means[i], own, rest, others, lead, b))
    return labels, counts, classes


def _project(
    index: int,
    mean: NDArray[np.float64],
    own: NDArray[np.float64],
    rest: NDArray[np.float64],
    others: NDArray[np.float64],
    lead: int,
    b: int,
) -> _Class:
    """Whiten by the covariance of the other classes; find leading and between-class directions."""
    d = len(mean)
    rest = rest + max(_RIDGE * np.trace(rest) / d, 1e-300) * np.eye(d)
    values, vectors = np.linalg.eigh(rest)
    whiten = vectors / np.sqrt(np.maximum(values, values[-1] * 1e-12))
    centred = (others - others.mean(0)) @ whiten
    between = np.linalg.svd(centred, full_matrices=False)[2][:b].T
    _, leading = np.linalg.eigh(whiten.T @ own @ whiten)
    leading = leading[:, ::-1][:, :lead]
    basis = np.linalg.qr(np.concatenate([leading, between], axis=1))[0]
    return _Class(index, mean, whiten @ basis, basis.T @ leading[:, :_STARTS], basis.T @ between)


def _subsets(
    reader: Reader, labels: NDArray[np.int64], counts: NDArray[np.int64], classes: list[_Class]
) -> dict[int, NDArray[np.float64]]:
    """Second pass: up to about 20,000 projected samples of each class."""
    if not classes:
        return {}
    width = classes[0].projection.shape[1]
    most = min(_SUBSET, max(1000, reader.limit // 4 // (8 * width * len(classes))))
    share = dict(zip(labels.tolist(), most / counts, strict=True))
    parts: dict[int, list[NDArray[np.float64]]] = {c.index: [] for c in classes}
    for first, (x, y) in reader.batches("samples of classes"):
        draw = _uniform(first, len(y))
        for c in classes:
            label = int(labels[c.index])
            rows = np.flatnonzero((y == label) & (draw < share[label]))
            if len(rows):
                parts[c.index].append((x[rows].astype(np.float64) - c.mean) @ c.projection)
    return {index: np.concatenate(part) for index, part in parts.items()}


def _uniform(first: int, count: int) -> NDArray[np.float64]:
    """A number in [0, 1) of each row, by its position (SplitMix64)."""
    with np.errstate(over="ignore"):
        x = np.arange(first + 1, first + count + 1, dtype=np.uint64)
        x *= np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) / 2.0**64


def _measure(c: _Class, z: NDArray[np.float64]) -> None:
    """Find the split of a class that separates most; set `separation` and `spread`."""
    best = None
    for direction in c.leading.T:
        line = z @ direction
        part, share = discriminant_split(z, line > split_line(line)[0])
        m = float(part.mean())
        if not 0 < m < 1 or not 0 < share < 1:
            continue
        apart = z[part].mean(0) - z[~part].mean(0)
        value = float(np.log(apart @ apart * m * (1 - m)) + np.log(share / (1 - share)))
        if best is None or value > best[0]:
            best = (value, part, m)
    if best is None:
        return
    c.separation, part, m = best
    if m > 0.5:
        part, m = ~part, 1 - m
    c.part = part
    energy = z @ c.between
    variances = [float(energy[side].var(0).sum()) for side in (part, ~part)]
    if min(variances) <= 0:
        return
    c.spread = float(np.log(variances[0] / variances[1]))
    # Poison may be the larger part, but a few close samples are no class without their outliers.
    if m > _LARGER_PART:
        c.spread = abs(c.spread)


def _judge(judged: list[_Class], notes: list[str]) -> dict[str, Any]:
    """Test each class against the others."""
    if len(judged) < _LEAST_CLASSES:
        notes.append(
            f"{len(judged)} classes to compare: with fewer than {_LEAST_CLASSES} the verdict "
            "cannot be calibrated, and there is none"
        )
        return {"poisoned": False, "p": None, "level": LEVEL}
    separation = leave_one_out(np.array([c.separation for c in judged]))
    spread = leave_one_out(np.array([c.spread for c in judged]))
    for c, p in zip(judged, stouffer(separation, spread).tolist(), strict=True):
        # Either part may be the poisoned one: the spread was measured in both directions.
        c.p = min(1.0, 2 * p)
    p = min(1.0, len(judged) * min(c.p for c in judged))
    return {"poisoned": p < LEVEL, "p": p, "level": LEVEL}


def _fit(c: _Class, z: NDArray[np.float64]) -> None:
    """Fit two Gaussians of any shape; the part that varies as classes do is suspicious."""
    narrow = np.concatenate([c.leading[:, :_MIXTURE_LEADING], c.between], axis=1)
    c.basis = np.linalg.qr(narrow)[0]
    v, energy = z @ c.basis, z @ c.between
    starts = [line > split_line(line)[0] for line in (z @ c.leading[:, :_MIXTURE_LEADING]).T]
    height = (energy**2).sum(1)
    starts += [height > np.quantile(height, q) for q in (0.8, 0.95)]
    starts.append(c.part)
    c.mixture = fit_mixture(v, starts)
    if c.mixture is not None:
        odds = np.clip(c.mixture.log_odds(v), -_CERTAIN, _CERTAIN)
        first = 1 / (1 + np.exp(-odds))
        varies = np.log(_variance(energy, first) / _variance(energy, 1 - first))
        # Where both vary about as much, the smaller one.
        smaller = np.log(c.mixture.weight[1] / c.mixture.weight[0])
        c.sign = 1.0 if varies + 0.5 * smaller > 0 else -1.0


def _variance(z: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    mean = weight @ z / weight.sum()
    return float((weight @ (z - mean) ** 2).sum() / weight.sum())


def _scores(
    reader: Reader,
    labels: NDArray[np.int64],
    fitted: list[_Class],
    suspected: list[_Class],
    judged: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Third pass: log-odds, and the probability of being clean.

    Classes that are not suspected come after those that are, the likelier ones first.
    """
    n = len(reader.label)
    score, clean = np.full(n, -4 * _CERTAIN), np.ones(n)
    inside = {c.index for c in suspected}
    for first, (x, y) in reader.batches("scores"):
        for c in fitted:
            rows = np.flatnonzero(y == labels[c.index])
            z = (x[rows].astype(np.float64) - c.mean) @ c.projection
            odds = c.log_odds(z)
            if c.index in inside:
                clean[first + rows] = 1 / (1 + np.exp(odds))
                score[first + rows] = odds
            else:
                behind = np.log(LEVEL) - np.log(max(LEVEL, min(1.0, c.p * judged)))
                score[first + rows] = odds + behind - 2 * _CERTAIN
    return score, clean


def _info(
    reader: Reader,
    labels: NDArray[np.int64],
    counts: NDArray[np.int64],
    classes: list[_Class],
    suspected: list[_Class],
    clean: NDArray[np.float64],
    dataset: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    table = [
        {
            "class": int(labels[c.index]),
            "p": c.p,
            "separation": c.separation,
            "between_class_spread": c.spread,
        }
        for c in classes
        if np.isfinite(c.separation) and np.isfinite(c.spread)
    ]
    found = []
    for c in sorted(suspected, key=lambda c: (c.p, c.index)):
        inside = 1 - clean[reader.label == labels[c.index]]
        found.append(
            {
                "class": int(labels[c.index]),
                "p": c.p,
                "poisoned_share": float(inside.mean()),
                "direction": _direction(c),
            }
        )
    return {
        "source": reader.source.name,
        "features": len(classes[0].mean) if classes else None,
        "counts": counts.tolist(),
        "null": NULL,
        "rule": "in suspected classes: samples more likely of the second part than of the first",
        "dataset": dataset,
        "target_classes": [entry["class"] for entry in found],
        "suspected": found,
        "class_tests": table,
        "rate": float((1 - clean).mean()),
        "notes": notes,
    }


def _direction(c: _Class) -> list[float]:
    """Unit vector in the space of features along which the suspicious part is separated."""
    if c.mixture is None:
        return []
    apart = c.sign * (c.mixture.mean[0] - c.mixture.mean[1])
    within = np.einsum("i,ijk->jk", c.mixture.weight, c.mixture.covariance)
    direction = c.projection @ (c.basis @ np.linalg.solve(within, apart))
    length = float(np.linalg.norm(direction))
    return [float(v) for v in direction / length] if length > 0 else []
