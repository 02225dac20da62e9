"""Near-duplicates against exact Jaccard similarities, for any shards, memory and source."""

import itertools
import re

import numpy as np
import polars as pl
import pytest

from aisec_eval.detectors.text import (
    documents,
    jaccard,
    merge_shards,
    near_duplicates,
    write_shard,
)
from aisec_eval.errors import DatasetError, InputError


def shingles(text, width=3):
    """By the rule for words, on texts of ASCII."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    width = min(width, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


def exact(one, two):
    a, b = shingles(one), shingles(two)
    return len(a & b) / len(a | b) if a and b else 0.0


def variants(seed, count=60):
    """Texts, each with some words of the one before replaced."""
    random = np.random.default_rng(seed)
    words = [f"w{i}" for i in random.integers(0, 3000, 80)]
    texts = []
    for _ in range(count):
        for _ in range(random.integers(0, 30)):
            words[random.integers(0, 80)] = f"w{random.integers(0, 3000)}"
        texts.append(" ".join(words))
    return texts


def test_jaccard_is_exact():
    texts = [*variants(0, 12), "", "one", "One!", "one two"]
    for one in texts:
        for two in texts:
            assert jaccard(one, two) == exact(one, two)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_links_come_with_the_probability_of_the_bands(threshold):
    """Over independent pairs of similarity s, the share that is linked."""
    random = np.random.default_rng(1)
    for shared, own in [(6, 14), (20, 10), (30, 4)]:
        texts = []
        for pair in range(400):
            mine = [[f"p{pair}o{side}x{i}" for i in range(own)] for side in range(2)]
            both = [f"p{pair}s{i}" for i in range(shared)]
            texts += [" ".join(random.permutation(both + m)) for m in mine]
        found = near_duplicates(texts, threshold=threshold, width=1, permutations=64, seed=5)
        s = shared / (shared + 2 * own)
        expected = 1 - (1 - s ** found.info["rows"]) ** found.info["bands"]
        linked = (found.cluster[1::2] == found.cluster[::2]).mean()
        assert abs(linked - expected) <= 4 * np.sqrt(expected * (1 - expected) / 400) + 1e-9


def test_clusters_are_components_of_similar_texts():
    texts = [text for seed in range(8) for text in variants(seed, 20)] * 2
    found = near_duplicates(texts, threshold=0.8, permutations=256)
    assert (found.cluster[160:] == found.cluster[:160]).all(), "copies are together"
    for i, text in enumerate(texts[:160]):
        for j in range(i):
            s = exact(text, texts[j])
            if s > 0.95:
                assert found.cluster[i] == found.cluster[j]
            if s == 0 and i // 20 != j // 20:
                assert found.cluster[i] != found.cluster[j]
    assert (found.cluster <= np.arange(320)).all()
    assert (found.cluster[found.cluster] == found.cluster).all()
    assert not found.duplicate[found.kept].any()
    assert len(found.kept) == len(set(found.cluster))
    assert found.frame.filter(pl.col("document") == pl.col("cluster")).height == len(found.kept)
    assert found.frame["size"].min() >= 2


def test_short_texts():
    texts = ["", "a b", "a  B!", "a b c", "...", "b a", "a", "A"]
    found = near_duplicates(texts, width=3)
    assert found.cluster.tolist() == [0, 1, 1, 3, 4, 5, 6, 6]
    assert found.short.tolist() == [True, True, True, False, True, True, True, True]
    assert found.units.tolist() == [0, 2, 2, 3, 0, 2, 1, 1]
    nothing = near_duplicates([])
    assert len(nothing.cluster) == 0
    assert nothing.frame.height == 0


def test_units():
    assert near_duplicates(["Stra\u00dfe 東京都に行く", "stra\u00dfe 東京都に行く"]).duplicate[1]
    chars = near_duplicates(["ab cd ef gh ij", "AB  cd\nef gh ij"], unit="char")
    assert chars.duplicate.tolist() == [False, True]
    same = near_duplicates([b"\xff\xfe" * 20, b"\xff\xfe" * 20, b"\xff\xfd" * 20], unit="byte")
    assert same.cluster.tolist() == [0, 0, 2]


@pytest.mark.parametrize("backwards", [False, True])
def test_shards_give_the_same_clusters(tmp_path, backwards):
    texts = [text for seed in range(6) for text in variants(seed, 50)]
    whole = near_duplicates(texts)
    assert 20 < whole.duplicate.sum() < 290
    ends = [0, 1, 7, 7, 130, 300]
    paths = [
        write_shard(texts[a:b], tmp_path / f"{a}-{i}.shard", first=a)
        for i, (a, b) in enumerate(itertools.pairwise(ends))
    ]
    merged = merge_shards(reversed(paths) if backwards else paths)
    assert (merged.cluster == whole.cluster).all()
    assert (merged.units == whole.units).all()
    assert merged.info == whole.info


def test_memory_and_batches_do_not_matter(tmp_path):
    random = np.random.default_rng(0)
    texts = [f"{a} {b} {c} x y" for a, b, c in random.integers(0, 30, (25_000, 3))]
    plenty = near_duplicates(texts)
    little = near_duplicates(iter(texts), memory_limit=4 << 20, folder=tmp_path)
    assert plenty.info["bytes_on_disk"] == 0
    assert little.info["bytes_on_disk"] > 10**6
    assert (plenty.cluster == little.cluster).all()
    assert list(tmp_path.iterdir()) == []


def test_sources(tmp_path):
    texts = ["the quick brown fox", "über alles ist es", "the quick brown fox", "a\\nb"]
    frame = pl.DataFrame({"n": range(4), "text": texts})
    frame.write_parquet(tmp_path / "x.parquet")
    frame.write_ndjson(tmp_path / "x.jsonl")
    (tmp_path / "x.txt").write_text("\r\n".join(texts[:2]) + "\n" + "\n".join(texts[2:]))
    frame[:1].write_parquet(tmp_path / "a.parquet")
    frame[1:].write_parquet(tmp_path / "b.parquet")
    expected = near_duplicates(texts).cluster.tolist()
    assert expected == [0, 1, 0, 3]
    for source in (
        tuple(texts), iter(texts), lambda: iter(texts), np.array(texts), frame, frame.lazy(),
        frame["text"], tmp_path / "x.parquet", str(tmp_path / "x.jsonl"), tmp_path / "x.txt",
        [tmp_path / "a.parquet", tmp_path / "b.parquet"], documents(texts),
        [text.encode() for text in texts],
    ):  # fmt: skip
        assert near_duplicates(source).cluster.tolist() == expected
    renamed = frame.rename({"text": "body"}).with_columns(title=pl.lit("t"))
    assert near_duplicates(renamed, column="body").cluster.tolist() == expected


def one_line(error):
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("texts", "options", "match"),
    [
        (["a", 3], {}, "document 1: expected str or bytes, got int"),
        (["a", "\ud800"], {}, "document 1: .*surrogate"),
        ([b"a", b"\xff"], {}, "document 1: not valid UTF-8"),
        ("hello", {}, "not a path"),
        (b"hello", {}, "expected documents"),
        (7, {}, "expected documents"),
        (["a"], {"threshold": 0.0}, "threshold"),
        (["a"], {"threshold": float("nan")}, "threshold"),
        (["a"], {"unit": "line"}, "unit"),
        (["a"], {"width": 0}, "width"),
        (["a"], {"permutations": 5000}, "permutations"),
        (["a"], {"seed": -1}, "seed"),
        (["a"], {"memory_limit": 1000}, "memory_limit"),
        (["a"], {"false_positive_weight": 1.0}, "false_positive_weight"),
        (pl.DataFrame({"text": ["a", None]}), {}, "null in row 1"),
        (pl.DataFrame({"a": ["a"], "b": ["b"]}), {}, "name one"),
        (pl.DataFrame({"a": [1]}), {"column": "a"}, "none of its text columns"),
    ],
)
def test_what_does_not_fit_is_one_line(texts, options, match):
    with pytest.raises(InputError, match=match) as error:
        near_duplicates(texts, **options)
    one_line(error)


def test_missing_and_damaged_files(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    for source in (tmp_path / "none.txt", tmp_path / "bad.parquet", tmp_path / "bad.jsonl"):
        with pytest.raises(DatasetError) as error:
            near_duplicates(source)
        assert str(source) in one_line(error)
    with pytest.raises(DatasetError) as error:
        near_duplicates(["a"], folder=tmp_path / "none")
    assert "temporary file" in one_line(error)


def test_shards_are_whole_or_absent(tmp_path):
    path = tmp_path / "a.shard"
    with pytest.raises(InputError, match="document 5001: expected str"):
        write_shard(["a"] * 5000 + [None], path, first=1)
    assert list(tmp_path.iterdir()) == []
    write_shard(["a b c d", "e"], path, first=0)
    written = path.read_bytes()
    assert write_shard(["anything: it is there"], path, first=0).read_bytes() == written
    with pytest.raises(InputError, match="other options"):
        write_shard(["a b c d", "e"], path, first=0, threshold=0.5)
    path.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    with pytest.raises(DatasetError, match="damaged"):
        merge_shards([path])
    path.write_bytes(written[:-1])
    with pytest.raises(DatasetError, match="damaged"):
        merge_shards([path])
    path.write_bytes(b"PK" + written)
    with pytest.raises(DatasetError, match="not a shard"):
        merge_shards([path])


def test_shards_must_fit_together(tmp_path):
    one = write_shard(["a b c"], tmp_path / "1", first=0)
    three = write_shard(["a b c"], tmp_path / "3", first=2)
    over = write_shard(["a b c", "d"], tmp_path / "o", first=0)
    other = write_shard(["a b c"], tmp_path / "2", first=1, seed=1)
    for paths, match in [
        ([one, three], "documents 1 to 1 are in no shard"),
        ([one, over], "documents 0 to 0 are in an earlier"),
        ([one, other], "other options"),
        ([], "no shards"),
    ]:
        with pytest.raises(InputError, match=match) as error:
            merge_shards(paths)
        one_line(error)
