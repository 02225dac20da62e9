"""Nulls for scores of samples: against clean samples, or of each class against the others.

With clean samples p-values are conformal (Vovk, Gammerman & Shafer, 2005): the rank of a score
among those of clean samples that nothing was fitted on. How many samples fall below a rank
is then beta-binomial, which is the verdict on the dataset.

Without them a class is judged by the others: scores are centred by the median of their class and
scaled by its median absolute deviation, which poison that is less than half of it moves little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_inputs
from ..errors import InputError
from .calibrate import leave_one_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.005
"""Chance of an alarm on a dataset without poison, as far as the null is true."""
LEAST_CLASSES = 5
LEAST_CLEAN = 20
_LEVELS = (0.01, 0.1)
_TAIL = 0.1
_LEAST_SAMPLES = 10
NORMAL_MAD = 1.4826

CLEAN_NULL = (
    "the samples are drawn as the clean ones are: a p-value is the rank of the score among "
    "{m} clean samples; how many fall below a rank is beta-binomial. Of {what}"
)
CLASS_NULL = (
    "scores, centred by the median of their class and scaled by its median absolute deviation, "
    "have the same upper tail in all classes. A p-value is the rank among the samples of the other "
    "classes; a class is tested by the mean of the highest tenth of its scores, on the logarithmic "
    "scale, against those of the other classes (leave one out, Student's t; Bonferroni). Poison "
    "that is half of its class or more is not seen"
)


def judge(
    score: NDArray[np.float64],
    label: NDArray[np.int64],
    clean: tuple[NDArray[np.float64], NDArray[np.int64] | None] | None,
    what: str,
    fpr: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, Any]]:
    """Return p-values, flags and verdicts: by clean scores with their classes, else by classes.

    With clean scores every sample with `p <= fpr` is flagged; without, after an alarm, those of
    suspected classes.
    """
    if clean is not None:
        p, info = against_clean(score, label, *clean, what)
        return p, p <= fpr, info | {"rule": f"p-values up to {fpr:g}"}
    p, info = against_classes(score, label)
    flagged = np.isin(label, info["target_classes"]) & (p <= fpr)
    return p, flagged, info | {"rule": f"in suspected classes: p-values up to {fpr:g}"}


def check_clean(
    clean: Any, labels: Any, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Return clean samples as float32 [m, *shape], m >= 20, and their labels.

    Raises:
        InputError: they do not fit.
    """
    held = check_inputs(clean, shape)
    if len(held) < LEAST_CLEAN:
        raise InputError(f"clean holds {len(held)} samples, at least {LEAST_CLEAN} are needed")
    if labels is None:
        return held, None
    y = np.asarray(labels)
    if y.shape != (len(held),) or y.dtype.kind not in "iu":
        raise InputError(f"clean_labels: {y.dtype} {list(y.shape)}, expected {len(held)} integers")
    return held, y.astype(np.int64)


def check_share(name: str, value: Any, top: float = 1.0) -> float:
    """Return a number above 0 and below `top`.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, bool) or not (isinstance(value, float | int) and 0 < value < top):
        raise InputError(f"{name}={value!r} must be above 0 and below {top:g}")
    return float(value)


def check_bounds(bounds: Any) -> tuple[float, float]:
    """Return the input range.

    Raises:
        InputError: it is none.
    """
    try:
        low, high = (float(b) for b in bounds)
    except (TypeError, ValueError):
        low = high = np.nan
    if not low < high:
        raise InputError(f"bounds={bounds!r} must be two numbers, lower < upper")
    return low, high


def halves(
    m: int, seed: int, stream: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide m samples at random: up to half of them and up to `most`, and the rest."""
    # A stream of its own: poison may be planted by the same seed.
    words = np.random.Philox(key=seed + (stream << 64)).random_raw(m)
    drawn = np.argsort(words, kind="stable")
    used = min(most, m // 2)
    return np.sort(drawn[:used]), np.sort(drawn[used:])


def conformal(score: NDArray[np.float64], clean: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values `(1 + number of clean scores as high) / (1 + m)`: at most q with chance q."""
    ordered = np.sort(clean)
    above = len(clean) - np.searchsorted(ordered, score, side="left")
    p: NDArray[np.float64] = (1 + above) / (1 + len(clean))
    return p


def beta_binomial_tail(count: int, n: int, rank: int, m: int) -> float:
    """P(at least `count` of n samples score above the `rank`-th highest of m others).

    All are drawn alike: the share above is Beta(rank, m + 1 - rank).
    """
    from scipy.special import betaln, gammaln, logsumexp

    if count <= 0:
        return 1.0
    k = np.arange(count, n + 1)
    a, b = rank, m + 1 - rank
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return float(min(1.0, np.exp(logsumexp(ways + betaln(k + a, n - k + b) - betaln(a, b)))))


def excess(score: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
    """P-value of as many high scores as there are, if all were drawn as the clean ones.

    Both the highest hundredth and the highest tenth of the clean scores are compared with
    (Bonferroni).
    """
    m, ordered = len(clean), np.sort(clean)
    ranks = {max(1, round(level * (m + 1))) for level in _LEVELS}
    tails = []
    for rank in sorted(ranks):
        count = int((score > ordered[m - rank]).sum())
        tails.append(beta_binomial_tail(count, len(score), rank, m))
    return min(1.0, len(ranks) * min(tails))


def against_clean(
    score: NDArray[np.float64],
    label: NDArray[np.int64],
    clean: NDArray[np.float64],
    clean_label: NDArray[np.int64] | None,
    what: str,
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return p-values and verdicts by clean scores.

    Args:
        score: higher is more suspicious [n].
        label: classes [n].
        clean: scores of clean samples that nothing was fitted on [m].
        clean_label: their classes; None where unknown: then classes are not tested.
        what: what the clean scores are, for the null.
    """
    table = []
    if clean_label is not None:
        for c in np.unique(label).tolist():
            own, inside = clean[clean_label == c], score[label == c]
            p = excess(inside, own) if len(own) >= _LEAST_SAMPLES else None
            table.append(
                {
                    "class": c,
                    "samples": len(inside),
                    "clean_samples": len(own),
                    "median": float(np.median(inside)),
                    "clean_median": float(np.median(own)) if len(own) else None,
                    "p": p,
                }
            )
    tested = [entry["p"] for entry in table if entry["p"] is not None]
    # One half of the level for the whole, one half for the classes.
    p = min(1.0, 2 * min(excess(score, clean), *(len(tested) * q for q in tested), 1.0))
    dataset = {"poisoned": p < LEVEL, "p": p, "level": LEVEL}
    return conformal(score, clean), _info(
        CLEAN_NULL.format(m=len(clean), what=what), dataset, table, 2 * len(tested)
    )


def against_classes(
    score: NDArray[np.float64], label: NDArray[np.int64]
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return p-values and verdicts of each class by the others.

    Args:
        score: higher is more suspicious [n]; finite.
        label: classes [n].
    """
    classes, place, counts = np.unique(label, return_inverse=True, return_counts=True)
    centre, spread = np.zeros(len(classes)), np.full(len(classes), np.nan)
    for i in range(len(classes)):
        inside = score[place == i]
        centre[i] = np.median(inside)
        if counts[i] >= _LEAST_SAMPLES:
            spread[i] = NORMAL_MAD * np.median(np.abs(inside - centre[i]))
    usable = spread[np.isfinite(spread) & (spread > 0)]
    typical = float(np.median(usable)) if len(usable) else 1.0
    spread = np.where(np.isfinite(spread) & (spread > 0), spread, typical)
    z = (score - centre[place]) / spread[place]
    p = np.ones(len(score))
    tail = np.full(len(classes), np.nan)
    ordered = np.sort(z)
    for i in range(len(classes)):
        inside = np.sort(z[place == i])
        above = len(z) - np.searchsorted(ordered, z[place == i], side="left")
        own = len(inside) - np.searchsorted(inside, z[place == i], side="left")
        p[place == i] = (1 + above - own) / (1 + len(z) - len(inside))
        if counts[i] >= _LEAST_SAMPLES:
            highest = inside[-max(1, round(_TAIL * len(inside))) :].mean()
            tail[i] = np.log(max(highest, 1e-12))
    judged = np.flatnonzero(np.isfinite(tail))
    table: list[dict[str, Any]] = []
    notes = []
    dataset: dict[str, Any] = {"poisoned": False, "p": None, "level": LEVEL}
    if len(judged) >= LEAST_CLASSES:
        tests = leave_one_out(tail[judged])
        index = anomaly_index(tail[judged])
        for i, q, a in zip(judged.tolist(), tests.tolist(), index, strict=True):
            table.append(
                {
                    "class": int(classes[i]),
                    "samples": int(counts[i]),
                    "median": float(centre[i]),
                    "tail": float(np.exp(tail[i])),
                    "anomaly_index": a,
                    "p": q,
                }
            )
        smallest = min(1.0, len(judged) * float(tests.min()))
        dataset |= {"poisoned": smallest < LEVEL, "p": smallest}
    else:
        notes.append(
            f"{len(judged)} classes to compare: with fewer than {LEAST_CLASSES} the verdict "
            "cannot be calibrated, and there is none"
        )
    return p, _info(CLASS_NULL, dataset, table, len(judged)) | {"notes": notes}


def anomaly_index(values: NDArray[np.float64]) -> list[float]:
    """Distance from the median in units of 1.4826 * MAD, signed [c]."""
    centre = np.median(values)
    spread = NORMAL_MAD * np.median(np.abs(values - centre))
    index: list[float] = ((values - centre) / max(spread, 1e-300)).tolist()
    return index


def _info(
    null: str, dataset: dict[str, Any], table: list[dict[str, Any]], tests: int
) -> dict[str, Any]:
    found = [e for e in table if e["p"] is not None and e["p"] * tests < LEVEL]
    suspected = sorted(found, key=lambda e: e["p"]) if dataset["poisoned"] else []
    return {
        "null": null,
        "dataset": dataset,
        "target_classes": [entry["class"] for entry in suspected],
        "class_tests": table,
        "notes": [],
    }
