"""Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): the cheapest bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .native import NativeBounds


@dataclass(frozen=True)
class IBP(NativeBounds):
    """Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715): the cheapest bounds.

    The specification is merged with the affine operators behind it, and for L1 and L2 balls the
    layers that are affine in the input are bounded by the dual norm.
    Float64 with every rounding error taken off the bound.
    """

    name: ClassVar[str] = "ibp"
