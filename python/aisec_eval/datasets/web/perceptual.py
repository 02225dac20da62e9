"""Perceptual hashes: nearly the same for images that look the same."""

from __future__ import annotations

import io
import threading
import warnings
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
"""Images with more are not decoded: they may be a few bytes that fill the memory."""
_SIDE, _KEPT = 32, 8
# One image is decoded at a time, so that memory is bounded by one.
_DECODING = threading.Lock()


def pillow() -> ModuleType:
    """Return Pillow.

    Raises:
        InputError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError("perceptual hashes need Pillow: pip install 'aisec-eval[web]'") from None
    return Image


class NotAnImageError(Exception):
    """The bytes are no image that can be hashed; says why in one line."""


def describe(data: bytes) -> tuple[str, str]:
    """Return the perceptual hash of an image and its media type.

    Raises:
        NotAnImageError: no image of a known format, damaged, or too large.
        InputError: Pillow is not installed.
    """
    from scipy.fft import dctn

    image_module = pillow()
    with _DECODING:
        try:
            with warnings.catch_warnings():
                # Sizes are judged below; without this, Pillow warns of them as well.
                warnings.simplefilter("ignore")
                image = image_module.open(io.BytesIO(data), formats=FORMATS)
            with image:
                if image.width * image.height > MAX_PIXELS:
                    raise NotAnImageError(f"{image.width} x {image.height} pixels are too many")
                mime = image_module.MIME[image.format]
                grey = image.convert("L").resize((_SIDE, _SIDE), image_module.Resampling.LANCZOS)
        except NotAnImageError:
            raise
        # Decoders of hostile files fail in any way.
        except Exception as error:
            raise NotAnImageError(f"no image that can be read ({type(error).__name__})") from None
    low = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:_KEPT, :_KEPT].ravel()[1:]
    # Rounded: rows that are equal up to the last bit are equal.
    low = np.round(low, 6)
    bits = low > np.median(low)
    return f"{int.from_bytes(np.packbits(np.concatenate([[False], bits])).tobytes()):016x}", mime


def perceptual_hash(data: bytes) -> str:
    """Hash an image by what it looks like: 63 bits, as 16 hexadecimal digits.

    The image in grey, 32 x 32 pixels, is transformed (DCT-II); a bit says whether one of the 8 x 8
    lowest frequencies, but for the mean, is above their median. Recompressed or scaled images have
    nearly the same hash, images that look different differ in about half of the bits. Animations
    are hashed by their first frame; transparency and EXIF orientation do not count.

    Args:
        data: a PNG, JPEG, GIF, WebP, BMP or TIFF file of at most 50 million pixels.

    Raises:
        InputError: no such image, damaged, or too large; or Pillow is not installed.
    """
    try:
        return describe(data)[0]
    except NotAnImageError as error:
        raise InputError(f"data: {error}") from None


def perceptual_distance(one: str, two: str) -> int:
    """Bits in which two perceptual hashes differ, 0 to 63."""
    return (int(one, 16) ^ int(two, 16)).bit_count()
