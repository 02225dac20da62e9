"""Runs a JAX function on numpy batches of any size with a handful of compilations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

BUCKETS = (1, 8, 64)
"""Batch sizes that are compiled; a batch is padded to the next, a larger one is cut up."""


class Jitted:
    """`apply(params, x)` compiled once a bucket; numpy in, numpy out."""

    def __init__(self, apply: Callable[[Any, Any], Any], params: Any) -> None:
        self._apply = apply
        self._params = params
        self._compiled: Callable[[Any, Any], Any] | None = None
        self._forward: Callable[[Any, Any], Any] | None = None
        self._backward: Callable[[Any, Any], Any] | None = None

    def value_and_vjp(
        self,
        x: NDArray[np.float32],
        cotangent: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and the gradient of `sum(logits * cotangent(logits))`, n >= 1.

        The forward pass is evaluated once; what the gradient needs of it stays on the device.
        """
        import jax

        if self._forward is None or self._backward is None:
            apply = self._apply
            self._forward = jax.jit(lambda params, x: jax.vjp(lambda v: apply(params, v), x))
            self._backward = jax.jit(lambda pull, weights: pull(weights)[0])
        outputs, pulls = [], []
        for part, size in _padded(x):
            y, pull = self._forward(self._params, part)
            outputs.append(np.asarray(y)[:size])
            pulls.append(pull)
        logits = np.concatenate(outputs)
        gradients = []
        weights = cotangent(logits.astype(np.float32)).astype(logits.dtype)
        for (part, size), pull in zip(_padded(weights), pulls, strict=True):
            gradients.append(np.asarray(self._backward(pull, part))[:size])
        return logits.astype(np.float32), np.concatenate(gradients)

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 outputs [n, ...] for inputs [n, ...], n >= 1."""
        import jax

        if self._compiled is None:
            self._compiled = jax.jit(self._apply)
        outputs = []
        for part, size in _padded(x):
            y = np.asarray(self._compiled(self._params, part), dtype=np.float32)
            outputs.append(y[:size])
        return np.concatenate(outputs)


def _padded(x: NDArray[Any]) -> Iterator[tuple[NDArray[Any], int]]:
    """Cut a batch into parts of the sizes that are compiled, each with how many rows are used."""
    for start in range(0, len(x), BUCKETS[-1]):
        part = x[start : start + BUCKETS[-1]]
        padded = np.zeros((next(b for b in BUCKETS if b >= len(part)), *x.shape[1:]), x.dtype)
        padded[: len(part)] = part
        yield padded, len(part)
