"""CROWN-IBP (Zhang et al. 2020, arXiv:1906.06316): intervals, and linear bounds at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .native import NativeBounds


@dataclass(frozen=True)
class CROWNIBP(NativeBounds):
    """CROWN-IBP (Zhang et al. 2020, arXiv:1906.06316): intervals, and linear bounds at the end.

    Intermediate bounds are interval bounds (for L1 and L2 balls, those of layers that are affine in
    the input use the dual norm); only the specification is carried back to the input. Never looser
    than IBP, and cheap: one pass back a row.
    Float64 with every rounding error taken off the bound.
    """

    name: ClassVar[str] = "crown-ibp"
