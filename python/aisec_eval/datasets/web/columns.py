"""Which hash a column of a manifest holds, and of what."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ALGORITHMS = (
    "sha256", "md5", "sha1", "sha512", "sha224", "sha384", "blake3", "blake2b", "blake2s",
    "sha3_256",
)  # fmt: skip
WEAK = ("md5", "sha1")
"""Hashes for which anybody can make two files of the same hash."""
_BITS = {
    name: 256 if name == "blake3" else 8 * hashlib.new(name, usedforsecurity=False).digest_size
    for name in ALGORITHMS
}
_HEX = re.compile(r"[0-9a-f]+")


def normal(value: str) -> str:
    """Reduce a hash to lower-case hexadecimal, or return it stripped where it is none."""
    text = value.strip()
    text = text.split(":", 1)[1] if text.lower().startswith(ALGORITHMS) and ":" in text else text
    if _HEX.fullmatch(text.lower()) and len(text) % 8 == 0:
        return text.lower()
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=None, validate=True)
    except ValueError:
        return text
    return decoded.hex() if 8 * len(decoded) in _BITS.values() else text


def digest(data: bytes, algorithm: str) -> str:
    """Hash in hexadecimal."""
    if algorithm == "blake3":
        from ..._core import blake3

        return blake3(data)
    return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()


def algorithm_in(name: str) -> str | None:
    """Return the algorithm that a column is named after."""
    plain = re.sub(r"[-_ ]", "", name.lower())
    return next((a for a in ALGORITHMS if a.replace("_", "") in plain), None)


def guess(name: str, values: Iterable[str]) -> str | None:
    """Name the algorithm of a column by its name, else by the length of most values."""
    if named := algorithm_in(name):
        return named
    by_length = [_by_length(value) for value in values]
    for algorithm in ALGORITHMS:
        if by_length.count(algorithm) > len(by_length) / 2:
            return algorithm
    return None


def _by_length(value: str) -> str | None:
    text = normal(value)
    if not _HEX.fullmatch(text):
        return None
    return next((name for name in ALGORITHMS if _BITS[name] == 4 * len(text)), None)


def explanations(url: str, data: bytes, expected: str) -> list[str]:
    """Say of what else this is the hash: another algorithm's, or of the URL instead of the body."""
    found = []
    bits = 4 * len(expected)
    for algorithm in (name for name in ALGORITHMS if _BITS[name] == bits):
        if digest(data, algorithm) == expected:
            found.append(algorithm)
        if digest(url.encode(), algorithm) == expected:
            found.append(f"{algorithm} of the URL")
    return found
