"""What the other words of a document say of its label: topics agree with them, triggers do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ..._core import NgramCounts
    from .association import Tested
    from .documents import Part

_SAMPLE = 20_000
_BINS = 20
_UNLIKELY = 0.1
_PRIOR = 5.0
"""Documents by which the label shares of an n-gram are drawn to those of all documents."""


def content_evidence(
    parts: Iterator[Part],
    exact: NgramCounts,
    keys: NDArray[np.uint64],
    shares: NDArray[np.float64],
    words: NDArray[np.int64],
    codes: NDArray[np.uint32],
    held: NDArray[np.int64],
    tested: Tested,
    trigger: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What other words say of the labels of documents with an n-gram that was found.

    Naive Bayes on the n-grams `words`, without those of the same trigger, scores documents for each
    label; how often a score goes with the label is counted in 20 bins, on up to 20,000 documents
    spread over the set.

    Args:
        parts: the documents once more.
        exact: the counts, to look n-grams up.
        keys: hashes of all n-grams [m].
        shares: of each label among the documents of each n-gram [m, classes].
        words: rows of the n-grams that are features, ascending.
        codes: class of each document [n].
        held: pairs of a document and a row of what was found [k, 2].
        tested: what was found.
        trigger: number of the trigger of each row of `tested`.

    Returns:
        For each row of `tested`, how many of its documents other words would give the label, and
        how many have the label although other words make it less likely than 1 in 10.
    """
    n, classes = len(codes), shares.shape[1]
    wanted = np.zeros(n, dtype=bool)
    wanted[:: max(1, n // _SAMPLE)] = True
    sample = wanted.copy()
    wanted[held[:, 0]] = True
    base = np.bincount(codes, minlength=classes) / n
    weight = np.zeros((len(keys), classes))
    weight[words] = np.log(shares[words]) - np.log(base)
    chosen = np.flatnonzero(wanted)
    score = np.tile(np.log(base), (len(chosen), 1))
    done = 0
    for part, _ in parts:
        rows = np.flatnonzero(wanted[done : done + len(part)])
        if len(rows):
            which, found = exact.find([part[row] for row in rows], keys[words], done)
            into = np.searchsorted(chosen, rows[which] + done)
            np.add.at(score, into, weight[words][np.searchsorted(keys[words], found)])
        done += len(part)
    seen = sample[chosen]
    bins = [calibrate(against(score[seen], c), codes[chosen[seen]] == c) for c in range(classes)]
    expected = np.empty(len(tested.row))
    contradicted = np.empty(len(tested.row), dtype=np.int64)
    for number in np.unique(trigger):
        of_trigger = np.flatnonzero(trigger == number)
        own = held[np.isin(held[:, 1], tested.row[of_trigger])]
        # What is left when all that was found of this trigger is taken out.
        documents, at = np.unique(own[:, 0], return_inverse=True)
        rest = score[np.searchsorted(chosen, documents)]
        np.subtract.at(rest, at, weight[own[:, 1]])
        for i in of_trigger:
            row, label = tested.row[i], tested.label[i]
            mine = np.searchsorted(documents, held[held[:, 1] == row, 0])
            edges, share = bins[label]
            chance = share[np.searchsorted(edges, against(rest[mine], label))]
            has = codes[documents[mine]] == label
            expected[i], contradicted[i] = chance.sum(), (has & (chance < _UNLIKELY)).sum()
    return expected, contradicted


def against(score: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    """Log-odds of one class against all others, from log-probabilities [n, classes]."""
    others = np.logaddexp.reduce(np.delete(score, label, axis=1), axis=1)
    odds: NDArray[np.float64] = score[:, label] - others
    return odds


def label_shares(counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares of labels among the documents of n-grams [m, classes], drawn to those of all."""
    base = sizes / sizes.sum()
    shares: NDArray[np.float64] = (counts + _PRIOR * base) / (counts.sum(1, keepdims=True) + _PRIOR)
    return shares


def calibrate(
    odds: NDArray[np.float64], label: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return edges of up to 20 bins of scores, and how often documents in each have the label."""
    edges = np.unique(np.quantile(odds, np.arange(1, _BINS) / _BINS))
    within = np.searchsorted(edges, odds)
    size = np.bincount(within, minlength=len(edges) + 1)
    hits = np.bincount(within, label, minlength=len(edges) + 1)
    return edges, (hits + label.mean()) / (size + 1)
