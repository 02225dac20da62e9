"""One-sided confusion: a class whose label lies inside other classes, but not the reverse.

A backdoor that a model learns in part leaves samples of other classes where they were, under the
target's label. Classes that are hard to tell apart are confused both ways; samples of the target
alone lie inside others. Each class has both counts, and their ratio is compared with that of the
other classes. Random label noise goes both ways, and is none of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .calibrate import binomial_tails, moderated
from .neighbours import within_reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.004
"""Chance of an alarm on a dataset without poison, as far as the null is true."""
_LEAST_CLASSES = 5
_SPREAD = 0.7
"""Deviation of the log ratio between classes of clean sets (found 0.4 to 1.2 on real features)."""
_REACH = 0.9
"""Share of a class; what is farther from it than that does not lie in it."""
_MORE = 3.0
"""Added to both counts, so that a handful is no ratio."""

NULL = (
    "how often samples of a class lie among another one (its share of the neighbours, for its "
    "size, is larger, and they are as near as those of 90 % of its own), over how often others' "
    "samples lie in it, is alike in all classes on the logarithmic scale: normal, with a variance "
    "of which something is known beforehand. Each class is tested against the others (moderated t, "
    "Bonferroni); beside, more than half of its own confusion must be outward (binomial)"
)


@dataclass(frozen=True)
class OneSided:
    """The verdict, and what it says of the samples of each suspected class."""

    dataset: dict[str, Any]
    tests: list[dict[str, Any]]
    """One row a class: class, p, samples that lie outside, others' samples inside."""
    odds: dict[int, NDArray[np.float64]]
    """Log-odds of poison by agreement of the neighbours, of suspected classes [k + 1]."""
    agree: NDArray[np.int64]
    """Neighbours of the own label [n]."""


def one_sided(
    label: NDArray[np.int64], ids: NDArray[np.uint32], distance: NDArray[np.float32]
) -> OneSided:
    """Test every class, from the neighbours [n, k] of all samples and how far they are."""
    classes, code = np.unique(label, return_inverse=True)
    size = np.bincount(code).astype(np.float64)
    k = ids.shape[1]
    agree, given, rival = _outside(code, ids, distance, size)
    # Counts for classes of one size.
    typical = np.median(size)
    outward = np.bincount(given, minlength=len(classes)) * typical / size
    inward = np.bincount(rival, weights=typical / size[given], minlength=len(classes))
    judged = np.flatnonzero(size >= 2 * k)
    p = np.ones(len(classes))
    enough = len(judged) >= _LEAST_CLASSES
    if enough:
        ratio = np.log((outward + _MORE) / (inward + _MORE))[judged]
        counted = np.bincount(given, minlength=len(classes))[judged].astype(np.int64)
        against = np.bincount(rival, minlength=len(classes))[judged].astype(np.int64)
        p[judged] = np.maximum(
            moderated(ratio, _SPREAD), binomial_tails(counted, counted + against)
        )
    least = min(1.0, float(p.min()) * len(judged)) if enough else None
    suspected = judged[p[judged] * len(judged) < LEVEL] if enough else judged[:0]
    return OneSided(
        {"poisoned": len(suspected) > 0, "p": least, "level": LEVEL},
        [
            {
                "class": int(classes[c]),
                "p": float(p[c]),
                "outside": float(outward[c]),
                "inside": float(inward[c]),
            }
            for c in judged.tolist()
        ],
        {int(classes[c]): _odds(agree, code == c, k) for c in suspected.tolist()},
        agree,
    )


def _outside(
    code: NDArray[np.int64],
    ids: NDArray[np.uint32],
    distance: NDArray[np.float32],
    size: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Agreement of all samples; of those that lie in another class, their class and that one."""
    n, k = ids.shape
    agree = np.empty(n, dtype=np.int64)
    best_of = np.empty(n, dtype=np.int64)
    outside = np.empty(n, dtype=np.bool_)
    for first in range(0, n, 1 << 14):
        part = slice(first, min(first + (1 << 14), n))
        found, own = np.sort(code[ids[part]], axis=1), code[part]
        agree[part] = (found == own[:, None]).sum(1)
        run = np.ones_like(found)
        for j in range(1, k):
            run[:, j] = np.where(found[:, j] == found[:, j - 1], run[:, j - 1] + 1, 1)
        votes = run / size[found]
        votes[found == own[:, None]] = 0.0
        best = votes.argmax(1)
        rows = np.arange(len(own))
        outside[part] = votes[rows, best] > agree[part] / size[own]
        best_of[part] = found[rows, best]
    # What lies at the fringe of another class lies there for being far from all: a class that
    # varies more than the others has such samples, and they have none in it.
    outside &= within_reach(code, agree, best_of, distance, _REACH)
    return agree, code[outside], best_of[outside]


def _odds(agree: NDArray[np.int64], inside: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Log-odds of poison, from how much more samples of a class disagree than those of others.

    As many samples of the class are clean as its full agreement shows.
    """
    seen = np.bincount(agree[inside], minlength=k + 1).astype(np.float64)
    others = np.bincount(agree[~inside], minlength=k + 1).astype(np.float64)
    top = int(np.flatnonzero(others)[-1])
    clean = others * min(seen.sum() / others.sum(), seen[top] / others[top])
    ratio = np.log((np.maximum(seen - clean, 0) + 0.5) / (clean + 0.5))
    # Fewer that agree are never less suspicious.
    odds: NDArray[np.float64] = np.maximum.accumulate(ratio[::-1])[::-1]
    return odds - 1e-3 * np.arange(k + 1)
