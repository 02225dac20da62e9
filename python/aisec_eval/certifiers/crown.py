"""CROWN (Zhang et al. 2018, arXiv:1811.00866): linear bounds carried back to the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .native import NativeBounds


@dataclass(frozen=True)
class CROWN(NativeBounds):
    """CROWN (Zhang et al. 2018, arXiv:1811.00866): linear bounds carried back to the input.

    Intermediate bounds are interval bounds, tightened by CROWN wherever a nonlinear operator would
    gain from it; the result is never looser than IBP.
    Float64 with every rounding error taken off the bound.
    """

    name: ClassVar[str] = "crown"
