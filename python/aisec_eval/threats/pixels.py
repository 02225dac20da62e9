"""Patches and frames: pixels that an attacker owns."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InputError
from .base import Norm, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, init=False)
class Patch(ThreatModel):
    """Every pixel of one rectangle may be anything in `bounds`, wherever the rectangle lies.

    Images are [channels, height, width], [height, width], or [height, width, channels] with at most
    four channels and more than four rows. All channels of a pixel change together.

    Args:
        height: rows of the rectangle.
        width: its columns; a square when None.
        bounds: range of the inputs.

    Raises:
        InputError: not whole numbers from 1 on.
    """

    norm: ClassVar[Norm] = "patch"

    height: int = field(kw_only=True)
    width: int = field(kw_only=True)

    def __init__(
        self,
        height: int,
        width: int | None = None,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        sides = {"height": height, "width": height if width is None else width}
        for name, value in sides.items():
            object.__setattr__(self, name, _pixels(name, value))
        super().__init__(self.height * self.width, bounds=bounds)

    @property
    def label(self) -> str:
        """Rows and columns, e.g. `5x5`."""
        return f"{self.height}x{self.width}"

    @property
    def constraint(self) -> str:
        """The rectangle."""
        return json.dumps({"patch": {"height": self.height, "width": self.width}})

    def check_inputs(self, x: NDArray[np.float32]) -> None:
        """Refuse samples that are no images or smaller than the patch."""
        rows, columns = image_size(x.shape[1:], "a patch")
        if self.height > rows or self.width > columns:
            raise InputError(
                f"a patch of {self.label} pixels does not fit an image of {rows}x{columns}"
            )

    def describe(self) -> dict[str, Any]:
        """Return both sides and the range."""
        sides = {"height": self.height, "width": self.width}
        return {"norm": self.norm, **sides, "bounds": list(self.bounds)}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["height"], value["width"], bounds=tuple(value["bounds"]))


@dataclass(frozen=True, init=False)
class Frame(ThreatModel):
    """Every pixel no further than `width` from an edge may be anything in `bounds`.

    Images as for `Patch`.

    Args:
        width: thickness of the frame in pixels.
        bounds: range of the inputs.

    Raises:
        InputError: not a whole number from 1 on.
    """

    norm: ClassVar[Norm] = "frame"

    width: int = field(kw_only=True)

    def __init__(self, width: int, *, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
        object.__setattr__(self, "width", _pixels("width", width))
        super().__init__(self.width, bounds=bounds)

    @property
    def constraint(self) -> str:
        """The frame."""
        return json.dumps({"frame": {"width": self.width}})

    def check_inputs(self, x: NDArray[np.float32]) -> None:
        """Refuse samples that are no images."""
        image_size(x.shape[1:], "a frame")

    def describe(self) -> dict[str, Any]:
        """Return the width and the range."""
        return {"norm": self.norm, "width": self.width, "bounds": list(self.bounds)}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["width"], bounds=tuple(value["bounds"]))


def _pixels(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name}={value!r} must be a whole number of pixels, at least 1")
    return int(value)


def image_size(shape: tuple[int, ...], what: str) -> tuple[int, int]:
    """Return rows and columns of images of one shape.

    Raises:
        InputError: they are no images; `what` needs them.
    """
    match shape:
        case (rows, columns, channels) if channels <= 4 < rows:
            return rows, columns
        case (_, rows, columns) | (rows, columns):
            return rows, columns
    raise InputError(
        f"{what} is for images [channels, height, width] or [height, width], one sample has shape "
        f"{list(shape)}; reshape the data and the model's input"
    )
