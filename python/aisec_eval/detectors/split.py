"""Leave-class-out splits: a class that falls into two parts as no other class does.

A backdoor puts samples of other classes under one label. Seen with the spread that the *other*
classes have (so that poison cannot widen its own yardstick), the class has two parts, far apart,
and one of them varies as classes do among each other. Two pairs of figures measure it for every
class: of the split that explains most variance, for poison that is a good part of the class, and
of the widest gap, for a part as small as 2 %. A class is judged against the remaining ones: the
null is that its figures are like theirs.

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
from .calibrate import both, clean_shares, moderated, stouffer
from .class_space import class_projection, read_samples, read_spaces, select
from .gap import widest_gap
from .mixture import discriminant_split, fit_mixture, fit_with_prior, split_line
from .part_odds import CERTAIN, Scorer, bounded
from .passes import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .class_space import ClassSpace, Sampled
    from .gap import Gap
    from .mixture import Mixture
    from .passes import Progress
    from .source import Source

LEVEL = 0.003
"""Chance of an alarm on a dataset without poison, as far as the null is true."""
_TESTS = 2
_LEAST_CLASSES = 5
_SEPARATION_SPREAD, _SPREAD_SPREAD = 0.6, 0.2
_DISTANCE_SPREAD, _VARIETY_SPREAD, _HOLLOW_SPREAD = 0.4, 0.2, 1.0
_STARTS = 5
_MIXTURE_LEADING, _PRIOR_LEADING = 4, 8
_FITTED = 16
_SAMPLES = 10
"""A direction of a fitted part."""
_GAP_LINES = 128
_LARGER_PART = 0.2
"""From this size of the smaller part on, either may be the one that varies more."""
_PROVENANCE = 0.15
"""P-value above which a part, however far apart, is a kind of its class."""
_HOLLOW = 0.01
"""P-value above which a part, however far apart, is the tail of its class."""
_FAR = 3.0
"""Samples so many times as far out as the median one are drawn in to there."""

NULL = (
    "how far apart the two parts of a class are, and how much more one of them varies between "
    "classes than the other, are, on the logarithmic scale, alike in all classes: normal with a "
    "common mean and variance, of which something is known beforehand, and independent of each "
    "other. Each class is tested against the others (leave one out, moderated t); for the split "
    "both figures must be unusual (maximum of the p-values, squared); for the widest gap, with how "
    "empty it is between the parts, their sum (Stouffer). Also it must be less than half as full "
    "there as in the smaller part (binomial, p < 0.01), as tails are not, and that part must vary "
    "more between classes than is usual (p < 0.15 in one of three measures), as a kind of its own "
    "class does not. Both tests, the number of classes, and that either part of the split may be "
    "the one that varies more, are corrected for (Bonferroni). A clean class that alone consists "
    "of two kinds, one of them spread as classes are, can raise a false alarm"
)


@dataclass
class _Class:
    """What is found of one class."""

    space: ClassSpace
    separation: float = np.nan
    """log(between variance) + log of the share explained against the rest."""
    spread: float = np.nan
    """Log ratio of the between-class variances of the parts."""
    part: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    """The smaller part of the split, of the samples of the second pass."""
    share: float = 0.0
    """How much of the class that is."""
    gap: Gap | None = None
    p_split: float = 1.0
    p_gap: float = 1.0
    split_holds: bool = False
    """Whether the split alone raises the alarm."""
    hint: NDArray[np.float64] | None = None
    """Log-odds of poison of all samples of the dataset, from elsewhere [n]."""
    mixture: Mixture | None = None
    basis: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    """Of the mixture, within the projection [r, s]."""
    sign: float = 1.0
    """1 where the first part of the mixture is the suspicious one, else -1."""

    @property
    def p(self) -> float:
        """Of both tests."""
        return min(1.0, _TESTS * min(self.p_split, self.p_gap))

    @property
    def by(self) -> str:
        """What speaks most against the class."""
        if self.hint is not None:
            return "one-sided"
        return "gap" if self.p_gap < self.p_split and not self.split_holds else "split"


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
    return splits_with_hints(source, memory_limit, progress, {})


def splits_with_hints(
    source: Source,
    memory_limit: int | None,
    progress: Progress,
    hints: Mapping[int, NDArray[np.float64]],
    aside: NDArray[np.bool_] | None = None,
) -> ScanResult:
    """Like `class_splits`, with what something else already says of classes and samples.

    Args:
        source: features and labels, read three times.
        memory_limit: bytes for a batch, the statistics and the samples of the second pass.
        progress: told of the rows read.
        hints: of suspected classes, by label: log-odds of poison of every sample of the dataset
            [n], those of other classes unused. Their parts are fitted with these as the prior.
        aside: samples that are no part of their class [n]: wrong labels would be found for parts.
    """
    reader = Reader(source, memory_limit, progress, 3)
    try:
        labels, counts, spaces = read_spaces(reader)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None
    notes = []
    if len(spaces) < len(labels):
        small = [int(c) for i, c in enumerate(labels) if i not in {k.index for k in spaces}]
        names = ", ".join(map(str, small[:10])) + (" ..." if len(small) > 10 else "")
        notes.append(f"classes with too few samples for their dimension, left out: {names}")
    samples = read_samples(reader, labels, counts, spaces)
    if aside is not None:
        samples = {index: one.without(aside) for index, one in samples.items()}
    lines = max(2, min(8, _GAP_LINES // max(1, len(spaces))))
    classes = [_measure(space, samples[space.index].z, lines) for space in spaces]
    judged = [c for c in classes if np.isfinite(c.separation) and np.isfinite(c.spread)]
    dataset = _judge(judged, notes)
    for c in judged:
        c.hint = hints.get(c.space.label)
    # The parts are looked for where they matter: in the most suspicious classes.
    fitted = sorted(judged, key=lambda c: (c.hint is None, c.p, c.space.index))[
        : max(_FITTED, len(hints))
    ]
    for c in fitted:
        _fit(c, samples[c.space.index])
    suspected = [
        c
        for c in fitted
        if c.hint is not None or (dataset["poisoned"] and c.p * len(judged) < LEVEL)
    ]
    del samples
    score, clean = _scores(reader, fitted, suspected, len(judged))
    info = _info(reader, counts, classes, judged, suspected, clean, dataset, notes)
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


def _measure(space: ClassSpace, z: NDArray[np.float64], lines: int) -> _Class:
    """Find the split of a class that explains most, and its widest gap."""
    c = _Class(space)
    wide, z = z, z[:, : space.projection.shape[1]]
    # One sample far out is neither a part nor a spread.
    radius = np.sqrt((z**2).sum(1))
    near = _FAR * float(np.median(radius))
    z = z * (near / np.maximum(radius, max(near, 1e-300)))[:, None]
    best = None
    for direction in space.leading[:, :_STARTS].T:
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
        return c
    c.separation, part, m = best
    if m > 0.5:
        part, m = ~part, 1 - m
    c.part, c.share = part, m
    energy = z @ space.between
    variances = [float(energy[side].var(0).sum()) for side in (part, ~part)]
    if min(variances) <= 0:
        return c
    c.spread = float(np.log(variances[0] / variances[1]))
    c.gap = widest_gap(wide, space.leading, space.between, lines)
    return c


def _judge(judged: list[_Class], notes: list[str]) -> dict[str, Any]:
    """Test each class against the others."""
    if len(judged) < _LEAST_CLASSES:
        notes.append(
            f"{len(judged)} classes to compare: with fewer than {_LEAST_CLASSES} the verdict "
            "cannot be calibrated, and there is none"
        )
        return {"poisoned": False, "p": None, "level": LEVEL}
    separation = moderated(np.array([c.separation for c in judged]), _SEPARATION_SPREAD)
    spreads = np.array([c.spread for c in judged])
    spread = moderated(spreads, _SPREAD_SPREAD)
    # Poison may be the larger part, but a few close samples are no class without their outliers.
    larger = np.array([c.share for c in judged]) > _LARGER_PART
    spread = np.where(larger, np.minimum(spread, moderated(-spreads, _SPREAD_SPREAD)), spread)
    for c, p in zip(judged, both(separation, spread).tolist(), strict=True):
        # Either part may be the poisoned one: the spread was measured in both directions.
        c.p_split = min(1.0, 2 * p)
    gaps = [(c, c.gap) for c in judged if c.gap is not None]
    if len(gaps) >= _LEAST_CLASSES:
        distance = moderated(np.array([g.distance for _, g in gaps]), _DISTANCE_SPREAD)
        variety = moderated(np.array([g.variety for _, g in gaps]), _VARIETY_SPREAD)
        hollow = moderated(np.array([g.hollow for _, g in gaps]), _HOLLOW_SPREAD)
        width = moderated(np.array([g.spread for _, g in gaps]), _SPREAD_SPREAD)
        unusual = stouffer(distance, variety, hollow)
        # A kind that the class has of its own varies no more between classes than the rest does.
        split = spread[[c.gap is not None for c in judged]]
        foreign = np.minimum.reduce([variety, width, split])
        for (c, gap), p, q in zip(gaps, unusual.tolist(), foreign.tolist(), strict=True):
            # No alarm then, but classes are still ranked.
            passed = q < _PROVENANCE and gap.p_hollow < _HOLLOW
            c.p_gap = p if passed else max(p, q, gap.p_hollow)
    for c in judged:
        c.split_holds = _TESTS * len(judged) * c.p_split < LEVEL
    p = min(1.0, len(judged) * min(c.p for c in judged))
    return {"poisoned": p < LEVEL, "p": p, "level": LEVEL}


def _fit(c: _Class, samples: Sampled) -> None:
    """Fit two Gaussians of any shape, and say which one is suspicious."""
    space, z = c.space, samples.z[:, : c.space.projection.shape[1]]
    if c.hint is not None:
        wide = np.concatenate([space.leading[:, :_PRIOR_LEADING], space.between], axis=1)
        c.basis = np.linalg.qr(wide)[0]
        c.mixture = fit_with_prior(z @ c.basis, c.hint[samples.row])
        return
    if c.by == "gap" and c.gap is not None:
        narrow = np.c_[c.gap.direction, space.leading[:, :_MIXTURE_LEADING]]
        wide = np.c_[narrow, space.between]
        # A small part says nothing of a covariance in many directions.
        some = c.gap.part.sum() < _SAMPLES * wide.shape[1] or wide.shape[1] > len(wide)
        c.basis = np.linalg.qr(narrow if some else wide)[0]
        c.mixture = fit_mixture(z @ c.basis, [c.gap.part])
        return
    narrow = np.concatenate([space.leading[:, :_MIXTURE_LEADING], space.between], axis=1)
    c.basis = np.linalg.qr(narrow)[0]
    v, energy = z @ c.basis, z @ space.between
    starts = [line > split_line(line)[0] for line in (z @ space.leading[:, :_MIXTURE_LEADING]).T]
    height = (energy**2).sum(1)
    starts += [height > np.quantile(height, q) for q in (0.8, 0.95)]
    starts.append(c.part)
    c.mixture = fit_mixture(v, starts)
    if c.mixture is not None:
        odds = np.clip(c.mixture.log_odds(v), -CERTAIN, CERTAIN)
        first = 1 / (1 + np.exp(-odds))
        varies = np.log(_variance(energy, first) / _variance(energy, 1 - first))
        # Where both vary about as much, the smaller one.
        smaller = np.log(c.mixture.weight[1] / c.mixture.weight[0])
        c.sign = 1.0 if varies + 0.5 * smaller > 0 else -1.0


def _variance(z: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    mean = weight @ z / weight.sum()
    return float((weight @ (z - mean) ** 2).sum() / weight.sum())


def _scores(
    reader: Reader, fitted: list[_Class], suspected: list[_Class], judged: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Third pass: log-odds, and the probability of being clean.

    Classes that are not suspected come after those that are, the likelier ones first where samples
    are about as certainly of a second part.
    """
    n = len(reader.label)
    score, clean = np.full(n, -4 * CERTAIN), np.ones(n)
    if not fitted:
        return score, clean
    scorers = [Scorer.of(c.space, c.mixture, c.basis, c.sign) for c in fitted]
    width = max(len(s.offset) for s in scorers)
    project = class_projection([c.space for c in fitted], [s.padded(width) for s in scorers])
    known = np.array([c.space.label for c in fitted])
    inside = {c.space.index for c in suspected}
    for first, (x, y) in reader.batches("scores"):
        rows = np.flatnonzero(np.isin(y, known))
        u = project.apply(select(x, rows), y[rows], first)
        for c, scorer in zip(fitted, scorers, strict=True):
            own = y[rows] == c.space.label
            where = first + rows[own]
            odds = scorer.odds(u[own])
            if c.hint is not None:
                odds = bounded(c.hint[where] + (odds if scorer.half else 0.0))
            if c.space.index in inside:
                clean[where] = 1 / (1 + np.exp(odds))
                score[where] = odds
            else:
                # Certain of the part, and how suspicious its class is.
                behind = np.log(LEVEL / judged) - np.log(max(LEVEL / judged, c.p))
                score[where] = -np.log1p(np.exp(-odds)) + behind - 2 * CERTAIN
    return score, clean


def _info(
    reader: Reader,
    counts: NDArray[np.int64],
    classes: list[_Class],
    judged: list[_Class],
    suspected: list[_Class],
    clean: NDArray[np.float64],
    dataset: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    table = [
        {
            "class": c.space.label,
            "p": c.p,
            "separation": c.separation,
            "between_class_spread": c.spread,
            "gap_distance": c.gap.distance if c.gap is not None else None,
            "gap_variety": c.gap.variety if c.gap is not None else None,
            "gap_hollow": c.gap.hollow if c.gap is not None else None,
        }
        for c in judged
    ]
    found = []
    for c in sorted(suspected, key=lambda c: (c.hint is None, c.p, c.space.index)):
        inside = 1 - clean[reader.label == c.space.label]
        found.append(
            {
                "class": c.space.label,
                "by": c.by,
                "p": c.p,
                "poisoned_share": float(inside.mean()),
                "direction": _direction(c),
            }
        )
    return {
        "source": reader.source.name,
        "features": len(classes[0].space.mean) if classes else None,
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
    direction = c.space.projection @ (c.basis @ np.linalg.solve(within, apart))
    length = float(np.linalg.norm(direction))
    return [float(v) for v in direction / length] if length > 0 else []
