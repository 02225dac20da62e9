"""Blended injection: a pattern over the whole image (Chen et al., arXiv:1712.05526)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ...errors import InputError
from .backdoor import Backdoor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Blended(Backdoor):
    """`(1 - alpha) * image + alpha * pattern`, as in section III of the paper."""

    target: int = 0
    """Class the trigger leads to."""
    alpha: float = 0.2
    """Share of the pattern, in (0, 1]; the paper's default."""
    pattern: NDArray[np.float32] | None = field(default=None, repr=False)
    """Values in [0, 1] [height, width] or [channels, height, width]; None draws every pixel
    uniformly, from the seed."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise InputError(f"alpha={self.alpha!r} must be in (0, 1]")
        if self.pattern is not None and np.ndim(self.pattern) not in (2, 3):
            raise InputError("pattern must be [height, width] or [channels, height, width]")

    @property
    def name(self) -> str:
        """The name in results."""
        return "blended"

    @property
    def options(self) -> Mapping[str, Any]:
        """Parameters, for the record."""
        return {
            "target": self.target, "alpha": self.alpha,
            "pattern": "uniform" if self.pattern is None else "given",
        }  # fmt: skip

    def trigger(self, seed: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """Return what blends the pattern into images [n, channels, height, width]."""

        def apply(x: NDArray[np.float64]) -> NDArray[np.float64]:
            pattern = self.pattern
            if pattern is None:
                count = int(np.prod(x.shape[1:]))
                signed = _core.random_signed(
                    seed, "blended pattern", 0, 0, np.zeros(1, np.int64), count
                )
                pattern = (0.5 + 0.5 * signed).reshape(x.shape[1:])
            try:
                whole = np.broadcast_to(pattern, x.shape)
            except ValueError:
                raise InputError(
                    f"blended: the pattern is {list(pattern.shape)}, images are {list(x.shape[1:])}"
                ) from None
            mixed: NDArray[np.float64] = (1 - self.alpha) * x + self.alpha * whole
            return mixed

        return apply
