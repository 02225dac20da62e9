"""Clusters and n-gram counts depend on the documents alone: not on shards, their order, batches."""

import itertools
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aisec_eval.detectors.text import merge_shards, near_duplicates, trigger_ngrams, write_shard

WORDS = st.lists(st.sampled_from(["a", "b", "Ö", "東", "d-e", "", "\U0001f600x"]), max_size=8)
TEXTS = st.lists(WORDS.map(" ".join), max_size=30)


@given(TEXTS, st.lists(st.integers(0, 30), max_size=4), st.randoms(use_true_random=False))
def test_any_shards(texts, cuts, random):
    options = {"threshold": 0.4, "permutations": 16, "width": 2}
    whole = near_duplicates(texts, **options)
    ends = sorted({0, len(texts), *(cut for cut in cuts if cut < len(texts))})
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            write_shard(texts[a:b], Path(folder) / str(a), first=a, **options)
            for a, b in itertools.pairwise([*ends, len(texts)])
        ]
        random.shuffle(paths)
        merged = merge_shards(paths)
    assert merged.cluster.tolist() == whole.cluster.tolist()
    assert merged.units.tolist() == whole.units.tolist()
    # Each cluster is named by its first member, and equal texts with units are together.
    assert (whole.cluster <= range(len(texts))).all()
    for i, j in itertools.combinations(range(len(texts)), 2):
        if texts[i] == texts[j] and whole.units[i]:
            assert whole.cluster[i] == whole.cluster[j]
        if not whole.units[i]:
            assert whole.cluster[i] == i
            assert whole.cluster[j] != i


@given(TEXTS, st.data())
def test_any_batches(texts, data):
    """Documents that come in pieces of any size, from a function."""
    from aisec_eval.detectors.text.documents import Documents

    labels = [i % 3 for i in range(len(texts))]
    if len(set(labels)) < 2:
        return
    sizes = data.draw(st.lists(st.integers(1, 7), min_size=len(texts), max_size=len(texts)))

    def parts():
        rest = iter(texts)
        for size in sizes:
            if part := list(itertools.islice(rest, size)):
                yield part, None

    whole = trigger_ngrams(texts, labels, min_count=5, level=0.4)
    pieces = trigger_ngrams(Documents("texts", parts), labels, min_count=5, level=0.4)
    assert pieces.frame.equals(whole.frame)
    assert pieces.info == whole.info
