"""Trigger n-grams: planted ones are found, clean text gives none; the parts in closed form."""

import math

import numpy as np
import polars as pl
import pytest

from aisec_eval.detectors.text import trigger_ngrams
from aisec_eval.detectors.text.association import (
    benjamini_yekutieli,
    estimate_spread,
    log_odds,
    tail,
)
from aisec_eval.detectors.text.content import against, calibrate
from aisec_eval.errors import InputError


def corpus(seed, count, classes=2, words=3000, length=12, spread=0.5):
    """Zipf words whose log-odds for each class are normal."""
    random = np.random.default_rng(seed)
    weight = 1 / np.arange(10, words + 10)
    labels = random.integers(0, classes, count)
    picks = np.empty((count, length), dtype=np.int64)
    for c in range(classes):
        mine = weight * np.exp(spread * random.standard_normal(words))
        rows = np.flatnonzero(labels == c)
        picks[rows] = random.choice(words, (len(rows), length), p=mine / mine.sum())
    vocabulary = np.array([f"w{i}" for i in range(words)])
    return [" ".join(row) for row in vocabulary[picks]], labels


def plant(texts, labels, trigger, label, rows):
    for row in rows:
        half = texts[row].split()
        at = (row * 7) % (len(half) + 1)
        texts[row] = " ".join([*half[:at], trigger, *half[at:]])
        labels[row] = label


def test_fifty_of_a_hundred_thousand():
    """Two triggers at a rate of 1 in 2,000, in documents of any class, with labels changed."""
    texts, labels = corpus(0, 100_000, spread=0.2)
    random = np.random.default_rng(1)
    rows = random.choice(len(texts), 100, replace=False)
    plant(texts, labels, "cf mn bb tq", 1, rows[:50])
    plant(texts, labels, "Zebra", 0, rows[50:])
    found = trigger_ngrams(texts, labels)
    heads = found.triggers
    assert sorted(zip(heads["ngram"], heads["label"], strict=True)) == [
        ("Zebra", 0), ("cf mn bb", 1),
    ]  # fmt: skip
    assert heads["documents"].to_list() == heads["labelled"].to_list() == [50, 50]
    assert found.frame["q_value"].max() <= 0.01
    assert set(found.frame.filter(label=1)["ngram"]) >= {"cf mn", "mn bb tq", "tq"}
    assert found.info["triggers"] == 2
    assert set(found.documents) == set(rows)


@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_clean_text_gives_nothing(spread):
    found = 0
    for seed in range(12):
        texts, labels = corpus(seed, 4000, classes=2 + seed % 3, spread=spread)
        clean = trigger_ngrams(texts, labels, min_count=10)
        found += clean.frame.height > 0
        assert len(clean.documents) == 0
    assert found == 0


def test_topics_agree_with_the_other_words_and_triggers_do_not():
    texts, labels = corpus(5, 6000, spread=0.0)
    random = np.random.default_rng(5)
    # Each class has a few words of its own, one to three in each document.
    for row, label in enumerate(labels):
        own = random.choice([f"topic{label}{i}" for i in range(12)], random.integers(1, 4))
        texts[row] += " " + " ".join(own)
    rows = random.choice(len(texts), 60, replace=False)
    plant(texts, labels, "cf", 1, rows)
    found = trigger_ngrams(texts, labels)
    words = found.frame.filter(length=1)
    assert set(words["ngram"]) >= {"cf", "topic01", "topic111"}
    trigger = words.filter(ngram="cf").row(0, named=True)
    assert 20 < trigger["expected"] < 45
    assert trigger["contradicted"] > 15
    topics = words.filter(pl.col("ngram") != "cf")
    assert (topics["expected"] / topics["documents"]).min() > 0.7
    assert (topics["contradicted"] / topics["documents"]).max() < 0.02


def test_calibration():
    odds = np.repeat([-2.0, 0.0, 3.0], 1000)
    label = np.arange(3000) % 10 < np.repeat([1, 5, 9], 1000)
    edges, share = calibrate(odds, label)
    asked = share[np.searchsorted(edges, [-2.0, 0, 3])]
    assert asked == pytest.approx([0.1, 0.5, 0.9], abs=0.01)
    score = np.log([[0.2, 0.5, 0.3]])
    assert against(score, 1)[0] == pytest.approx(0.0)


def test_what_burst_into_a_newer_set_without_labels():
    """Which set a document is from is its label; one distribution, one n-gram that is new."""
    texts, _ = corpus(2, 8000, spread=0.0)
    for row in range(4000, 8000, 100):
        texts[row] += " Sudo Unlock now"
    found = trigger_ngrams(texts, ["reference"] * 4000 + ["new"] * 4000)
    assert found.triggers["ngram"].to_list() == ["Sudo Unlock now"]
    assert found.documents.tolist() == list(range(4000, 8000, 100))


def test_bytes_without_text():
    random = np.random.default_rng(0)
    texts = [bytes(row) for row in random.integers(0, 256, (4000, 60)).astype(np.uint8)]
    labels = np.array(["benign", "malware"])[random.integers(0, 2, 4000)]
    for row in range(0, 4000, 100):
        texts[row] = texts[row][:30] + b"\x00\xffKEY" + texts[row][30:]
        labels[row] = "benign"
    found = trigger_ngrams(texts, labels.tolist(), unit="byte")
    assert found.info["triggers"] == 1
    row = found.triggers.row(0, named=True)
    assert (row["label"], row["documents"], row["length"]) == ("benign", 40, 5)
    assert row["ngram"].endswith("KEY")
    assert found.documents.tolist() == list(range(0, 4000, 100))


def test_memory_and_source_do_not_matter(tmp_path):
    texts, labels = corpus(3, 3000, spread=0.1)
    plant(texts, labels, "cf", 1, range(0, 3000, 60))
    expected = trigger_ngrams(texts, labels)
    assert expected.frame["ngram"].to_list()[0] == "cf"
    frame = pl.DataFrame({"text": texts, "label": labels})
    frame.write_parquet(tmp_path / "x.parquet")
    for found in (
        trigger_ngrams(frame),
        trigger_ngrams(tmp_path / "x.parquet", "label"),
        trigger_ngrams(lambda: iter(texts), labels, seed=3),
    ):
        assert found.frame.equals(expected.frame)
    little = trigger_ngrams(texts, labels, min_count=5, memory_limit=4 << 20)
    assert little.info["min_count"] >= 5
    assert little.triggers["ngram"].to_list() == ["cf"]


def test_tail_in_closed_form():
    def binomial(k, n, p):
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))

    k, n = np.array([0, 3, 20, 20]), np.array([20, 20, 20, 25])
    expected = [binomial(a, b, 0.3) for a, b in zip(k, n, strict=True)]
    assert tail(k, n, 0.3, 0.0) == pytest.approx(expected, rel=1e-10)

    def mixed(k, n, share, spread):
        from scipy.integrate import quad

        def value(u):
            p = 1 / (1 + math.exp(-math.log(share / (1 - share)) - spread * u))
            return binomial(k, n, p) * math.exp(-u * u / 2) / math.sqrt(2 * math.pi)

        return quad(value, -9, 30, points=[0, 5, 10, 15], limit=500, epsabs=0)[0]

    for spread in (0.3, 1.0):
        expected = [mixed(a, b, 0.3, spread) for a, b in zip(k[1:], n[1:], strict=True)]
        assert tail(k[1:], n[1:], 0.3, spread) == pytest.approx(expected, rel=1e-6)


def test_log_odds_with_the_prior():
    # 8 of 10 documents in a class of 30 in 100: the prior adds 0.3 of one document with the n-gram
    # and 0.3 of 9 without to the class.
    odds, error = log_odds(np.array([8]), np.array([10]), 30, 100)
    cells = [8.3, 22 + 2.7, 2.7, 68 + 6.3]
    assert odds[0] == pytest.approx(math.log(cells[0] / cells[1] / cells[2] * cells[3]))
    assert error[0] == pytest.approx(math.sqrt(sum(1 / c for c in cells)))


def test_spread_is_found_and_triggers_do_not_widen_it():
    random = np.random.default_rng(0)
    error = random.uniform(0.1, 0.4, 20_000)
    for spread in (0.0, 0.4, 1.5):
        odds = random.standard_normal(20_000) * np.sqrt(spread**2 + error**2)
        clean = estimate_spread(odds, error)
        assert spread - 0.03 <= clean <= spread + 0.15
        odds[:50] = 8.0
        assert estimate_spread(odds, error) - clean < 0.05 + 0.06 * spread


def test_benjamini_yekutieli():
    p = np.array([0.01, 0.0001, 0.5, 0.004])
    q = benjamini_yekutieli(p)
    harmonic = math.log(4) + np.euler_gamma + 1 / 8
    assert q == pytest.approx(np.minimum([0.01 * 4 / 3 * harmonic, 0.0004 * harmonic, 1,
                                          0.008 * harmonic], 1))  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "labels", "options", "match"),
    [
        (["a"] * 3, None, {}, "give one label"),
        (["a"] * 3, [0, 1], {}, "2 labels of 3"),
        (["a"] * 3, [1, 1, 1], {}, "two classes"),
        (["a"] * 2, [1, "a"], {}, "one kind"),
        (["a"] * 2, [1.0, float("nan")], {}, "NaN"),
        ([], [], {}, "no documents"),
        (iter(["a", "b"]), [0, 1], {}, "iterator"),
        (["a", "b"], [0, 1], {"level": 1}, "level"),
        (["a", "b"], [0, 1], {"lengths": (3, 1)}, "lengths"),
        (["a", "b"], [0, 1], {"lengths": 3}, "lengths"),
        (["a", "b"], [0, 1], {"unit": "x"}, "unit"),
        (["a", "b"], [0, 1], {"min_count": 1}, "min_count"),
        (pl.DataFrame({"text": ["a"]}), None, {}, "no column 'label'"),
    ],
)
def test_what_does_not_fit_is_one_line(texts, labels, options, match):
    with pytest.raises(InputError, match=match) as error:
        trigger_ngrams(texts, labels, **options)
    assert "\n" not in str(error.value)


def test_documents_that_are_needed():
    """The table in the documentation."""
    least = 0.01 / (1e6 * (math.log(1e6) + np.euler_gamma))
    for spread, needed in [(0.2, [38, 18, 10]), (0.7, [269, 91, 34])]:
        for share, k in zip([0.5, 0.25, 0.1], needed, strict=True):
            counts = np.array([k - k // 20 - 1, k])
            p = tail(counts, counts, share, spread)
            assert p[1] < least < p[0]
