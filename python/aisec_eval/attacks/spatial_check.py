"""The re-check of rotations and translations: the definition again, without the attack's code."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .images import channels_first, image_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..threats import Spatial

TOLERANCE = 2.0**-20
"""How far, relative to the largest input value, an adversarial example may be from the same
transformation computed in float64: some roundings of float32, 1/4000 of an 8-bit level."""

_TEXT = re.compile(r"rotation=(\S+) right=(\S+) down=(\S+)")


def spell(parameters: NDArray[np.float64]) -> str:
    """Write the parameters of a transformation, exactly."""
    rotation, right, down = (float(p) + 0.0 for p in parameters)
    return f"rotation={rotation!r} right={right!r} down={down!r}"


def read(text: str) -> tuple[float, float, float] | None:
    """Read what `spell` wrote; None for anything else."""
    found = _TEXT.fullmatch(text)
    try:
        rotation, right, down = map(float, found.groups() if found else ())
    except ValueError:
        return None
    return (rotation, right, down) if np.isfinite([rotation, right, down]).all() else None


def refuse(
    threat: Spatial, clean: NDArray[np.float32], point: NDArray[np.float32], transform: str
) -> str:
    """Say why `point` is not the transformed `clean` of this threat model; empty where it is.

    The parameters are compared with the exact limits, the pixels with `recompute`'s.
    """
    parameters = read(transform)
    if parameters is None:
        return "no parameters of a rotation and a translation"
    limits = (threat.max_rotation, threat.max_translation, threat.max_translation)
    if any(abs(Fraction(p)) > limit for p, limit in zip(parameters, limits, strict=True)):
        return "outside the limits of rotation or translation"
    if image_shape(clean.shape) is None:
        return "not an image"
    image = channels_first(clean[None].astype(np.float64))[0]
    expected = recompute(image, *parameters, threat.fill)
    got = channels_first(point[None].astype(np.float64))[0]
    if np.abs(expected - got).max() <= TOLERANCE * max(map(abs, threat.bounds)):
        return ""
    return "not the transformed image"


def recompute(
    image: NDArray[np.float64], rotation: float, right: float, down: float, fill: float
) -> NDArray[np.float64]:
    """Return an image [channels, height, width] turned and shifted, in float64.

    The definition, written down without the attack's code: a homogeneous matrix takes pixels to
    where they go, its inverse says where each pixel comes from, and values are interpolated along
    rows, then along columns, of the image in a frame of `fill`.
    """
    height, width = image.shape[1:]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    forward = np.eye(3)
    forward[:2, :2] = turn
    forward[:2, 2] = centre - turn @ centre + [right, down]
    y, x = np.indices((height, width), dtype=np.float64)
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(height * width)])
    from_x, from_y, _ = np.linalg.solve(forward, pixels)

    framed = np.pad(image, ((0, 0), (1, 2), (1, 2)), constant_values=fill)
    # Where a pixel comes from outside the frame's inner edge, everything around it is `fill`.
    from_x = np.clip(from_x + 1, 0, width + 1)
    from_y = np.clip(from_y + 1, 0, height + 1)
    left, top = np.floor(from_x).astype(np.int64), np.floor(from_y).astype(np.int64)
    across, below = from_x - left, from_y - top
    upper = framed[:, top, left] + across * (framed[:, top, left + 1] - framed[:, top, left])
    lower = framed[:, top + 1, left] + across * (
        framed[:, top + 1, left + 1] - framed[:, top + 1, left]
    )
    return np.asarray((upper + below * (lower - upper)).reshape(image.shape))
