"""Arrays as pictures: images as PNG, other inputs as bars, changes magnified and signed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from . import png
from .html import Element, el

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BARS = 48
"""Features drawn of an input that is not an image: those that moved most."""
_LESS = np.array([33, 102, 172])
_SAME = np.array([247, 247, 247])
_MORE = np.array([190, 45, 35])


def triptych(
    clean: NDArray[np.float32],
    adversarial: NDArray[np.float32],
    bounds: tuple[float, float],
    about: str,
) -> tuple[list[Element], float]:
    """Draw clean input, adversarial input and the magnified change between them.

    Args:
        clean: one input: [h, w], [1 or 3, h, w] or [h, w, 1 or 3]; anything else becomes bars.
        adversarial: same shape.
        bounds: input range, drawn from black to white.
        about: what the alternative texts speak of.

    Returns:
        Three pictures, and by how much the change is magnified.
    """
    span = bounds[1] - bounds[0]
    change = adversarial.astype(np.float64) - clean.astype(np.float64)
    factor = magnification(change, span)
    texts = [f"clean {about}", f"adversarial {about}", f"change of {about}, times {factor:g}"]
    planes = [image(x) for x in (clean, adversarial, change)]
    if any(plane is None for plane in planes):
        return bars(clean, adversarial, change * factor, bounds, texts), factor
    first, second, third = (plane for plane in planes if plane is not None)
    drawn = [tone(first, bounds), tone(second, bounds), signed(third * (factor / span))]
    return [
        el("img", src=png.data_uri(p), alt=text, width=p.shape[1], height=p.shape[0])
        for p, text in zip(drawn, texts, strict=True)
    ], factor


def magnification(change: NDArray[np.float64], span: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that keeps the change within half `span`.

    At least 1: a change larger than that is drawn as it is, cut at the ends.
    """
    largest = float(np.abs(change).max(initial=0.0))
    if not 0.0 < largest < math.inf:
        return 1.0
    wanted = span / 2 / largest
    power = 10.0 ** math.floor(math.log10(wanted))
    return max(1.0, next(m * power for m in (5, 2, 1) if m * power <= wanted * (1 + 1e-6)))


def image(x: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """Return an input as [h, w] or [h, w, 3] if its shape is an image's, else None."""
    shape = x.shape
    if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1:
        x = np.moveaxis(x, 0, -1)
    elif len(shape) == 2:
        x = x[:, :, None]
    if x.ndim != 3 or x.shape[2] not in (1, 3) or min(x.shape[:2]) < 2:
        return None
    plane = x.astype(np.float64)
    return plane[:, :, 0] if plane.shape[2] == 1 else plane


def tone(plane: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.uint8]:
    """Map the input range to black through white."""
    low, high = bounds
    return np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def signed(change: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw a change in units of the input range, half of it either way.

    One channel: blue for less, red for more, white for none. Three: each channel around grey.
    """
    if change.ndim == 3:
        return np.rint(np.clip(change + 0.5, 0, 1) * 255).astype(np.uint8)
    strength = np.clip(np.abs(change) * 2, 0, 1)[:, :, None]
    ink = np.where(change[:, :, None] < 0, _LESS, _MORE)
    drawn: NDArray[np.uint8] = np.rint(_SAME + (ink - _SAME) * strength).astype(np.uint8)
    return drawn


def bars(
    clean: NDArray[np.float32],
    adversarial: NDArray[np.float32],
    magnified: NDArray[np.float64],
    bounds: tuple[float, float],
    texts: list[str],
) -> list[Element]:
    """Draw an input that is not an image as one bar a feature, the most changed ones."""
    flat = np.abs(magnified).ravel()
    kept = np.sort(np.lexsort((np.arange(flat.size), -flat))[:MAX_BARS])
    low, high = bounds
    note = "" if flat.size <= MAX_BARS else f" ({MAX_BARS} most changed of {flat.size} features)"
    centre = (high - low) / 2
    drawn = [
        [(low, float(v)) for v in clean.ravel()[kept]],
        [(low, float(v)) for v in adversarial.ravel()[kept]],
        [(low + centre, low + centre + float(v)) for v in magnified.ravel()[kept]],
    ]
    return [_chart(pairs, bounds, text + note) for pairs, text in zip(drawn, texts, strict=True)]


def _chart(pairs: list[tuple[float, float]], bounds: tuple[float, float], text: str) -> Element:
    low, high = bounds

    def level(value: float) -> float:
        return 100 - 100 * min(max((value - low) / (high - low), 0.0), 1.0)

    step = 100 / len(pairs)
    columns = []
    for index, (start, end) in enumerate(pairs):
        top, bottom = sorted((level(start), level(end)))
        columns.append(
            el(
                "rect",
                x=f"{index * step + step * 0.1:.2f}",
                width=f"{step * 0.8:.2f}",
                y=f"{top:.2f}",
                height=f"{max(bottom - top, 0.5):.2f}",
                class_="less" if end < start else "more",
            )
        )
    return el("svg", el("title", text), columns, viewbox="0 0 100 100", role="img", class_="bars")
