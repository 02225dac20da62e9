"""One download: what came, described in every way that it is compared by."""

from __future__ import annotations

import base64
import hashlib
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .fetch import Fetch, UnreachableError, fetch
from .perceptual import NotAnImageError, describe, pillow

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Embed = Callable[[bytes], ArrayLike | None]

_MOST = 65_536
"""Numbers in an embedding."""
# The model behind an embedding need not bear two threads, nor memory two of its inputs.
_EMBEDDING = threading.Lock()


@dataclass(frozen=True)
class Look:
    """How to look at a URL."""

    options: Fetch
    perceptual: bool = True
    """Hash images by what they look like."""
    embed: Embed | None = None
    """Gives the embedding of a body, or None where it has none."""

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises:
            InputError: `embed` is no function, or Pillow is missing.
        """
        if self.embed is not None and not callable(self.embed):
            raise InputError(f"embed must be a function of bytes, got {type(self.embed).__name__}")
        if self.perceptual:
            pillow()

    def at(
        self, url: str, *, perceptual: bool = True, embed: bool = True
    ) -> tuple[dict[str, Any], bytes]:
        """Download a URL; return `sha256`, `size`, `mime`, `phash`, `embedding`, `error` and bytes.

        Args:
            url: of http or https.
            perceptual: whether this body is to be hashed so, if any is.
            embed: whether this body is to be embedded, if any is.

        Raises:
            InputError: `embed` fails, or returns something else than an embedding.
        """
        row: dict[str, Any] = dict.fromkeys(
            ("sha256", "size", "mime", "phash", "embedding", "error")
        )
        try:
            body = fetch(url, self.options)
        except UnreachableError as error:
            return row | {"error": str(error)}, b""
        row["sha256"] = hashlib.sha256(body.data).hexdigest()
        row["size"], row["mime"] = len(body.data), body.mime or None
        if perceptual and self.perceptual:
            # What a body is, not what its server says.
            with suppress(NotAnImageError):
                row["phash"], row["mime"] = describe(body.data)
        if embed and self.embed is not None:
            row["embedding"] = _embedding(self.embed, url, body.data)
        return row, body.data


def _embedding(embed: Embed, url: str, data: bytes) -> str | None:
    """Return an embedding scaled to length 1, as base64 of little-endian float32."""
    try:
        with _EMBEDDING:
            given = embed(data)
        if given is None:
            return None
        vector = np.asarray(given, dtype=np.float64).ravel()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"embed fails on {url}: {type(error).__name__}: {reason}") from None
    norm = float(np.linalg.norm(vector))
    if not 0 < vector.size <= _MOST or not np.isfinite(norm) or norm == 0:
        raise InputError(
            f"embed of {url}: expected 1 to {_MOST} finite numbers that are not all 0, or None"
        )
    return base64.b64encode((vector / norm).astype("<f4").tobytes()).decode()


def unit_vector(text: str) -> NDArray[np.float64] | None:
    """Read an embedding back; None where it is not one."""
    try:
        vector = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except ValueError:
        return None
    found: NDArray[np.float64] = vector.astype(np.float64)
    fits = 0 < found.size <= _MOST and abs(float(np.linalg.norm(found)) - 1) < 1e-3
    return found if fits else None


def cosine(one: str, two: str) -> float | None:
    """Cosine of two embeddings; None where one is damaged or they are of different models."""
    first, second = unit_vector(one), unit_vector(two)
    if first is None or second is None or first.shape != second.shape:
        return None
    return float(np.clip(first @ second, -1.0, 1.0))
