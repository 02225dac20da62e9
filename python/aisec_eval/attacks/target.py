"""The model as attacks use it: which backend runs it, in what batches, and what goes wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from .._core import get_threads
from ..errors import CapabilityError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ..models import Model
    from ..models.jit import Jitted

Backend = Literal["auto", "native", "jax"]

BATCH = 256
"""Samples evaluated together where nothing else is asked for: fast and small on CPUs."""


@dataclass
class Target:
    """A model on one backend.

    `kind` says where gradients come from: native (the graph), jax, own (`Model.value_and_vjp`) or
    callable (there are none).
    """

    model: Model
    kind: Literal["native", "jax", "own", "callable"]
    batch: int
    """Most samples evaluated together."""
    messages: dict[str, int] = field(default_factory=dict)
    """How many samples failed, by what happened."""
    draws: int = 1
    """Calls that logits and gradients are averaged over: the expectation of a randomised model."""
    random: bool = False
    """Whether equal calls are known to differ."""
    _jitted: Jitted | None = None

    @staticmethod
    def of(
        model: Model,
        backend: Backend,
        *,
        batch_size: int | None = None,
        memory_limit: int | None = None,
    ) -> Target:
        """Choose the backend and the batch.

        Raises:
            InputError: an unknown backend.
            CapabilityError: the model does not offer the backend asked for.
        """
        if backend not in ("auto", "native", "jax"):
            raise InputError(f"backend={backend!r} is unknown; choose auto, native or jax")
        function = None
        if backend == "native" and model.graph is None:
            raise CapabilityError(
                f"model {model.name!r} has no native graph; use backend='auto' or 'jax'"
            )
        native = model.graph is not None and backend != "jax"
        if not native:
            function = model.jax_function()
            if backend == "jax" and function is None:
                raise CapabilityError(
                    f"model {model.name!r} has no JAX function; use backend='auto'"
                )
        batch = _batch(model, batch_size, memory_limit)
        if native:
            return Target(model, "native", batch)
        if function is None:
            return Target(model, "own" if model.capabilities.gradient else "callable", batch)
        from ..models.jit import Jitted

        return Target(model, "jax", batch, _jitted=Jitted(*function))

    @property
    def can_differ(self) -> bool:
        """Whether equal calls could differ: not those of graphs and JAX functions."""
        return self.kind in ("own", "callable")

    @property
    def lane(self) -> int:
        """Most samples one native thread evaluates together."""
        return max(1, math.ceil(self.batch / get_threads()))

    def expected(self, draws: int) -> Target:
        """Return the same model averaged over `draws` calls, where calls can differ."""
        return replace(self, draws=draws if self.can_differ else 1)

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits [n, num_classes]; NaN for samples on which the model fails.

        Of a model that returns labels only: 1 for the label, 0 for the other classes.

        When a batch raises, its samples are tried one by one, so that one bad sample costs the
        others nothing. What went wrong is kept in `messages`.
        """
        n, classes = len(x), self.model.num_classes
        result = np.empty((n, classes), np.float32)
        for start in range(0, n, self.batch):
            part = x[start : start + self.batch]
            rows = result[start : start + self.batch]
            try:
                rows[:] = self._call(part)
            except Exception as error:
                if len(part) == 1:
                    self.fail(error, 1)
                    rows[:] = np.nan
                    continue
                for i in range(len(part)):
                    try:
                        rows[i : i + 1] = self._call(part[i : i + 1])
                    except Exception as single:
                        self.fail(single, 1)
                        rows[i] = np.nan
        return result

    def _call(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        expected = (len(x), self.model.num_classes)
        if not self.model.capabilities.scores:
            labels = self.model.labels(x)
            return np.equal.outer(labels, np.arange(expected[1])).astype(np.float32)
        call = self._jitted or self.model.logits
        logits = _shaped("logits", call(x), expected)
        if self.draws > 1:
            more = (_shaped("logits", call(x), expected) for _ in range(self.draws - 1))
            return _mean(np.stack([logits, *more]).astype(np.float64))
        return logits

    def gradient(
        self,
        x: NDArray[np.float32],
        cotangent: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """Return the input gradient [n, *input_shape] of `sum(logits * cotangent(logits))`.

        `cotangent` is called once, with the logits of all samples: NaN for samples on which the
        model fails, whose gradient is zero. As in `logits` one bad sample costs the others
        nothing.
        """
        pulled: NDArray[np.float32] | None = None
        if self.draws > 1:
            return self._mean_gradient(x, cotangent(self.logits(x)))

        def once(logits: NDArray[np.float32]) -> NDArray[np.float32]:
            nonlocal pulled
            pulled = cotangent(_shaped("logits", logits, (len(x), self.model.num_classes)))
            return pulled

        call = self.model.value_and_vjp if self._jitted is None else self._jitted.value_and_vjp
        try:
            return np.require(_shaped("a gradient", call(x, once)[1], x.shape), None, ["C", "W"])
        except Exception:
            if pulled is None:
                # No batch gave logits; a fault of `cotangent` itself is raised again here.
                pulled = cotangent(self.logits(x))
        gradient = np.zeros_like(x)
        for i in np.flatnonzero(np.isfinite(pulled).all(axis=1)):
            try:
                _, value = call(x[i : i + 1], partial(_given, pulled[i : i + 1]))
                gradient[i : i + 1] = _shaped("a gradient", value, (1, *x.shape[1:]))
            except Exception as single:
                self.fail(single, 1)
        return gradient

    def _mean_gradient(
        self, x: NDArray[np.float32], pulled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the mean of fresh draws' pull-backs of cotangents that are given."""
        once = replace(self, draws=1)
        total = np.zeros(x.shape, np.float64)
        for _ in range(self.draws):
            total += once.gradient(x, partial(_given, pulled))
        return (total / self.draws).astype(np.float32)

    def fail(self, error: Exception, samples: int) -> None:
        """Count a failure of the model on some samples."""
        message = _line(error)
        self.messages[message] = self.messages.get(message, 0) + samples


def _mean(draws: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the mean of draws [draws, n, classes] with the lead of the largest logit cut.

    A search ends at the first point whose margin is negative, and of many noisy means the first
    is one of luck. So the largest logit loses two standard errors of its lead over the second,
    but never the lead itself: what still looks misclassified is so with some confidence.
    """
    mean = draws.mean(axis=0)
    rows = np.arange(len(mean))
    second, first = np.argsort(mean, axis=1, kind="stable")[:, -2:].T
    with np.errstate(invalid="ignore"):
        lead = draws[:, rows, first] - draws[:, rows, second]
        doubt = 2 * lead.std(axis=0, ddof=1) / math.sqrt(len(draws))
        mean[rows, first] = np.maximum(mean[rows, second], mean[rows, first] - doubt)
    return np.asarray(mean, np.float32)


def _given(cotangent: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    del logits
    return cotangent


def _shaped(what: str, value: Any, expected: tuple[int, ...]) -> NDArray[np.float32]:
    array = np.asarray(value)
    if array.shape != expected:
        raise ValueError(f"returned {what} of shape {list(array.shape)}, expected {list(expected)}")
    return cast("NDArray[np.float32]", array.astype(np.float32, copy=False))


def _line(error: Exception) -> str:
    """Return type and message of an exception in one line of at most 200 characters."""
    text = " ".join(str(error).split())
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= 200 else line[:199] + "…"


def _batch(model: Model, batch_size: int | None, memory_limit: int | None) -> int:
    batch = BATCH if batch_size is None else batch_size
    if memory_limit is not None:
        batch = min(batch, max(1, memory_limit // _bytes_per_sample(model)))
    if model.capabilities.max_batch is not None:
        batch = min(batch, model.capabilities.max_batch)
    return batch


def _bytes_per_sample(model: Model) -> int:
    """Estimate what one sample under attack holds: search state and, twice, every activation.

    Without a graph the activations are unknown; sixteen times the input stands for them.
    """
    inputs = math.prod(model.input_shape)
    graph = model.graph
    activations = 16 * inputs
    if graph is not None:
        activations = sum(math.prod(graph.node_shape(i)) for i in range(graph.num_nodes))
    return 4 * (10 * inputs + 2 * activations + 4 * model.num_classes)
