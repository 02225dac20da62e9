"""The counter-based random numbers, against a second implementation of the published algorithm."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import kstest

from aisec_eval import _core

MASK = 0xFFFF_FFFF


def philox(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & MASK, (a >> 32) ^ c[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def words(seed: int, attack: str, restart: int, step: int, sample: int, count: int) -> list[int]:
    state = [seed & MASK, seed >> 32, 0x61697365, 0x635F6576]
    name = attack.encode()
    chunks = [name[i : i + 8].ljust(8, b"\0") for i in range(0, len(name), 8)]
    for word in [*(int.from_bytes(c, "little") for c in chunks), restart << 32 | len(name)]:
        mixed = philox(state, [word & MASK, word >> 32])
        state = [s ^ m for s, m in zip(state, mixed, strict=True)]
    key = [state[0] ^ state[2], state[1] ^ state[3]]
    sample &= 2**64 - 1
    drawn: list[int] = []
    for block in range(-(-count // 4)):
        drawn += philox([sample & MASK, sample >> 32, step, block], key)
    return drawn[:count]


@pytest.mark.parametrize(
    ("seed", "attack", "restart", "step"),
    [(0, "", 0, 0), (2**64 - 1, "a name longer than eight bytes", 2**32 - 1, 9), (7, "apgd", 1, 2)],
)
def test_matches_the_published_algorithm(seed: int, attack: str, restart: int, step: int) -> None:
    samples = np.array([0, 1, -1, 2**62], dtype=np.int64)
    signed = _core.random_signed(seed, attack, restart, step, samples, 11)
    normal = _core.random_normal(seed, attack, restart, step, samples, 11)
    assert signed.shape == normal.shape == (4, 11)
    for row, sample in enumerate(samples.tolist()):
        drawn = np.array(words(seed, attack, restart, step, sample, 11), dtype=np.uint32)
        expected = (drawn.view(np.int32) >> 8).astype(np.float32) / np.float32(2**23)
        np.testing.assert_array_equal(signed[row], expected)
        np.testing.assert_allclose(normal[row], ndtri((drawn + 0.5) / 2**32), rtol=1e-6)


def test_a_sample_does_not_depend_on_the_others() -> None:
    samples = np.arange(100, dtype=np.int64)
    together = _core.random_normal(1, "x", 0, 3, samples, 7)
    backwards = _core.random_normal(1, "x", 0, 3, samples[::-1], 7)
    np.testing.assert_array_equal(together, backwards[::-1])
    np.testing.assert_array_equal(
        together[42:43], _core.random_normal(1, "x", 0, 3, samples[42:43], 7)
    )
    np.testing.assert_array_equal(together[:, :3], _core.random_normal(1, "x", 0, 3, samples, 3))


def test_distributions() -> None:
    samples = np.arange(500, dtype=np.int64)
    signed = _core.random_signed(5, "x", 0, 0, samples, 100).ravel()
    assert signed.dtype == np.float32
    assert signed.min() >= -1
    assert signed.max() < 1
    assert kstest(signed, "uniform", (-1, 2)).pvalue > 1e-3
    normal = _core.random_normal(5, "y", 0, 0, samples, 100).ravel()
    assert normal.dtype == np.float32
    assert kstest(normal, "norm").pvalue > 1e-3


def test_empty_and_impossible_sizes() -> None:
    assert _core.random_signed(0, "x", 0, 0, np.array([], dtype=np.int64), 3).shape == (0, 3)
    assert _core.random_signed(0, "x", 0, 0, np.array([1], dtype=np.int64), 0).shape == (1, 0)
    with pytest.raises(ValueError, match="do not fit in memory"):
        _core.random_signed(0, "x", 0, 0, np.arange(3, dtype=np.int64), 2**62)
    with pytest.raises(OverflowError):
        _core.random_signed(-1, "x", 0, 0, np.arange(3, dtype=np.int64), 1)
