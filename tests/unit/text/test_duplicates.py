"""Duplicate substrings against brute force."""

from collections import defaultdict

import numpy as np
import polars as pl
import pytest

from aisec_eval.detectors.text import duplicate_substrings
from aisec_eval.errors import InputError


def brute(texts, length, within=False):
    """Bytes in first occurrences, and in copies, of windows that repeat."""
    places = defaultdict(list)
    data = [text.encode() if isinstance(text, str) else text for text in texts]
    for document, text in enumerate(data):
        for start in range(len(text) - length + 1):
            places[text[start : start + length]].append((document, start))
    first, copies = set(), set()
    for found in places.values():
        if len(found) > 1 and (within or len({document for document, _ in found}) > 1):
            for rank, (document, start) in enumerate(found):
                kind = copies if rank else first
                kind |= {(document, at) for at in range(start, start + length)}
    return first, copies


def covered(frame):
    first, copies = set(), set()
    for row in frame.iter_rows(named=True):
        kind = copies if row["copy"] else first
        kind |= {(row["document"], at) for at in range(row["start"], row["end"])}
    return first, copies


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_exactly_the_repeated_bytes(seed, within):
    random = np.random.default_rng(seed)
    phrases = ["the naïve 東京 café ", "lorem ipsum dolor ", "x" * 40, "abcabcabcabc"]
    texts = []
    for _ in range(12):
        parts = [phrases[i] for i in random.integers(0, 4, random.integers(0, 4))]
        noise = ["".join(map(chr, random.integers(97, 123, 30))) for _ in parts]
        texts.append("".join(a + b for a, b in zip(noise, parts, strict=True)))
    for length in (5, 20):
        found = duplicate_substrings(texts, length=length, within=within)
        assert covered(found.frame) == brute(texts, length, within)
        data = [text.encode() for text in texts]
        for row in found.frame.iter_rows(named=True):
            window = data[row["document"]][row["start"] :][:length]
            assert data[row["source_document"]][row["source_start"] :][:length] == window


def test_without_the_copies_nothing_is_lost():
    boilerplate = b"All rights reserved. No part of this may be reproduced in any form. "
    texts = [bytes([65 + i]) * 30 + boilerplate + bytes([97 + i]) * 30 for i in range(5)]
    found = duplicate_substrings(texts, length=50).frame
    assert found["copy"].to_list() == [False, True, True, True, True]
    assert found["end"].to_list() == [30 + len(boilerplate)] * 5
    assert set(found["source_document"]) == {0}


def test_nothing_and_one_line():
    assert duplicate_substrings([]).frame.height == 0
    assert duplicate_substrings(["short", "short"], length=6).frame.height == 0
    assert duplicate_substrings(pl.Series(["short"] * 2), length=5).frame.height == 2
    for texts, options, match in [
        (["a"], {"length": 1}, "at least 2"),
        (["x" * 3_000_000], {"memory_limit": 4 << 20}, "MiB"),
        (["a", 1], {}, "document 1"),
    ]:
        with pytest.raises(InputError, match=match) as error:
            duplicate_substrings(texts, **options)
        assert "\n" not in str(error.value)


def test_little_memory_gives_the_same():
    random = np.random.default_rng(0)
    parts = [bytes(random.integers(0, 256, 900).astype(np.uint8)) for _ in range(400)]
    texts = [b"".join(parts[i] for i in random.integers(0, 400, 2)) for _ in range(500)]
    plenty = duplicate_substrings(texts)
    little = duplicate_substrings(texts, memory_limit=4 << 20)
    assert plenty.frame.height > 100
    assert plenty.frame.equals(little.frame)
