"""The 15 common corruptions, as the package `imagecorruptions` defines them."""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CapabilityError, InputError
from .images import as_given, channels_first, image_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..threats import Corruptions

PACKAGE = "imagecorruptions-imaug"
LEAST = 24
"""Smallest side of an image; what is below the library's own 32 pixels is mirrored at its edges."""
TOLERANCE = 1.5 / 255
"""How far two computations of a corruption may be apart: one 8-bit level, which the vector
instructions of another processor can round the other way."""

_LIBRARY_LEAST = 32
_SEEDED = frozenset({"impulse_noise", "glass_blur"})
"""These draw from generators of their own, seeded by an argument; the others from numpy's."""
_NOISE = frozenset({"gaussian_noise", "shot_noise", "impulse_noise"})
_LUMINANCE = np.array([0.2989, 0.587, 0.114])
_LOCK = Lock()


def versions() -> dict[str, str]:
    """Return the versions of what computes the corruptions.

    Raises:
        CapabilityError: the package is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        names = (PACKAGE, "numpy", "scipy", "scikit-image", "opencv-python", "numba", "pillow")
        return {name: version(name) for name in names}
    except PackageNotFoundError:
        raise _missing() from None


def unfit(shape: tuple[int, ...]) -> str | None:
    """Return why inputs of a shape cannot be corrupted, in one line; None where they can."""
    image = image_shape(shape)
    if image is None or image[0] not in (1, 3):
        return f"inputs of shape {list(shape)} are no images of 1 or 3 channels"
    if min(image[1:]) < LEAST:
        return (
            f"images of {image[1]} x {image[2]} pixels are too small for common corruptions, "
            f"which need {LEAST} x {LEAST} or more"
        )
    return None


def corrupted(
    x: NDArray[np.float32],
    threat: Corruptions,
    name: str,
    severity: int,
    *,
    seed: int,
    sample: int,
) -> NDArray[np.float32]:
    """Return one sample corrupted, of its shape and in the threat model's range.

    The sample is quantised to 8 bits first, as the paper's images are; so is the result. Random
    numbers follow from seed, sample, corruption and severity alone.

    Args:
        x: one sample [*shape] that is not `unfit`.
        threat: says the range of the inputs.
        name: of the corruption.
        severity: 1..5.
        seed: of the evaluation.
        sample: its id.

    Raises:
        CapabilityError: the package is not installed.
        InputError: the library fails on the image.
    """
    corrupt = _library()
    low, high = threat.bounds
    image = channels_first(x[None])[0]
    unit = (image.astype(np.float64) - low) / (high - low)
    pixels = np.rint(255 * np.clip(unit, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
    grey = pixels.shape[2] == 1
    height, width = pixels.shape[:2]
    frame = [max(0, _LIBRARY_LEAST - side) for side in (height, width)]
    margin = [(extra // 2, extra - extra // 2) for extra in frame]
    padded = np.pad(np.repeat(pixels, 3, axis=2) if grey else pixels, [*margin, (0, 0)], "reflect")
    key = f"{seed}/{sample}/{name}/{severity}".encode()
    state = int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "little")
    options: dict[str, Any] = {"seed": state} if name in _SEEDED else {}
    with _LOCK:
        # The library draws from numpy's global generator; what the caller draws is not disturbed.
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(state)  # noqa: NPY002
        try:
            result = corrupt(
                np.ascontiguousarray(padded), corruption_name=name, severity=severity, **options
            )
        except Exception as error:
            raise InputError(
                f"{PACKAGE} fails with {name} at severity {severity} on an image of {height} x "
                f"{width} pixels ({type(error).__name__}: {error}); leave it out of names"
            ) from None
        finally:
            np.random.set_state(before)  # noqa: NPY002
    result = np.asarray(result)[margin[0][0] :, margin[1][0] :][:height, :width]
    if grey:
        # Noise is drawn for each channel; everything else turns grey into grey, or nearly so.
        plane = result[..., 0] if name in _NOISE else np.rint(result @ _LUMINANCE)
        result = plane[..., None]
    unit = result.astype(np.float64).transpose(2, 0, 1) / 255
    values = np.clip(low + (high - low) * unit, low, high).astype(np.float32)
    image = _within(values, low, high)[None]
    return np.ascontiguousarray(as_given(image, x.shape)[0], np.float32)


def refuse(
    threat: Corruptions,
    clean: NDArray[np.float32],
    point: NDArray[np.float32],
    transform: str,
    *,
    seed: int,
    sample: int,
) -> str:
    """Say why `point` is not `clean` corrupted as `transform` says; empty where it is.

    Raises:
        CapabilityError: the package is not installed.
    """
    name, _, level = transform.rpartition("/")
    if transform not in threat.cases:
        return "no corruption of the threat model"
    if unfit(clean.shape) is not None:
        return "not an image that can be corrupted"
    expected = corrupted(clean, threat, name, int(level), seed=seed, sample=sample)
    low, high = threat.bounds
    away = np.abs(expected.astype(np.float64) - point.astype(np.float64)).max()
    return "" if away <= TOLERANCE * (high - low) else "not the corrupted image"


def _within(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Undo roundings to float32 that leave the range."""
    values = np.where(values.astype(np.float64) > high, np.nextafter(values, -np.inf), values)
    return np.where(values.astype(np.float64) < low, np.nextafter(values, np.inf), values)


def _library() -> Any:
    try:
        from imagecorruptions import corrupt
    except ImportError as error:
        raise _missing(str(error)) from None
    return corrupt


def _missing(why: str = "") -> CapabilityError:
    detail = f" ({why})" if why and "imagecorruptions" not in why else ""
    return CapabilityError(
        f"common corruptions need the package {PACKAGE}{detail}: "
        'pip install "aisec-eval[corruptions]"'
    )
