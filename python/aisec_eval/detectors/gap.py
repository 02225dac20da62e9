"""The widest gap in a class: a part, even a small one, that lies apart in some direction.

The share of variance that a split explains says little of a part of a few per cent. The distance
of the parts in their own spread (Mahalanobis) does not depend on how large they are. Directions
are looked for where the class varies most and where it is least normal (FastICA, cubic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .mixture import split_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINES = 8
"""Leading directions, and as many independent components."""
_TAILS = (0.05, 0.95)
_ROUNDS = 4
_ICA_ROUNDS = 30
_MOST = 4000
"""Samples that the search looks at."""
_LEAST, _LEAST_SHARE = 15, 0.02
_RIDGE = 1e-2
_WINDOW = 0.2
"""Width of a window on the line, in distances of the parts' medians."""
_PLACES = 41


@dataclass(frozen=True)
class Gap:
    """Two parts of a class."""

    part: NDArray[np.bool_]
    """The smaller one [n]."""
    direction: NDArray[np.float64]
    """Fisher's discriminant, towards the smaller part [r], of length 1."""
    distance: float
    """Log of the squared Mahalanobis distance of the means."""
    variety: float
    """Log ratio, smaller to larger part, of the variance between classes over that elsewhere."""
    spread: float
    """The same of the variance between classes alone."""
    hollow: float
    """Log ratio of the samples in the smaller part's fullest window over those in the emptiest
    one between the parts."""
    p_hollow: float
    """That the emptiest window holds so few by chance, were it half as full."""


def widest_gap(
    z: NDArray[np.float64],
    leading: NDArray[np.float64],
    between: NDArray[np.float64],
    lines: int = _LINES,
) -> Gap | None:
    """Find the parts of the largest `distance + variety`.

    Args:
        z: samples in the spread of the other classes [n, w].
        leading: directions in which they vary most, the first one most, within the first r
            coordinates [r, k], orthonormal.
        between: directions in which the other classes differ [r, b].
        lines: how many leading directions and components to start from.

    Returns:
        None where no part has 2 % and 15 samples.
    """
    narrow = z[:, : len(leading)] @ leading
    step = -(-len(z) // _MOST)
    some, v = z[::step], narrow[::step]
    between = np.pad(between, ((0, z.shape[1] - len(between)), (0, 0)))
    least = max(_LEAST, _LEAST_SHARE * len(some))
    scale = np.sqrt((v**2).mean(0))
    own = v / np.where(scale > 0, scale, 1.0)
    lines = min(lines, v.shape[1])
    starts = [v[:, j] for j in range(lines)]
    starts += [own @ w for w in _components(own, lines)]
    best: tuple[float, NDArray[np.bool_], NDArray[np.float64]] | None = None
    seen = set()
    for line in starts:
        parts = [line > split_line(line)[0]]
        parts += [line > np.quantile(line, q) for q in _TAILS]
        for start in parts:
            found = _discriminate(v, start)
            if found is None:
                continue
            part, w, squared = found
            if part.mean() > 0.5:
                part, w = ~part, -w
            key = part.tobytes()
            if key in seen or part.sum() < least or squared <= 0:
                continue
            seen.add(key)
            value = np.log(squared) + _variety(some, part, between)[0]
            if np.isfinite(value) and (best is None or value > best[0]):
                best = float(value), part, w
    if best is None:
        return None
    w = best[2]
    # The same halves of all samples.
    whole = narrow @ w > split_line(v @ w)[0]
    if not _LEAST <= whole.sum() < len(z) - 5:
        return None
    squared = _fisher(narrow, whole)[1]
    direction = leading @ w
    hollow, p_hollow = _hollow(narrow @ w, whole)
    return Gap(
        whole,
        direction / np.linalg.norm(direction),
        float(np.log(max(squared, 1e-300))),
        *_variety(z, whole, between),
        hollow,
        p_hollow,
    )


def _hollow(line: NDArray[np.float64], part: NDArray[np.bool_]) -> tuple[float, float]:
    """How empty it is between the parts: the tail of a class is no gap."""
    from scipy.special import bdtr

    inner, outer = float(np.median(line[~part])), float(np.median(line[part]))
    ordered = np.sort(line)
    places = np.linspace(inner, outer, _PLACES)
    half = 0.5 * _WINDOW * abs(outer - inner)
    counts = np.searchsorted(ordered, places + half) - np.searchsorted(ordered, places - half)
    emptiest = int(counts.argmin())
    few, many = int(counts[emptiest]), int(counts[emptiest:].max())
    # Of both windows' samples, a third would lie in one that is half as full.
    return float(np.log((many + 0.5) / (few + 0.5))), float(bdtr(few, few + many, 1 / 3))


def _components(own: NDArray[np.float64], count: int) -> list[NDArray[np.float64]]:
    """Directions of large kurtosis, by Hyvarinen's fixed point from each axis."""
    found = []
    for j in range(count):
        w = np.zeros(own.shape[1])
        w[j] = 1.0
        for _ in range(_ICA_ROUNDS):
            moved = (own * ((own @ w) ** 3)[:, None]).mean(0) - 3 * w
            length = np.linalg.norm(moved)
            if not length > 0:
                break
            moved /= length
            same = abs(float(moved @ w))
            w = moved
            if same > 0.9999:
                break
        found.append(w)
    return found


def _discriminate(
    v: NDArray[np.float64], part: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], float] | None:
    """Refine parts by the best split of their discriminant; with it, and the squared distance."""
    for _ in range(_ROUNDS):
        if not 5 <= part.sum() <= len(part) - 5:
            return None
        line = v @ _fisher(v, part)[0]
        moved = line > split_line(line)[0]
        if np.array_equal(moved, part):
            break
        part = moved
    if not 5 <= part.sum() <= len(part) - 5:
        return None
    return part, *_fisher(v, part)


def _fisher(v: NDArray[np.float64], part: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    one, two = v[part], v[~part]
    apart = one.mean(0) - two.mean(0)
    one, two = one - one.mean(0), two - two.mean(0)
    within = (one.T @ one + two.T @ two) / len(v)
    ridge = _RIDGE * np.trace(within) / len(within)
    within += max(ridge, 1e-300) * np.eye(len(within))
    w = np.linalg.solve(within, apart)
    return w, float(apart @ w)


def _variety(
    z: NDArray[np.float64], part: NDArray[np.bool_], between: NDArray[np.float64]
) -> tuple[float, float]:
    """Log ratio of between-class variance over that elsewhere, without the gap; and alone."""
    apart = z[part].mean(0) - z[~part].mean(0)
    length = np.linalg.norm(apart)
    u = apart / length if length > 0 else apart
    basis = np.linalg.qr(between - np.outer(u, u @ between))[0]
    ratios, own = [], []
    for side in (part, ~part):
        centred = z[side] - z[side].mean(0)
        centred = centred - np.outer(centred @ u, u)
        inside = float(((centred @ basis) ** 2).sum())
        whole = float((centred**2).sum())
        if inside <= 0 or whole - inside <= 1e-9 * whole:
            return 0.0, 0.0
        ratios.append(np.log(inside / (whole - inside)))
        own.append(np.log(inside / len(centred)))
    return float(ratios[0] - ratios[1]), float(own[0] - own[1])
