"""A small PNG encoder (W3C PNG, third edition): 8-bit grey and RGB, the same bytes every time."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 pixels, [height, width] grey or [height, width, 3] RGB.

    Raises:
        ValueError: another dtype or shape, or no pixels.
    """
    shape = pixels.shape
    if pixels.dtype != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        raise ValueError(f"expected uint8 [h, w] or [h, w, 3], got {pixels.dtype} {shape}")
    if pixels.size == 0:
        raise ValueError(f"an image of shape {shape} has no pixels")
    height, width = shape[:2]
    colour = _RGB if len(shape) == 3 else _GREY
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    # Each line starts with its filter; 0 (none) suits images of a few thousand pixels.
    lines = np.zeros((height, 1 + pixels[0].size), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        ]
    )


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return the image as a `data:` URI."""
    return "data:image/png;base64," + base64.b64encode(encode(pixels)).decode()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
