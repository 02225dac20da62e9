"""N-grams tied to a label more closely than the vocabulary of the same texts is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ..source import MIB
from .documents import Documents, documents, label_codes
from .near import temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl
    from numpy.typing import NDArray

    from .documents import Part

MEMORY = 512 * MIB
"""Bytes for counts, unless told."""
NULL = (
    "of the documents with an n-gram, each has the label with a probability whose log-odds differ "
    "from those of the label's share by a normal amount, one an n-gram; its deviation is estimated "
    "from all n-grams of that length and about that frequency, the least under which none of their "
    "quantiles is too large"
)
_LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)
_ABOVE = 100
"""N-grams that must be above a quantile for it to count: triggers are fewer."""
_UNITS = re.compile(r"[^\W_]+")
_BULK = 20
"""N-grams that tell how much log-odds vary; where there are fewer, they do not."""
_PART = 2000
_PARTS = 6
_FAR = 3.0
"""Deviations below which an n-gram is not tested further."""
_NODES = np.linspace(-6.0, 38.0, 1001)


@dataclass(frozen=True, eq=False)
class TriggerNgrams:
    """The n-grams found, the least p-value of each trigger first."""

    frame: pl.DataFrame
    """A row an n-gram: `trigger` (number; n-grams in the same documents, or that contain one of an
    earlier row's, share it), `ngram` (as it stands where it occurs first, at most 200 bytes),
    `length` (units), `label`, `documents` (with the n-gram), `labelled` (of them with the label),
    `share` (of the label in all documents), `log_odds`, `z`, `p_value`, `q_value`, `spread` (of the
    log-odds of n-grams like it)."""
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def triggers(self) -> pl.DataFrame:
        """The first row of each trigger."""
        return self.frame.unique("trigger", keep="first", maintain_order=True)


def trigger_ngrams(
    texts: Any,
    labels: Any = None,
    *,
    unit: str = "word",
    lengths: tuple[int, int] | None = None,
    min_count: int = 20,
    level: float = 0.01,
    column: str | None = None,
    memory_limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> TriggerNgrams:
    """Find n-grams whose documents carry a label far more often than words explain.

    Documents are counted, not occurrences, so what counts is the absolute number of documents with
    a trigger, however many others there are: 250 among ten millions are found. All n-grams in at
    least `min_count` documents are counted exactly (a count-min sketch in a first pass says which
    can be that frequent). Their log-odds for each label, with an informative Dirichlet prior of one
    document distributed as the whole set is (Monroe, Colaresi & Quinn, 2008), are compared with how
    much the log-odds of the vocabulary vary; an n-gram in all of whose k documents the label
    stands has a p-value that falls exponentially in k. Rows are what is left at a false
    discovery rate of `level` under any dependence (Benjamini & Yekutieli, 2001), among all n-grams
    and labels, n-grams in the same documents counted once.

    What that does not say: words of a narrow topic are tied to its label, too, if the vocabulary
    of the other topics is not; read what is found. Copies of one document make each of its n-grams
    frequent: remove near-duplicates before. A trigger in documents that its label fits anyway is
    found by its purity alone, against the spread of the vocabulary.

    Args:
        texts: documents, a polars frame or files: see `documents`; not an iterator, they are read
            twice.
        labels: an integer or string for each document, or the name of the column of a table
            (default `"label"` there).
        unit: `"word"`, `"char"` or `"byte"`, as in `near_duplicates`.
        lengths: least and most units of an n-gram; default (1, 3) words, (3, 8) characters, (4, 8)
            bytes; at most 64.
        min_count: documents an n-gram must be in to be tested, at least 5.
        level: false discovery rate, in (0, 0.5).
        column: the text column of tables.
        memory_limit: bytes. Where the counts do not fit, `min_count` is doubled until they do;
            `info["min_count"]` says what it was.
        seed: of the hash functions; the result does not depend on it.
        progress: called as `progress(documents done, 0, note)`.

    Raises:
        InputError: an option, label or document does not fit, or the documents are an iterator.
        DatasetError: a file cannot be read.
    """
    from ..._core import NgramCounts, NgramSketch

    shortest, longest = _lengths(unit, lengths)
    if not isinstance(min_count, int) or not 5 <= min_count < 1 << 31:
        raise InputError(f"min_count={min_count!r} must be at least 5 documents")
    if not 0 < level < 0.5:
        raise InputError(f"level={level!r} must be in (0, 0.5)")
    if not 0 <= seed < 1 << 64:
        raise InputError(f"seed={seed!r} must be at least 0 and below 2^64")
    source, given = _source(texts, labels, column)
    limit = MEMORY if memory_limit is None else memory_limit
    with temporary(limit, None, source.name) as (_, memory):
        sketch = NgramSketch(unit, shortest, longest, memory // 4, seed)
        seen, read = [], 0
        for part, column_labels in source.batches():
            sketch.add(part)
            seen += column_labels or []
            read += len(part)
            _tell(progress, read, "sketch")
        codes, classes = _codes(given if given is not None else seen, read, source.name)
        del seen
        exact = NgramCounts(sketch, len(classes), min_count, memory // 2)
        done = 0
        for part, _ in _again(source, read):
            exact.add(part, codes[done : done + len(part)])
            done += len(part)
            _tell(progress, done, "counts")
        least = exact.least
        units, counts, fingerprints, ngrams = exact.finish()
    sizes = np.bincount(codes, minlength=len(classes))
    tested = _test(units, counts.astype(np.int64), fingerprints, sizes, level)
    frame = _frame(tested, units, counts, fingerprints, ngrams, classes, sizes, unit == "word")
    info = {
        "documents": read,
        "classes": classes,
        "unit": unit,
        "lengths": [shortest, longest],
        "min_count": least,
        "ngrams": len(ngrams),
        "document_sets": tested.sets,
        "tests": tested.sets * len(classes),
        "level": level,
        "null": NULL,
        "triggers": frame["trigger"].n_unique(),
    }
    return TriggerNgrams(frame, info)


def _lengths(unit: str, lengths: tuple[int, int] | None) -> tuple[int, int]:
    usual = {"word": (1, 3), "char": (3, 8), "byte": (4, 8)}
    if unit not in usual:
        raise InputError(f"unit={unit!r} is unknown; choose one of {', '.join(usual)}")
    if lengths is None:
        return usual[unit]
    try:
        shortest, longest = lengths
    except (TypeError, ValueError):
        shortest = longest = 0
    if not (
        isinstance(shortest, int) and isinstance(longest, int) and 0 < shortest <= longest <= 64
    ):
        raise InputError(f"lengths={lengths!r} must be the least and most units, 1 to 64")
    return shortest, longest


def _source(texts: Any, labels: Any, column: str | None) -> tuple[Documents, Any]:
    """Return the documents, and labels that are not in a column."""
    import polars as pl

    table = isinstance(texts, pl.DataFrame | pl.LazyFrame | str) or hasattr(texts, "suffix")
    if isinstance(texts, list | tuple) and texts and all(hasattr(t, "suffix") for t in texts):
        table = True
    if labels is None or isinstance(labels, str):
        if not table:
            raise InputError("labels: give one label a document, texts that are no table have none")
        name = "label" if labels is None else labels
        return documents(texts, column=column, label=name).twice(), None
    return documents(texts, column=column).twice(), labels


def _codes(labels: Any, read: int, name: str) -> tuple[NDArray[np.uint32], list[Any]]:
    codes, classes = label_codes(labels)
    if len(codes) != read:
        raise InputError(f"{name}: {len(codes)} labels of {read} documents")
    if read == 0:
        raise InputError(f"{name}: no documents")
    if len(classes) < 2:
        raise InputError(f"{name}: all labels are {classes[0]!r}; triggers need two classes")
    return codes, classes


def _again(source: Documents, read: int) -> Iterator[Part]:
    """Read the documents a second time, which must be as many.

    Raises:
        InputError: they are not.
    """
    done = 0
    for part, labels in source.batches():
        done += len(part)
        if done > read:
            break
        yield part, labels
    if done != read:
        raise InputError(
            f"{source.name}: {read} documents at first, and other ones when read again"
        )


def _tell(progress: Callable[[int, int, str], None] | None, done: int, note: str) -> None:
    if progress is not None:
        progress(done, 0, note)


@dataclass(frozen=True)
class _Tested:
    row: NDArray[np.int64]
    """N-grams found, and of which class [m]."""
    label: NDArray[np.int64]
    log_odds: NDArray[np.float64]
    z: NDArray[np.float64]
    p_value: NDArray[np.float64]
    q_value: NDArray[np.float64]
    spread: NDArray[np.float64]
    sets: int


def _alike(units: NDArray[np.uint32], documents: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of n-grams of one length and about one frequency.

    Rare words are closer to a topic than frequent ones, so each part has its own spread.
    """
    for length in np.unique(units):
        rows = np.flatnonzero(units == length)
        rows = rows[np.argsort(documents[rows], kind="stable")]
        yield from np.array_split(rows, min(_PARTS, max(1, len(rows) // _PART)))


def _test(
    units: NDArray[np.uint32],
    counts: NDArray[np.int64],
    fingerprints: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    level: float,
) -> _Tested:
    """Test every n-gram [m, classes] for every class."""
    _, first, inverse = np.unique(fingerprints, return_index=True, return_inverse=True)
    single, total = counts[first], counts[first].sum(1)
    p_values = np.ones(single.shape)
    odds, z, spreads = (np.zeros(single.shape) for _ in range(3))
    # Log-odds of words add up in longer n-grams, so theirs vary at least as much.
    least, length = np.zeros(single.shape[1]), 0
    for rows in _alike(units[first], total):
        if units[first[rows[0]]] > length:
            length = int(units[first[rows[0]]])
            least = spreads.max(0, initial=0.0)
        for c in range(single.shape[1]):
            mine, k = single[rows, c], total[rows]
            odds[rows, c], error = log_odds(mine, k, sizes[c], sizes.sum())
            spread = max(estimate_spread(odds[rows, c], error), least[c])
            deviations = odds[rows, c] / np.sqrt(spread**2 + error**2)
            far = deviations > _FAR
            share = sizes[c] / sizes.sum()
            p_values[rows[far], c] = tail(mine[far], k[far], share, spread)
            z[rows, c], spreads[rows, c] = deviations, spread
    q_values = benjamini_yekutieli(p_values.ravel()).reshape(p_values.shape)
    row, label = np.nonzero(q_values[inverse] <= level)
    at = inverse[row], label
    return _Tested(row, label, odds[at], z[at], p_values[at], q_values[at], spreads[at], len(first))


def log_odds(
    labelled: NDArray[np.int64], documents: NDArray[np.int64], size: int, total: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds ratio of a class's documents to hold the n-gram, and its standard error.

    The prior is one document with the n-gram and `(total - k) / k` without, distributed over the
    classes as all documents are (Monroe, Colaresi & Quinn, 2008, equations 15 to 20).
    """
    share = size / total
    k, mine = documents.astype(np.float64), labelled.astype(np.float64)
    without = (total - k) / np.maximum(k, 1)
    cells = (
        mine + share,
        size - mine + share * without,
        k - mine + (1 - share),
        (total - size) - (k - mine) + (1 - share) * without,
    )
    with_, without_, others, rest = (np.maximum(cell, 1e-9) for cell in cells)
    odds = np.log(with_) - np.log(without_) - np.log(others) + np.log(rest)
    return odds, np.sqrt(1 / with_ + 1 / without_ + 1 / others + 1 / rest)


def estimate_spread(odds: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Estimate how much the n-grams' own log-odds vary.

    The least s under which no quantile of `|odds| / sqrt(s^2 + error^2)` is above that of a normal
    value. Quantiles with fewer than 100 n-grams above are left out, but for the median: those may
    be triggers. 0, which says that labels do not depend on n-grams, where there are fewer than 20.
    """
    from scipy.special import ndtri

    if len(odds) < _BULK:
        return 0.0
    levels = np.array([q for q in _LEVELS if q == 0.5 or (1 - q) * len(odds) >= _ABOVE])
    most = ndtri(0.5 + levels / 2)
    # Quantiles of few values are uncertain; this is above the true one 19 times in 20.
    at = np.minimum(levels + 1.645 * np.sqrt(levels * (1 - levels) / len(odds)), 1.0)

    def fits(s: float) -> bool:
        z = np.abs(odds) / np.sqrt(s**2 + error**2)
        return bool((np.quantile(z, at, method="higher") <= most).all())

    low, high = 0.0, 1.0
    if fits(low):
        return 0.0
    while not fits(high):
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def tail(
    labelled: NDArray[np.int64], documents: NDArray[np.int64], share: float, spread: float
) -> NDArray[np.float64]:
    """P(at least `labelled` of `documents` have a label of this share), log-odds normal about it.

    The binomial tail, averaged over a normal of deviation `spread` by the trapezoid rule from -6
    to 38 deviations.
    """
    from scipy.special import bdtrc, expit, logit

    pairs, inverse = np.unique(np.stack([labelled, documents]), axis=1, return_inverse=True)
    found, trials = pairs
    if spread == 0:
        values = bdtrc(found - 1, trials, share)
    else:
        weight = np.exp(-0.5 * _NODES**2)
        weight /= weight.sum()
        chance = expit(logit(share) + spread * _NODES)
        values = np.array(
            [bdtrc(k - 1, n, chance) @ weight for k, n in zip(found, trials, strict=True)]
        )
    values = np.clip(values, 1e-300, 1.0)
    values[found <= 0] = 1.0
    p: NDArray[np.float64] = values[inverse.ravel()]
    return p


def benjamini_yekutieli(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values that control the false discovery rate under any dependence."""
    m = len(p_values)
    if m == 0:
        return p_values
    order = np.argsort(p_values)
    harmonic = float(np.log(m) + np.euler_gamma + 1 / (2 * m))
    adjusted = p_values[order] * (m * harmonic) / np.arange(1, m + 1)
    q = np.empty(m)
    q[order] = np.minimum(np.minimum.accumulate(adjusted[::-1])[::-1], 1.0)
    return q


def _frame(
    tested: _Tested,
    units: NDArray[np.uint32],
    counts: NDArray[np.uint32],
    fingerprints: NDArray[np.uint64],
    ngrams: list[bytes],
    classes: list[Any],
    sizes: NDArray[np.int64],
    words: bool,
) -> pl.DataFrame:
    import polars as pl

    names = [ngrams[row].decode("utf-8", "replace") for row in tested.row]
    # The longest n-gram of the same documents says most.
    lengths = units[tested.row].astype(np.int64)
    order = sorted(
        range(len(names)),
        key=lambda i: (tested.p_value[i], -tested.z[i], -lengths[i], names[i]),
    )
    trigger: dict[int, int] = {}
    heads: list[tuple[str, int, int]] = []
    known: dict[tuple[int, int], int] = {}
    for i in order:
        same = (int(fingerprints[tested.row[i]]), int(tested.label[i]))
        # Whole units only: "an" is not in "band".
        text = f" {' '.join(re.findall(_UNITS, names[i].lower()))} " if words else names[i].lower()
        number = known.get(same)
        if number is None:
            inside = (n for head, c, n in heads if c == tested.label[i] and head in text)
            number = next(inside, len({n for *_, n in heads}))
        known[same] = number
        heads.append((text, int(tested.label[i]), number))
        trigger[i] = number
    order.sort(key=lambda i: trigger[i])
    row, label = tested.row[order], tested.label[order]
    return pl.DataFrame(
        {
            "trigger": np.array([trigger[i] for i in order], dtype=np.int64),
            "ngram": pl.Series([names[i] for i in order], dtype=pl.String),
            "length": lengths[order],
            "label": pl.Series([classes[c] for c in label], dtype=pl.Series(classes).dtype),
            "documents": counts[row].sum(1, dtype=np.int64),
            "labelled": counts[row, label].astype(np.int64),
            "share": (sizes / sizes.sum())[label],
            "log_odds": tested.log_odds[order],
            "z": tested.z[order],
            "p_value": tested.p_value[order],
            "q_value": tested.q_value[order],
            "spread": tested.spread[order],
        }
    )
