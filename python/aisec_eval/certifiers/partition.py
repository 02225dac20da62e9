"""Which bucket a training sample falls into: by a hash of the sample, whatever the others are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_count
from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Partition:
    """A training set cut into buckets."""

    bucket: NDArray[np.int64]
    """Bucket of each sample [n]."""
    order: NDArray[np.int64]
    """Rows in an order that depends on the samples alone, not on the rows they stand in [n]."""
    buckets: int

    def rows(self, buckets: Any) -> NDArray[np.int64]:
        """Return the rows of the samples in some buckets, in the order of `order`."""
        chosen = np.zeros(self.buckets, dtype=bool)
        chosen[np.asarray(buckets)] = True
        return self.order[chosen[self.bucket[self.order]]]


def partition(x: Any, y: Any, buckets: int, *, seed: int = 0) -> Partition:
    """Cut a training set into buckets by a hash of each sample (Levine & Feizi 2021).

    The hash is of the input alone (BLAKE2b of its bytes as little-endian, keyed with `seed`), so a
    sample inserted or removed touches one bucket, and so does a changed label. Where each sample
    goes depends on no other, and neither does the order that models see them in: samples of a
    bucket are sorted by their hashes, and by labels where inputs are equal.

    Args:
        x: inputs [n, ...], numbers.
        y: labels [n], integers.
        buckets: how many there are.
        seed: of the hash.

    Raises:
        InputError: arrays or options do not fit.
    """
    check_count("buckets", buckets)
    if not 0 <= seed < 1 << 64:
        raise InputError(f"seed={seed!r} must be at least 0 and below 2^64")
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or x.dtype.kind not in "fiub":
        raise InputError(f"x must be numbers [n, ...], got {x.dtype} {list(x.shape)}")
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise InputError(f"y must be integers [{len(x)}], got {y.dtype} {list(y.shape)}")
    key = seed.to_bytes(8, "little")
    hashes = np.empty((len(x), 2), dtype=np.uint64)
    little = x.dtype.newbyteorder("<")
    for row, sample in enumerate(x):
        data = np.ascontiguousarray(sample, dtype=little)
        digest = hashlib.blake2b(data.data, digest_size=16, key=key).digest()
        hashes[row] = np.frombuffer(digest, dtype="<u8")
    order = np.lexsort((y, hashes[:, 1], hashes[:, 0]))
    return Partition((hashes[:, 0] % np.uint64(buckets)).astype(np.int64), order, buckets)
