"""Which axes of an input are an image's: channels first or last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS = 4
"""Most channels of an image whose channels come last."""


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return channels, height and width of one sample; None where it is no image.

    [height, width], [channels, height, width], or [height, width, channels] where only the last
    axis can be channels.
    """
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) != 3:
        return None
    return (shape[2], shape[0], shape[1]) if _last(shape) else shape


def channels_first(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images [n, *shape] as [n, channels, height, width]."""
    shape = x.shape[1:]
    if len(shape) == 2:
        return x[:, None]
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if _last(shape) else x


def as_given(x: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return images [n, channels, height, width] in the layout they had, [n, *shape]."""
    if len(shape) == 3 and _last(shape):
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return x.reshape(len(x), *shape)


def _last(shape: tuple[int, ...]) -> bool:
    return shape[2] <= CHANNELS < shape[0]
