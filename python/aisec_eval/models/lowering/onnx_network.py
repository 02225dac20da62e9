"""An ONNX network as plain data, between the reader and the lowering."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """One ONNX node as plain data."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """An admitted ONNX graph as plain data; only nodes the output depends on."""

    where: str
    steps: tuple[Step, ...]
    constants: Mapping[str, NDArray[Any]]
    input: str
    input_shape: tuple[int | None, ...]
    """As declared, batch axis included; None where symbolic."""
    input_dtype: str
    output: str
    output_rank: int | None
    opset: int
    proto: Any = field(repr=False)


def reason_of(error: Exception) -> str:
    """Return what went wrong in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text, 300)


def printable(text: str, length: int = 120) -> str:
    """Return text of the file's author without control characters, fit for one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:length])
