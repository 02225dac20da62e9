"""Custom attacks in JAX: the user's step, the model and its gradient are one jitted call."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..errors import InputError
from . import scheduler
from .apgd_jax import _margin
from .base import EXHAUSTED, FAILED, FOUND, Found
from .custom import CLEAR, limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .base import Problem
    from .custom import Custom
    from .target import Target

_OWN = "state."
"""Prefix of the user's arrays among those of a row."""


@dataclass(eq=False)
class Rows:
    """What `init` and `step` see of the samples: JAX arrays, one row a sample."""

    x: Any
    """Clean inputs [rows, *input_shape]."""
    y: Any
    """Labels [rows], int32."""
    lower: Any
    """Lowest value of every coordinate that the threat model allows [rows, *input_shape]."""
    upper: Any
    """Highest value of every coordinate that the threat model allows [rows, *input_shape]."""
    norm: str
    """linf, l2, l1 or box."""
    eps: float
    """Radius; infinite for a box."""
    step: Any
    """How many points of each row have been evaluated [rows]; rows may differ."""
    key: Any
    """A random key a row [rows], fresh in every step."""
    _draws: int = 0

    def random(self) -> Any:
        """Return fresh numbers, uniform in [-1, 1), [rows, *input_shape]."""
        import jax

        return self._draw(partial(jax.random.uniform, minval=-1.0, maxval=1.0))

    def normal(self) -> Any:
        """Return fresh standard normal numbers [rows, *input_shape]."""
        import jax

        return self._draw(jax.random.normal)

    def margins(self, logits: Any) -> Any:
        """Return z_y - max_{i != y} z_i [rows]: negative is adversarial; inf where undefined."""
        return _margin(logits, self.y)[0]

    def _draw(self, generator: Any) -> Any:
        import jax

        self._draws += 1
        keys = jax.vmap(lambda key: jax.random.fold_in(key, self._draws))(self.key)
        return jax.vmap(lambda key: generator(key, self.x.shape[1:]))(keys)


def run(custom: Custom, target: Target, problem: Problem, restart: int) -> Found:
    """Attack every sample of the problem once.

    Raises:
        InputError: `init` or `step` return something that is no state.
    """
    function = target.model.jax_function()
    assert function is not None  # noqa: S101 - `unsupported` says so
    kernel = _Kernel(custom, function, problem, restart)
    kernel.check(scheduler.bucket_for(len(problem), target.batch))
    found = kernel.found
    try:
        scheduler.run(kernel, len(problem), target.batch)
    except Exception as error:
        # XLA runs a batch or it does not: every sample without an outcome has failed.
        target.fail(error, int((~kernel.ended).sum()))
        found.status[~kernel.ended] = FAILED
    return found


class _Kernel:
    """The rows of one run, as the scheduler advances them."""

    def __init__(
        self, custom: Custom, function: tuple[Any, Any], problem: Problem, restart: int
    ) -> None:
        import jax

        apply, params = function
        self.custom = custom
        self.problem = problem
        self.found = Found.nothing(problem)
        self.ended = np.zeros(len(problem), np.bool_)
        self._lower, self._upper = limits(problem)
        self._keys = _keys(problem, custom.name, restart)
        norm = problem.threat.norm
        self._about = (norm, np.inf if norm == "box" else float(problem.region["eps"]))
        self._init, step = _compiled()
        self._step = partial(step, custom, apply, self._about, jax.device_put(params))

    def check(self, size: int) -> None:
        """Trace a batch of `size`, so that mistakes are told before anything is spent."""
        import jax

        jax.eval_shape(self._step, self.start(np.zeros(size, np.int64)))

    def start(self, items: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        n = len(items)
        rows = {
            "clean": self.problem.x[items],
            "label": self.problem.y[items].astype(np.int32),
            "lower": self._lower[items],
            "upper": self._upper[items],
            "key": self._keys[items],
            "iteration": np.zeros(n, np.int32),
        }
        # Padded to a bucket: XLA compiles once a shape.
        size = max(n, scheduler.bucket_for(n, scheduler.BUCKETS[-1]))
        padded = {k: np.concatenate([v, v[:1].repeat(size - n, 0)]) for k, v in rows.items()}
        own = {
            k: np.asarray(v)[:n] for k, v in self._init(self.custom, self._about, padded).items()
        }
        return {
            **rows,
            **own,
            "adversarial": rows["clean"],
            "margin": np.full(n, np.inf, np.float32),
            "not_finite": np.zeros(n, np.bool_),
            "done": np.zeros(n, np.bool_),
        }

    def step(self, state: dict[str, Any]) -> dict[str, Any]:
        # Natively and not under JAX: exact in every norm, so what is evaluated is what is allowed.
        points = np.ascontiguousarray(state[_OWN + "x"], np.float32)
        # Places without work hold zeros, which need not be an allowed clean input.
        idle = _column(np.asarray(state["done"]), points)
        clean = np.where(idle, self.problem.x[:1], np.asarray(state["clean"]))
        points = _core.project(clean, points, **self.problem.region)
        result: dict[str, Any] = self._step({**state, _OWN + "x": points})
        return result

    def collect(self, items: NDArray[np.int64], state: dict[str, NDArray[Any]]) -> None:
        found, spent = self.found, state["iteration"]
        margin = state["margin"].astype(np.float64)
        found.x[items] = state["adversarial"]
        found.margin[items] = margin
        failed = np.where(state["not_finite"], FAILED, EXHAUSTED)
        found.status[items] = np.where(margin < 0, FOUND, failed)
        if self.custom.notes.get("differentiates"):
            found.forwards[items] = spent
            found.gradients[items] = spent
        else:
            found.queries[items] = spent
        self.ended[items] = True


@cache
def _compiled() -> tuple[Callable[..., dict[str, Any]], Callable[..., dict[str, Any]]]:
    import jax

    return (
        jax.jit(_init, static_argnums=(0, 1)),
        jax.jit(_step, static_argnums=(0, 1, 2)),
    )


def _rows(about: tuple[str, float], state: dict[str, Any], turn: int) -> Rows:
    """Return what the user sees; keys of `init` and of every step are their own."""
    import jax

    def fresh(data: Any, iteration: Any) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(data), iteration)
        return jax.random.fold_in(key, turn)

    norm, eps = about
    return Rows(
        x=state["clean"],
        y=state["label"],
        lower=state["lower"],
        upper=state["upper"],
        norm=norm,
        eps=eps,
        step=state["iteration"],
        key=jax.vmap(fresh)(state["key"], state["iteration"]),
    )


def _init(custom: Custom, about: tuple[str, float], state: dict[str, Any]) -> dict[str, Any]:
    return _own(custom, "init", custom.attack.init(_rows(about, state, 0)), state["clean"].shape)


def _step(
    custom: Custom,
    apply: Callable[[Any, Any], Any],
    about: tuple[str, float],
    params: Any,
    state: dict[str, Any],
) -> dict[str, Any]:
    """Evaluate every row at its point, then let the user move the rows that go on."""
    import jax
    import jax.numpy as jnp

    x = state[_OWN + "x"]
    logits, vjp = jax.vjp(lambda points: apply(params, points).astype(jnp.float32), x)
    custom.notes["differentiates"] = False

    def pull(cotangent: Any) -> Any:
        custom.notes["differentiates"] = True
        return vjp(jnp.asarray(cotangent, jnp.float32))[0]

    margin, valid = _margin(logits, state["label"])
    better = margin < state["margin"]
    best = jnp.where(better, margin, state["margin"])
    scale = jnp.max(jnp.where(jnp.isfinite(logits), jnp.abs(logits), 0), axis=1)
    iteration = state["iteration"] + 1
    rows = _rows(about, state, 1)
    rows.step = iteration
    before = {k[len(_OWN) :]: v for k, v in state.items() if k.startswith(_OWN)}
    after = custom.attack.step(before, rows, logits, pull)
    own = _own(custom, "step", after, x.shape)
    if set(own) != {_OWN + k for k in before}:
        raise InputError(
            f"attack {custom.name!r}: step returned {sorted(after)}, init {sorted(before)}; "
            "the keys must stay"
        )
    for key, value in own.items():
        if value.shape != state[key].shape:
            raise InputError(
                f"attack {custom.name!r}: step turns state[{key[len(_OWN) :]!r}] of shape "
                f"{list(state[key].shape)} into {list(value.shape)}; shapes must stay"
            )
    new = {
        **{key: value.astype(state[key].dtype) for key, value in own.items()},
        "margin": best,
        "adversarial": jnp.where(_column(better, x), x, state["adversarial"]),
        "not_finite": state["not_finite"] | ~valid,
        "iteration": iteration,
        "done": (iteration == custom.budget) | ~valid | (best < -CLEAR * scale),
    }
    keep = state["done"]
    kept = {k: jnp.where(_column(keep, v), state[k], v) for k, v in new.items()}
    return {**state, **kept}


def _own(custom: Custom, where: str, returned: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the user's state with its prefix.

    Raises:
        InputError: not a dict of arrays with a point `x` a row.
    """
    import jax.numpy as jnp

    usable = isinstance(returned, dict) and all(isinstance(key, str) for key in returned)
    found = {key: jnp.asarray(value) for key, value in returned.items()} if usable else {}
    if "x" not in found or found["x"].shape != shape:
        raise InputError(
            f'attack {custom.name!r}: {where} must return a dict whose "x" holds the next point of '
            f"every row, {list(shape)}"
        )
    for key, value in found.items():
        if value.ndim < 1 or len(value) != shape[0]:
            raise InputError(
                f"attack {custom.name!r}: {where} returned {key!r} of shape {list(value.shape)}, "
                f"expected one row a sample: [{shape[0]}, ...]"
            )
    found["x"] = found["x"].astype(jnp.float32)
    return {_OWN + key: value for key, value in found.items()}


def _column(mask: Any, like: Any) -> Any:
    return mask.reshape(-1, *[1] * (like.ndim - 1))


def _keys(problem: Problem, name: str, restart: int) -> NDArray[np.uint32]:
    """Return a random key a sample [m, 2], of everything its numbers are keyed by."""
    prefix = hashlib.blake2b(f"{problem.seed} {restart} {name}".encode(), digest_size=32).digest()
    data = [
        hashlib.blake2b(prefix + int(i).to_bytes(8, "little"), digest_size=8).digest()
        for i in problem.ids
    ]
    return np.frombuffer(b"".join(data), np.uint32).reshape(-1, 2)
