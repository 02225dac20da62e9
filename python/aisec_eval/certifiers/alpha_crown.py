"""alpha-CROWN (Xu et al. 2021, arXiv:2011.13824): CROWN with optimised slopes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._validate import check_count
from ..errors import InputError
from .native import NativeBounds

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class AlphaCROWN(NativeBounds):
    """alpha-CROWN (Xu et al. 2021, arXiv:2011.13824): CROWN with optimised slopes.

    The lines of every ReLU, leaky ReLU, sigmoid and tanh are chosen for each row of the
    specification by Adam on closed-form gradients, in float32, over CROWN's intermediate bounds.
    For rows that are still to be raised, the mean of the lines found bounds the intermediate
    layers once more, and a second search, half as long, goes on over the better bounds. Each
    bound is computed in float64 for the best lines found, with every rounding error taken off it,
    so it is never looser than CROWN's.
    """

    iterations: int = 20
    """Times the first search bounds each row; the first is CROWN, every other follows a step."""
    rate: float = 0.1
    """Length of the first step."""
    decay: float = 0.98
    """What the length is multiplied with after each step."""
    stop: bool = True
    """Leave a row alone once its bound is above zero; False gives every row the best bound."""
    name: ClassVar[str] = "alpha-crown"

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)
        for name, value, most in (("rate", self.rate, math.inf), ("decay", self.decay, 1.0)):
            if not 0.0 < value <= most or not math.isfinite(value):
                raise InputError(f"AlphaCROWN({name}={value!r}): must be in (0, {most:g}]")

    def _options(self) -> Mapping[str, Any]:
        return {
            "iterations": self.iterations,
            "rate": self.rate,
            "decay": self.decay,
            "stop": self.stop,
        }
