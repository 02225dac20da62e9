"""APGD through JAX: one whole step of a batch is one jitted call, state stays on the device.

The same algorithm, starts and limits as the native search (`rust/search/src/apgd.rs`), every row
with its own iteration count so that places can be refilled at any time.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from . import scheduler
from .base import EXHAUSTED, FAILED, FOUND, Found

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .apgd import APGD
    from .base import Problem
    from .target import Target

RHO = 0.75
MOMENTUM = 0.75
CLEAR = 2.0**-12
LATE = 10
"""Steps at the end of a run that tell whether it has come to rest, see `Found.late`."""
SLACK = 2.0**-20
"""L2 points are placed this far, relatively, inside the ball: float32 rounding stays inside."""


def checkpoints(steps: int) -> tuple[int, ...]:
    """Return after which iterations the step size is reconsidered (22 %, then 3 % shorter each)."""
    found, at, window = [], 0, max(steps * 22 // 100, 1)
    while at + window <= steps:
        at += window
        found.append(at)
        window = max(window - max(steps * 3 // 100, 1), max(steps * 6 // 100, 1))
    return tuple(found)


def run(attack: APGD, target: Target, problem: Problem, restart: int) -> Found:
    """Attack every sample of the problem once."""
    function = target.model.jax_function()
    assert function is not None  # noqa: S101 - `kind` says so
    kernel = _Kernel(attack, function, problem, restart)
    found = kernel.found
    try:
        scheduler.run(kernel, len(problem), target.batch)
    except Exception as error:
        # XLA runs a batch or it does not: every sample without an outcome has failed.
        target.fail(error, int((~kernel.ended).sum()))
        found.status[~kernel.ended] = FAILED
        return found
    found.x[:] = _core.project(problem.x, found.x, **problem.region)
    return found


class _Kernel:
    """The rows of one APGD run, as the scheduler advances them."""

    def __init__(
        self, attack: APGD, function: tuple[Any, Any], problem: Problem, restart: int
    ) -> None:
        import jax

        apply, params = function
        self.problem = problem
        self.found = Found.nothing(problem)
        self.ended = np.zeros(len(problem), np.bool_)
        self._restart = restart
        self._name = attack.name
        self._step = partial(
            _compiled(),
            apply,
            attack.loss,
            problem.threat.norm,
            attack.steps,
            not attack.to_the_end,
            jax.device_put(params),
            np.float32(problem.region["eps"]),
        )

    def start(self, items: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        problem = self.problem.take(items)
        x, lower, upper = _core.apgd_start(
            problem.x,
            problem.ids,
            **problem.region,
            seed=problem.seed,
            restart=self._restart,
            attack=self._name,
        )
        n = len(items)
        minus = np.full(n, -np.inf, np.float32)
        zeros = np.zeros(n, np.int32)
        return {
            "clean": problem.x,
            "label": problem.y.astype(np.int32),
            "lower": lower,
            "upper": upper,
            "x": x,
            "previous": x,
            "best": x,
            "best_gradient": np.zeros_like(x),
            "best_loss": minus,
            "last_loss": minus,
            "loss_at_checkpoint": minus,
            "adversarial": problem.x,
            "margin": -minus,
            "margin_before": -minus,
            "not_finite": np.zeros(n, np.bool_),
            "step": np.full(n, 2.0, np.float32),
            "iteration": zeros,
            "increases": zeros,
            "window_start": zeros,
            "halved": np.ones(n, np.bool_),
            "done": np.zeros(n, np.bool_),
        }

    def step(self, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, **self._step(state)}

    def collect(self, items: NDArray[np.int64], state: dict[str, NDArray[Any]]) -> None:
        found = self.found
        margin = state["margin"].astype(np.float64)
        with np.errstate(invalid="ignore"):
            late = state["margin_before"].astype(np.float64) - margin
        found.x[items] = state["adversarial"]
        found.margin[items] = margin
        failed = np.where(state["not_finite"], FAILED, EXHAUSTED)
        found.status[items] = np.where(margin < 0, FOUND, failed)
        # Every evaluation of a row, the start included, is one forward and one gradient.
        found.forwards[items] = state["iteration"]
        found.gradients[items] = state["iteration"]
        found.late[items] = np.where(margin < 0, np.nan, late)
        self.ended[items] = True


@cache
def _compiled() -> Callable[..., dict[str, Any]]:
    import jax

    return jax.jit(_step, static_argnums=(0, 1, 2, 3, 4))


def _step(
    apply: Callable[[Any, Any], Any],
    loss: str,
    norm: str,
    steps: int,
    stops: bool,
    params: Any,
    eps: Any,
    state: dict[str, Any],
) -> dict[str, Any]:
    """Evaluate every row at its point, then move the rows that go on; returns what changed."""
    import jax
    import jax.numpy as jnp

    def column(v: Any) -> Any:
        return v.reshape(-1, *[1] * (state["x"].ndim - 1))

    x, label, iteration = state["x"], state["label"], state["iteration"]

    def total(points: Any) -> tuple[Any, tuple[Any, Any]]:
        logits = apply(params, points).astype(jnp.float32)
        value, scaled = _loss(loss, logits, label)
        return scaled.sum(), (logits, value)

    gradient, (logits, value) = jax.grad(total, has_aux=True)(x)
    margin, valid = _margin(logits, label)
    value = jnp.where(valid, value, -jnp.inf)

    better = margin < state["margin"]
    new = {
        "not_finite": state["not_finite"] | ~valid,
        "margin": jnp.where(better, margin, state["margin"]),
        "adversarial": jnp.where(column(better), x, state["adversarial"]),
    }
    # The first comparison of a run is with zero, as in the reference implementation;
    # cross-entropy is always above it.
    first = valid if loss == "ce" else value > 0
    increased = jnp.where(iteration == 1, first, value > state["last_loss"]) & (iteration > 0)
    increases = state["increases"] + increased
    is_best = value > state["best_loss"]
    best_loss = jnp.where(is_best, value, state["best_loss"])
    best = jnp.where(column(is_best), x, state["best"])
    best_gradient = jnp.where(column(is_best), gradient, state["best_gradient"])

    new["margin_before"] = jnp.where(
        iteration == steps - min(LATE, (steps + 1) // 2), new["margin"], state["margin_before"]
    )
    scale = jnp.max(jnp.where(jnp.isfinite(logits), jnp.abs(logits), 0), axis=1)
    point = jnp.all((state["lower"] == state["upper"]).reshape(len(label), -1), axis=1)
    if norm != "box":
        point = point | (eps == 0)
    done = (iteration == steps) | point
    if stops:
        done = done | (new["margin"] < -CLEAR * scale)

    marks = jnp.asarray(checkpoints(steps) or (-1,))
    at = jnp.any(iteration[:, None] == marks[None, :], axis=1)
    window = iteration - state["window_start"]
    oscillates = increases <= RHO * window
    stalls = ~state["halved"] & (state["loss_at_checkpoint"] >= best_loss)
    halve = at & (oscillates | stalls)
    step = jnp.where(halve, state["step"] / 2, state["step"])
    base = jnp.where(column(halve), best, x)
    gradient = jnp.where(column(halve), best_gradient, gradient)

    limits = (state["clean"], state["lower"], state["upper"], eps, norm)
    if norm == "l2":
        axes = tuple(range(1, gradient.ndim))
        largest = jnp.max(jnp.abs(gradient), axis=axes, keepdims=True)
        scaled = jnp.where(largest > 0, gradient / jnp.where(largest > 0, largest, 1), 0)
        direction = scaled / jnp.maximum(_length(scaled), 1)
        move = column(step) * eps * direction
    else:
        radius = eps if norm == "linf" else 0.5 * (state["upper"] - state["lower"])
        move = column(step) * radius * jnp.nan_to_num(jnp.sign(gradient))
    target = _project(base + move, *limits)
    momentum = column(jnp.where(iteration == 0, 1.0, MOMENTUM))
    target = base + momentum * (target - base) + (1 - momentum) * (base - state["previous"])
    new |= {
        "x": _project(target, *limits),
        "previous": base,
        "best": best,
        "best_gradient": best_gradient,
        "best_loss": best_loss,
        "last_loss": value,
        "loss_at_checkpoint": jnp.where(at, best_loss, state["loss_at_checkpoint"]),
        "step": step,
        "increases": jnp.where(at, 0, increases),
        "window_start": jnp.where(at, iteration, state["window_start"]),
        "halved": jnp.where(at, oscillates | stalls, state["halved"]),
        "iteration": iteration + 1,
        "done": done,
    }
    keep = state["done"]
    return {
        key: jnp.where(keep.reshape(-1, *[1] * (value.ndim - 1)), state[key], value)
        for key, value in new.items()
    }


def _margin(logits: Any, label: Any) -> tuple[Any, Any]:
    """Return z_y - max_{i != y} z_i, +inf where it is undefined, and whether it is defined."""
    import jax.numpy as jnp

    own, other = _own_and_other(logits, label)
    valid = ~jnp.any(jnp.isnan(logits) | (logits == jnp.inf), axis=1)
    valid = valid & jnp.isfinite(own) & jnp.isfinite(other)
    return jnp.where(valid, own - other, jnp.inf), valid


def _own_and_other(logits: Any, label: Any) -> tuple[Any, Any]:
    import jax.numpy as jnp

    is_label = jnp.arange(logits.shape[1])[None, :] == label[:, None]
    own = jnp.sum(jnp.where(is_label, logits, 0), axis=1)
    return own, jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=1)


def _loss(loss: str, logits: Any, label: Any) -> tuple[Any, Any]:
    """Return the loss to compare and the loss to differentiate, one a row.

    As in `rust/search/src/loss.rs`, cross-entropy is represented by log(sum_{i != y} exp(z_i -
    z_y)), which increases with it, points the same way and does not saturate.
    """
    import jax
    import jax.numpy as jnp

    own, other = _own_and_other(logits, label)
    if loss == "ce":
        is_label = jnp.arange(logits.shape[1])[None, :] == label[:, None]
        value = jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits), axis=1) - own
        return value, value
    if loss == "dlr" and logits.shape[1] > 2:
        top = jax.lax.top_k(logits, 3)[0]
        value = (other - own) / (top[:, 0] - top[:, 2] + 1e-12)
        return value, value
    return other - own, other - own


def _length(v: Any) -> Any:
    import jax.numpy as jnp

    return jnp.sqrt(jnp.sum(v * v, axis=tuple(range(1, v.ndim)), keepdims=True))


def _project(point: Any, clean: Any, lower: Any, upper: Any, eps: Any, norm: str) -> Any:
    """Scale into the L2 ball where that is the norm, then clip; NaN returns to the clean input."""
    import jax.numpy as jnp

    if norm == "l2":
        delta = point - clean
        length = _length(delta)
        radius = eps * (1 - SLACK)
        point = jnp.where(length > radius, clean + delta * (radius / length), point)
    return jnp.where(jnp.isnan(point), clean, jnp.clip(point, lower, upper))
