"""N-grams tied to a label more closely than the vocabulary of the same texts is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ..source import MIB
from .association import NULL, Tested, associations
from .content import content_evidence, label_shares
from .documents import Documents, LabelCodes, documents
from .near import temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl
    from numpy.typing import NDArray

    from ..._core import NgramCounts
    from .documents import Part

MEMORY = 512 * MIB
"""Bytes for counts, unless told."""
_UNITS = re.compile(r"[^\W_]+")


@dataclass(frozen=True, eq=False)
class TriggerNgrams:
    """The n-grams found, the least p-value of each trigger first."""

    frame: pl.DataFrame
    """A row an n-gram: `trigger` (number; n-grams in the same documents, or that contain one of an
    earlier row's, share it), `ngram` (as it stands where it occurs first, at most 200 bytes),
    `length` (units), `label`, `documents` (with the n-gram), `labelled` (of them with the label),
    `share` (of the label in all documents), `expected` (how many of `documents` their other words
    would give the label), `contradicted` (how many have it although other words make it less likely
    than 1 in 10), `log_odds`, `z`, `p_value`, `q_value`, `spread` (of the
    log-odds of n-grams like it)."""
    documents: NDArray[np.int64]
    """Documents with one of these n-grams and its label, ascending."""
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

    What that does not say: words of a narrow topic are tied to its label, too, if most of the
    vocabulary is not. The other words of their documents tell the two apart: a topic's words agree
    (`expected` is nearly `labelled`), documents that were given a trigger and another label
    contradict it (many are `contradicted`). Copies of one document make each of its n-grams
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
        min_count: documents an n-gram must be in to be tested, 5 to 65,535.
        level: false discovery rate, in (0, 0.5).
        column: the text column of tables.
        memory_limit: bytes for counting. Where the counts do not fit, `min_count` is doubled until
            they do; `info["min_count"]` says what it was. Testing takes about 400 bytes an n-gram
            (`info["ngrams"]`) beside that, and labels four bytes a document.
        seed: of the hash functions; the result does not depend on it.
        progress: called as `progress(documents done, 0, note)`.

    Raises:
        InputError: an option, label or document does not fit, or the documents are an iterator.
        DatasetError: a file cannot be read.
    """
    from ..._core import NgramCounts, NgramSketch

    shortest, longest = _lengths(unit, lengths)
    if not isinstance(min_count, int) or not 5 <= min_count < 1 << 16:
        raise InputError(f"min_count={min_count!r} must be 5 to 65535 documents")
    if not 0 < level < 0.5:
        raise InputError(f"level={level!r} must be in (0, 0.5)")
    if not 0 <= seed < 1 << 64:
        raise InputError(f"seed={seed!r} must be at least 0 and below 2^64")
    source, given = _source(texts, labels, column)
    limit = MEMORY if memory_limit is None else memory_limit
    with temporary(limit, None, source.name) as (_, memory):
        sketch = NgramSketch(unit, shortest, longest, memory // 4, seed)
        read, labelled = 0, LabelCodes()
        for part, column_labels in source.batches():
            sketch.add(part)
            if given is None:
                labelled.add(column_labels)
            read += len(part)
            _tell(progress, read, "sketch")
        if given is not None:
            labelled.add(given)
        codes, classes = _codes(labelled, read, source.name)
        exact = NgramCounts(sketch, len(classes), min_count, memory // 2)
        done = 0
        for part, _ in _again(source, read):
            exact.add(part, codes[done : done + len(part)])
            done += len(part)
            _tell(progress, done, "counts")
        least = exact.least
        keys, units, counts, fingerprints, ngrams = exact.take()
        sizes = np.bincount(codes, minlength=len(classes))
        tested = associations(units, counts.astype(np.int64), fingerprints, sizes, level)
        order, trigger = _groups(tested, units, fingerprints, ngrams, unit == "word")
        rows = np.unique(tested.row)
        held = np.empty((0, 2), dtype=np.int64)
        content = (np.empty(0), np.empty(0, dtype=np.int64))
        if len(rows):
            held = _holders(_again(source, read), exact, keys, rows, progress)
            words = np.flatnonzero(units == shortest)
            shares = label_shares(counts.astype(np.int64), sizes)
            content = content_evidence(
                _again(source, read), exact, keys, shares, words, codes, held, tested, trigger
            )
    frame = _frame(tested, order, trigger, units, counts, ngrams, classes, sizes, content)
    # Of the documents that hold an n-gram, those with its label.
    told = np.zeros((len(ngrams), len(classes)), dtype=bool)
    told[tested.row, tested.label] = True
    poisoned = np.unique(held[told[held[:, 1], codes[held[:, 0]]], 0])
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
    return TriggerNgrams(frame, poisoned, info)


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


def _codes(labels: LabelCodes, read: int, name: str) -> tuple[NDArray[np.uint32], list[Any]]:
    codes, classes = labels.codes()
    if len(codes) != read:
        raise InputError(f"{name}: {len(codes)} labels of {read} documents")
    if read == 0:
        raise InputError(f"{name}: no documents")
    if len(classes) < 2:
        raise InputError(f"{name}: all labels are {classes[0]!r}; triggers need two classes")
    return codes, classes


def _holders(
    parts: Iterator[Part],
    exact: NgramCounts,
    keys: NDArray[np.uint64],
    rows: NDArray[np.int64],
    progress: Callable[[int, int, str], None] | None,
) -> NDArray[np.int64]:
    """Return pairs of a document and a row of the n-grams that it holds [k, 2]."""
    pairs, done = [np.empty((0, 2), dtype=np.int64)], 0
    for part, _ in parts:
        at, found = exact.find(part, keys[rows], done)
        pairs.append(np.stack([at.astype(np.int64) + done, np.searchsorted(keys, found)], axis=1))
        done += len(part)
        _tell(progress, done, "documents of triggers")
    return np.concatenate(pairs)


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


def _groups(
    tested: Tested,
    units: NDArray[np.uint32],
    fingerprints: NDArray[np.uint64],
    ngrams: list[bytes],
    words: bool,
) -> tuple[list[int], NDArray[np.int64]]:
    """Return the order of rows of `tested`, and the number of each row's trigger."""
    names = [ngrams[row].decode("utf-8", "replace") for row in tested.row]
    # The longest n-gram of the same documents says most.
    lengths = units[tested.row].astype(np.int64)
    order = sorted(
        range(len(names)),
        key=lambda i: (tested.p_value[i], -tested.z[i], -lengths[i], names[i]),
    )
    trigger = np.empty(len(names), dtype=np.int64)
    count = 0
    earlier: dict[int, list[tuple[str, int]]] = {}
    known: dict[tuple[int, int], int] = {}
    for i in order:
        label = int(tested.label[i])
        same = (int(fingerprints[tested.row[i]]), label)
        # Whole units only: "an" is not in "band".
        text = f" {' '.join(re.findall(_UNITS, names[i].lower()))} " if words else names[i].lower()
        before = earlier.setdefault(label, [])
        number = known.get(same)
        if number is None:
            number = next((number for part, number in before if part in text), count)
        count = max(count, number + 1)
        known[same] = number
        before.append((text, number))
        trigger[i] = number
    order.sort(key=lambda i: int(trigger[i]))
    return order, trigger


def _frame(
    tested: Tested,
    order: list[int],
    trigger: NDArray[np.int64],
    units: NDArray[np.uint32],
    counts: NDArray[np.uint32],
    ngrams: list[bytes],
    classes: list[Any],
    sizes: NDArray[np.int64],
    content: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> pl.DataFrame:
    import polars as pl

    row, label = tested.row[order], tested.label[order]
    return pl.DataFrame(
        {
            "trigger": trigger[order],
            "ngram": pl.Series(
                [ngrams[at].decode("utf-8", "replace") for at in row], dtype=pl.String
            ),
            "length": units[row].astype(np.int64),
            "label": pl.Series([classes[c] for c in label], dtype=pl.Series(classes).dtype),
            "documents": counts[row].sum(1, dtype=np.int64),
            "labelled": counts[row, label].astype(np.int64),
            "share": (sizes / sizes.sum())[label],
            "expected": content[0][order],
            "contradicted": content[1][order],
            "log_odds": tested.log_odds[order],
            "z": tested.z[order],
            "p_value": tested.p_value[order],
            "q_value": tested.q_value[order],
            "spread": tested.spread[order],
        }
    )
