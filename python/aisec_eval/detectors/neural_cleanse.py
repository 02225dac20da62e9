"""Neural Cleanse: the smallest trigger that sends every sample to a class, for each class.

Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE
S&P 2019. A class that a much smaller trigger leads to than to the others is the target of a
backdoor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._validate import check_count, check_inputs, check_labels, check_seed
from ..errors import CapabilityError, InputError
from ..models.base import Model
from .calibrate import leave_one_out
from .extract import activations
from .nulls import LEAST_CLASSES, LEVEL, anomaly_index, check_bounds
from .passes import physical_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl
    from numpy.typing import NDArray

    from .passes import Progress

SUCCESS = 0.99
"""Share of samples of other classes that a trigger must send to its class."""
PAPER_INDEX = 2.0
_RATE = 0.1
_MOMENTS = 0.5, 0.9
_FIRST_WEIGHT = 1e-3
_FACTOR = 2.0
_PATIENCE = 5
_CHECK = 25
_GAIN = 0.99
_STREAM = 0x434C45414E5345

NULL = (
    "the norms of the triggers of all classes, their medians over the seeds, are log-normal with a "
    "common mean and variance; each class is tested for a smaller one than the others have (leave "
    "one out, Student's t; Bonferroni). Several targets hide each other"
)


@dataclass(frozen=True, eq=False)
class CleanseResult:
    """The smallest trigger found for each class, and which class it is too small for."""

    classes: NDArray[np.int64]
    """[c]."""
    norm: NDArray[np.float64]
    """Sum of the mask of the smallest trigger that works [seeds, c]; of a mask of ones where none
    was found."""
    success: NDArray[np.float64]
    """Share of samples of other classes that it sends to the class [seeds, c]."""
    index: NDArray[np.float64]
    """Signed anomaly index of each seed [seeds, c]: `(median - norm) / (1.4826 * MAD)` over the
    classes; the paper suspects a class from 2 on."""
    p_value: NDArray[np.float64]
    """Of each class [c]; NaN where too few classes are there to compare."""
    flagged: NDArray[np.bool_]
    """Classes that are targets of a backdoor [c]."""
    mask: NDArray[np.float32]
    """Of the seed with the smallest norm [c, *input_shape], in [0, 1], without the axis of the
    channels where there is one."""
    pattern: NDArray[np.float32]
    """What the mask puts there [c, *input_shape], in the input range."""
    info: Mapping[str, Any]
    """Null, verdict on the dataset, options."""

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row a class.

        Columns: class, norm and anomaly_index (of the median norm over the seeds), index_low and
        index_high (the range over the seeds), success (the least), p_value, flagged.
        """
        import polars as pl

        return pl.DataFrame(
            {
                "class": self.classes,
                "norm": np.median(self.norm, axis=0),
                "anomaly_index": -np.array(anomaly_index(np.median(self.norm, axis=0))),
                "index_low": self.index.min(axis=0),
                "index_high": self.index.max(axis=0),
                "success": self.success.min(axis=0),
                "p_value": self.p_value,
                "flagged": self.flagged,
            }
        )


def neural_cleanse(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    seeds: int = 3,
    samples: int = 128,
    steps: int = 400,
    channels: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    memory_limit: int | None = None,
    progress: Progress = None,
) -> CleanseResult:
    """Look for the smallest trigger of each class, `(1 - mask) * x + mask * pattern`.

    Masks and patterns of all classes and seeds descend together (Adam) on the cross entropy to
    their class plus `weight * sum(mask)`. The weight of each grows while 99 % of the samples are
    sent to the class and shrinks while they are not; the smallest mask that did so is kept.

    Args:
        model: a model that JAX runs.
        x: samples without triggers [n, *input_shape] in `bounds`, of several classes.
        y: their labels [n]; the predicted classes when None.
        seeds: how often all is repeated, from other starts and on other samples of `x`.
        samples: at most how many samples are used a time.
        steps: most gradient steps; fewer where nothing is gained any more.
        channels: axis of the channels in `input_shape`, for which one mask serves all; the first or
            last of three axes, whichever is shorter, when None.
        bounds: lowest and highest input value.
        seed: chooses starts and samples.
        memory_limit: bytes for the activations of all that descends together; classes take turns
            where they do not fit.
        progress: called as `progress(steps done, steps at most, note)`.

    Raises:
        CapabilityError: JAX cannot run the model.
        InputError: samples, labels or options do not fit.
    """
    if not isinstance(model, Model):
        raise InputError(f"model={type(model).__name__} is no Model; load it: ae.load_model(...)")
    function = model.jax_function()
    if function is None:
        raise CapabilityError(
            f"model {model.name!r}: triggers are found by gradients through JAX, which cannot run "
            "it; load an ONNX export of it"
        )
    inputs = check_inputs(x, model.input_shape)
    bounds = check_bounds(bounds)
    if inputs.min() < bounds[0] or inputs.max() > bounds[1]:
        raise InputError(
            f"x ranges over [{inputs.min():g}, {inputs.max():g}], outside bounds={bounds}"
        )
    known = model.labels(inputs) if y is None else check_labels(y, len(inputs), model.num_classes)
    seeds, samples = check_count("seeds", seeds), check_count("samples", samples)
    steps, seed = check_count("steps", steps), check_seed(seed)
    if len(np.unique(known)) < 2:
        raise InputError("x holds samples of one class only; give some of at least two")
    axis = _channel_axis(model.input_shape, channels)
    shape = tuple(1 if i == axis else n for i, n in enumerate(model.input_shape))
    tasks = [(s, c) for s in range(seeds) for c in range(model.num_classes)]
    count = min(samples, len(inputs))
    # Activations are kept for the gradient, and there is one of each.
    each = 3 * count * activations(model)
    limit = memory_limit if memory_limit is not None else physical_memory() // 4
    together = max(1, min(len(tasks), limit // max(1, each)))
    # Parts of one size, so that one program serves all.
    together = -(-len(tasks) // -(-len(tasks) // together))
    found: list[_Best] = []
    parts = [tasks[i : i + together] for i in range(0, len(tasks), together)]
    for number, part in enumerate(parts):
        filled = [*part, *part[:1] * (together - len(part))]
        sizes = count, model.num_classes
        descent = _Descent(function, inputs, known, filled, shape, sizes, bounds, seed)

        def tell(done: int, first: int = number * steps) -> None:
            if progress is not None:
                progress(first + done, len(parts) * steps, "triggers")

        best = descent.run(steps, tell)
        found.append(_Best(*(value[: len(part)] for value in best)))
    mask, pattern, norm, success = (
        np.concatenate(values).reshape(seeds, model.num_classes, *values[0].shape[1:])
        for values in zip(*found, strict=True)
    )
    norm = np.where(success >= SUCCESS, norm, float(np.prod(shape))).astype(np.float64)
    return _result(model, mask, pattern, norm, success, axis, {"samples": count, "seed": seed})


class _Best(NamedTuple):
    """The smallest triggers that worked, of tasks; where none did, the most successful ones."""

    mask: Any
    pattern: Any
    norm: Any
    success: Any


class _Descent:
    """Triggers of several tasks (seed, class) that descend together."""

    def __init__(
        self,
        function: tuple[Callable[[Any, Any], Any], Any],
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        tasks: list[tuple[int, int]],
        shape: tuple[int, ...],
        sizes: tuple[int, int],
        bounds: tuple[float, float],
        seed: int,
    ) -> None:
        import jax

        count, classes = sizes

        self._apply, params = function
        self._params = jax.device_put(params)
        self._bounds = np.float32(bounds[0]), np.float32(bounds[1])
        starts, rows = {}, {}
        for number in sorted({s for s, _ in tasks}):
            # A stream of its own: poison may be planted by the same seed.
            key = seed + ((_STREAM + number) << 64)
            random = np.random.Generator(np.random.Philox(key=key))
            rows[number] = np.sort(random.permutation(len(x))[:count])
            starts[number] = tuple(
                random.standard_normal((classes, *sample)) for sample in (shape, x.shape[1:])
            )
        self._x = np.stack([x[rows[s]] for s, _ in tasks])
        self._target = np.array([c for _, c in tasks], np.int32)
        self._others = np.stack([y[rows[s]] != c for s, c in tasks]).astype(np.float32)
        k = len(tasks)
        zeros = np.zeros(k, np.float32)
        point = tuple(
            np.stack([starts[s][i][c] for s, c in tasks]).astype(np.float32) for i in range(2)
        )
        blank = tuple(np.zeros_like(p) for p in point)
        best = _Best(point[0] * 0 + 1, blank[1], np.full(k, np.inf, np.float32), zeros - 1)
        self._state = (point, blank, blank, zeros, zeros, zeros, best)

    def run(self, steps: int, tell: Callable[[int], None]) -> _Best:
        """Descend until nothing is gained any more; return the smallest triggers that worked."""
        step = _compiled()
        before = None
        for done in range(1, steps + 1):
            self._state = step(
                self._apply,
                self._params,
                self._x,
                self._target,
                self._others,
                self._bounds,
                np.float32(done),
                self._state,
            )
            if done % _CHECK == 0 or done == steps:
                norm = np.asarray(self._state[-1].norm)
                tell(done)
                # Two checks without a gain anywhere, of weights that had time to grow.
                if before is not None and (norm >= _GAIN * before[0]).all():
                    if before[1] and np.isfinite(norm).all():
                        tell(steps)
                        break
                    before = norm, True
                else:
                    before = norm, False
        return _Best(*(np.asarray(value) for value in self._state[-1]))


@cache
def _compiled() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def trigger(point: Any, bounds: Any) -> tuple[Any, Any]:
        mask, pattern = ((jnp.tanh(part) + 1) / 2 for part in point)
        return mask, bounds[0] + (bounds[1] - bounds[0]) * pattern

    def loss(
        point: Any, apply: Any, params: Any, x: Any, target: Any, others: Any, bounds: Any,
        weight: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        mask, pattern = trigger(point, bounds)
        k, b = others.shape
        stamped = (1 - mask)[:, None] * x + (mask * pattern)[:, None]
        logits = apply(params, stamped.reshape(k * b, *x.shape[2:])).astype(jnp.float32)
        log_p = jax.nn.log_softmax(logits, axis=1).reshape(k, b, -1)
        own = jnp.take_along_axis(log_p, target[:, None, None], axis=2)[..., 0]
        count = jnp.maximum(others.sum(axis=1), 1)
        entropy = -(others * own).sum(axis=1) / count
        hit = log_p.argmax(axis=2) == target[:, None]
        success = (others * hit).sum(axis=1) / count
        norm = mask.reshape(k, -1).sum(axis=1)
        return (entropy + weight * norm).sum(), (mask, pattern, norm, success)

    def step(
        apply: Any, params: Any, x: Any, target: Any, others: Any, bounds: Any, done: Any,
        state: Any,
    ) -> Any:  # fmt: skip
        point, mean, square, weight, up, down, best = state
        gradient, seen = jax.grad(loss, has_aux=True)(
            point, apply, params, x, target, others, bounds, weight
        )
        mask, pattern, norm, success = seen
        works = success >= SUCCESS
        # The smallest that works; before any does, the most successful.
        better = jnp.where(works, norm < best.norm, jnp.isinf(best.norm) & (success > best.success))
        kept = jnp.where(works, norm, jnp.inf)

        def choose(new: Any, old: Any) -> Any:
            return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        new = _Best(mask, pattern, kept, success)
        best = _Best(*(choose(a, b) for a, b in zip(new, best, strict=True)))
        up, down = jnp.where(works, up + 1, 0.0), jnp.where(works, 0.0, down + 1)
        grown = jnp.where(weight > 0, weight * _FACTOR, _FIRST_WEIGHT)
        weight = jnp.where(up >= _PATIENCE, grown, weight)
        weight = jnp.where(down >= _PATIENCE, weight / _FACTOR**1.5, weight)
        up, down = (jnp.where(c >= _PATIENCE, 0.0, c) for c in (up, down))
        first, second = _MOMENTS
        mean = tuple(first * m + (1 - first) * g for m, g in zip(mean, gradient, strict=True))
        square = tuple(
            second * v + (1 - second) * g * g for v, g in zip(square, gradient, strict=True)
        )
        point = tuple(
            p - _RATE * (m / (1 - first**done)) / (jnp.sqrt(v / (1 - second**done)) + 1e-8)
            for p, m, v in zip(point, mean, square, strict=True)
        )
        return point, mean, square, weight, up, down, best

    return jax.jit(step, static_argnums=0)


def _channel_axis(input_shape: tuple[int, ...], channels: int | None) -> int | None:
    """Return the axis along which masks are constant; None where there is none.

    Raises:
        InputError: `channels` is no axis.
    """
    if channels is None:
        if len(input_shape) != 3:
            return None
        return 0 if input_shape[0] <= input_shape[2] else 2
    if isinstance(channels, bool) or not 0 <= channels < len(input_shape):
        raise InputError(f"channels={channels!r} is no axis of inputs {list(input_shape)}")
    return channels


def _result(
    model: Model,
    mask: NDArray[np.float32],
    pattern: NDArray[np.float32],
    norm: NDArray[np.float64],
    success: NDArray[np.float32],
    axis: int | None,
    options: dict[str, Any],
) -> CleanseResult:
    seeds, classes = norm.shape
    middle = np.median(norm, axis=0)
    index = np.array([-np.array(anomaly_index(row)) for row in norm])
    p = np.full(classes, np.nan)
    dataset: dict[str, Any] = {"poisoned": False, "p": None, "level": LEVEL}
    notes = []
    if classes >= LEAST_CLASSES:
        p = leave_one_out(-np.log(middle))
        smallest = min(1.0, classes * float(p.min()))
        dataset |= {"poisoned": smallest < LEVEL, "p": smallest}
    else:
        notes.append(
            f"{classes} classes to compare: with fewer than {LEAST_CLASSES} the verdict cannot be "
            "calibrated, and there is none"
        )
    failed = np.flatnonzero((success < SUCCESS).all(axis=0)).tolist()
    if failed:
        notes.append(f"no trigger was found for classes {', '.join(map(str, failed))}")
    flagged = np.zeros(classes, np.bool_)
    if dataset["poisoned"]:
        flagged = classes * p < LEVEL
    smallest_seed = norm.argmin(axis=0)
    places = smallest_seed, np.arange(classes)
    return CleanseResult(
        classes=np.arange(classes, dtype=np.int64),
        norm=norm,
        success=success.astype(np.float64),
        index=index,
        p_value=p,
        flagged=flagged,
        mask=mask[places] if axis is None else mask[places].squeeze(axis + 1),
        pattern=pattern[places],
        info={
            "model": model.name,
            "null": NULL,
            "dataset": dataset,
            "target_classes": np.flatnonzero(flagged).tolist(),
            "paper": np.flatnonzero(index.min(axis=0) > PAPER_INDEX).tolist(),
            "seeds": seeds,
            **options,
            "notes": notes,
        },
    )
