"""Runs a JAX function on numpy batches of any size with a handful of compilations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BUCKETS = (1, 8, 64)
"""Batch sizes that are compiled; a batch is padded to the next, a larger one is cut up."""


class Jitted:
    """`apply(params, x)` compiled once a bucket; numpy in, numpy out."""

    def __init__(self, apply: Callable[[Any, Any], Any], params: Any) -> None:
        self._apply = apply
        self._params = params
        self._compiled: Callable[[Any, Any], Any] | None = None

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 outputs [n, ...] for inputs [n, ...], n >= 1."""
        import jax

        if self._compiled is None:
            self._compiled = jax.jit(self._apply)
        outputs = []
        for start in range(0, len(x), BUCKETS[-1]):
            part = x[start : start + BUCKETS[-1]]
            size = next(b for b in BUCKETS if b >= len(part))
            padded = np.zeros((size, *x.shape[1:]), dtype=np.float32)
            padded[: len(part)] = part
            y = np.asarray(self._compiled(self._params, padded), dtype=np.float32)
            outputs.append(y[: len(part)])
        return np.concatenate(outputs)
