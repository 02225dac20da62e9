"""Attacks of one's own: a plain class with `ask` and `tell` (numpy), or `init` and `step` (JAX).

The class says where to look next. What has to be right around it is done here: points are
projected into the threat model and evaluated in batches, budgets hold, samples stop at their first
success, and what is found goes through the same re-check as that of every other attack. See
docs/custom_attack.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._validate import check_count
from ..errors import InputError
from .base import EXHAUSTED, FAILED, FOUND, Found
from .replay import margins

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from numpy.typing import NDArray

    from ..threats import ThreatModel
    from .base import Problem
    from .target import Target

GROUP = "aisec_eval.attacks"
"""The entry point group where installed packages offer attacks by name."""
NORMS = ("linf", "l2", "l1", "box")
CLEAR = 2.0**-12
"""A margin this far below zero, relative to the largest logit, ends a sample's search."""


@dataclass(eq=False)
class Batch:
    """The samples an attack works on; every array's first axis is one row a sample.

    Samples that end leave: the next call may have fewer rows. `state` is the attack's own, a dict
    of arrays that lose the same rows.
    """

    x: NDArray[np.float32]
    """Clean inputs [rows, *input_shape], read only."""
    y: NDArray[np.int64]
    """Labels [rows]."""
    lower: NDArray[np.float32]
    """Lowest value of every coordinate that the threat model allows [rows, *input_shape]."""
    upper: NDArray[np.float32]
    """Highest value of every coordinate that the threat model allows [rows, *input_shape]."""
    norm: str
    """linf, l2, l1 or box."""
    eps: float
    """Radius; infinite for a box."""
    step: int
    """How many points of every row have been evaluated."""
    state: dict[str, NDArray[Any]]
    """What the attack keeps from step to step; empty at first."""
    _problem: Problem
    _key: tuple[str, int]
    _draws: int = 0

    def random(self) -> NDArray[np.float32]:
        """Return fresh numbers, uniform in [-1, 1), [rows, *input_shape].

        They depend on seed, sample id, attack, restart, step and how many were drawn in the step,
        not on which other samples are in the batch.
        """
        return self._draw(_core.random_signed)

    def normal(self) -> NDArray[np.float32]:
        """Return fresh standard normal numbers [rows, *input_shape], keyed as `random`."""
        return self._draw(_core.random_normal)

    def margins(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return z_y - max_{i != y} z_i [rows]: negative is adversarial."""
        return margins(logits, self.y)

    def project(self, points: Any) -> NDArray[np.float32]:
        """Return the allowed points nearest to `points`, as is done with what `ask` returns."""
        points = np.ascontiguousarray(points, np.float32)
        return _core.project(self.x, points, **self._problem.region)

    def _draw(self, generator: Any) -> NDArray[np.float32]:
        name, restart = self._key
        problem, count = self._problem, int(np.prod(self.x.shape[1:]))
        self._draws += 1
        stream = f"{name}/{self._draws}"
        numbers = generator(problem.seed, stream, restart, self.step, problem.ids, count)
        return np.asarray(numbers).reshape(self.x.shape)


@dataclass(frozen=True, eq=False)
class Custom:
    """A user's attack as the engine runs it. Built by `wrap`."""

    attack: Any
    name: str
    budget: int
    """Evaluations a sample may cost a restart."""
    restarts: int
    needs_scores: bool
    is_jax: bool
    notes: dict[str, Any] = field(default_factory=dict)
    """What tracing the attack showed."""

    def __repr__(self) -> str:
        kind: Any = type(self.attack)
        if kind.__repr__ is not object.__repr__:
            return repr(self.attack)
        return f"{kind.__name__}(name={self.name!r}, {self._unit}={self.budget})"

    @property
    def _unit(self) -> str:
        return "steps" if self.is_jax else "queries"

    @property
    def needs_gradient(self) -> bool:
        """Whether it needs a model that JAX can run."""
        return self.is_jax

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None."""
        if threat.norm not in NORMS:
            return f"custom attacks are for {', '.join(NORMS)}, not {threat.norm}"
        if self.needs_scores and not target.model.capabilities.scores:
            return "the model returns labels only, and needs_scores is not False"
        if self.is_jax and target.model.jax_function() is None:
            return "the model has no JAX function; write the attack with ask and tell"
        return None

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        if self.is_jax:
            from .custom_jax import run

            return run(self, target, problem, restart)
        return _ask_and_tell(self, target, problem, restart)


def wrap(attack: Any) -> Custom | None:
    """Return an object with ask and tell, or init and step, as an attack; None for others.

    Raises:
        InputError: it has no name, or no budget.
    """
    forms = {"ask and tell": ("ask", "tell"), "init and step": ("init", "step")}
    found = [
        form
        for form, parts in forms.items()
        if all(callable(getattr(attack, part, None)) for part in parts)
    ]
    if not found:
        return None
    kind = type(attack).__name__ if not isinstance(attack, type) else attack.__name__
    if isinstance(attack, type):
        raise InputError(f"{kind} is a class; pass an object of it: {kind}()")
    if len(found) == 2:
        raise InputError(f"{kind} has {found[0]} as well as {found[1]}; keep one of the two")
    name = getattr(attack, "name", None)
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 64:
        raise InputError(f'{kind}: name={name!r} must be a short text, e.g. name = "my-attack"')
    is_jax = found[0] == "init and step"
    unit = "steps" if is_jax else "queries"
    return Custom(
        attack,
        name,
        budget=check_count(f"{kind}: {unit}", getattr(attack, unit, None)),
        restarts=check_count(f"{kind}: restarts", getattr(attack, "restarts", 1)),
        needs_scores=bool(getattr(attack, "needs_scores", True)),
        is_jax=is_jax,
    )


def installed() -> dict[str, EntryPoint]:
    """Return what installed packages offer in the entry point group, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load(entry: EntryPoint) -> Any:
    """Return the attack an entry point names; a class is called without arguments.

    Raises:
        InputError: it cannot be imported or made.
    """
    try:
        found = entry.load()
        return found() if isinstance(found, type) else found
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"attack {entry.name!r} ({entry.value}) cannot be loaded: {text}"
        ) from None


def limits(problem: Problem) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and highest float32 of every coordinate [m, *input_shape]."""
    region = problem.region
    if region["norm"] != "box":
        region["norm"] = "linf"  # every norm is at least the largest coordinate
    far = np.full_like(problem.x, np.finfo(np.float32).max)
    return _core.project(problem.x, -far, **region), _core.project(problem.x, far, **region)


def _ask_and_tell(custom: Custom, target: Target, problem: Problem, restart: int) -> Found:
    """Ask for points of all samples still searched, evaluate them, tell what came back."""
    found = Found.nothing(problem)
    rows = np.arange(len(problem))
    lower, upper = limits(problem)
    box = problem.threat.norm == "box"
    batch = Batch(
        _frozen(problem.x),
        _frozen(problem.y),
        _frozen(lower),
        _frozen(upper),
        norm=problem.threat.norm,
        eps=np.inf if box else float(problem.region["eps"]),
        step=0,
        state={},
        _problem=problem,
        _key=(custom.name, restart),
    )
    for step in range(custom.budget):
        batch.step, batch._draws = step, 0
        points = batch.project(_asked(custom, batch))
        logits = target.logits(points)
        margin = margins(logits, batch.y)
        failed = np.isnan(margin)
        found.queries[rows] += 1
        found.status[rows[failed]] = FAILED
        better = margin < found.margin[rows]
        found.x[rows[better]], found.margin[rows[better]] = points[better], margin[better]
        scale = np.abs(np.where(np.isfinite(logits), logits, 0)).max(axis=1)
        going = ~failed & ~(found.margin[rows] < -CLEAR * scale)
        if step + 1 < custom.budget and going.any():
            custom.attack.tell(batch, _frozen(points), _frozen(logits))
            _check_state(custom, batch)
        rows = rows[going]
        if len(rows) == 0:
            break
        if not going.all():
            _keep(batch, going)
    success = (found.margin < 0) & (found.status == EXHAUSTED)
    found.status[success] = FOUND
    return found


def _asked(custom: Custom, batch: Batch) -> NDArray[np.float32]:
    """Return the points the attack asks for.

    Raises:
        InputError: they do not have the shape of the inputs.
    """
    asked = custom.attack.ask(batch)
    try:
        points = np.asarray(asked, np.float32)
    except (TypeError, ValueError):
        points = np.empty(0, np.float32)
    if points.shape != batch.x.shape:
        raise InputError(
            f"attack {custom.name!r}: ask returned {list(points.shape)}, expected one point a "
            f"row: {list(batch.x.shape)}"
        )
    _check_state(custom, batch)
    return points


def _check_state(custom: Custom, batch: Batch) -> None:
    for key, value in batch.state.items():
        if not isinstance(value, np.ndarray) or value.ndim < 1 or len(value) != len(batch.y):
            got = f"shape {list(value.shape)}" if isinstance(value, np.ndarray) else type(value)
            raise InputError(
                f"attack {custom.name!r}: state[{key!r}] has {got}, expected an array with one "
                f"row a sample: [{len(batch.y)}, ...]"
            )


def _keep(batch: Batch, rows: NDArray[np.bool_]) -> None:
    """Drop the rows of samples that have ended."""
    for name in ("x", "y", "lower", "upper"):
        setattr(batch, name, _frozen(getattr(batch, name)[rows]))
    batch.state = {key: value[rows] for key, value in batch.state.items()}
    batch._problem = batch._problem.take(rows)


def _frozen(array: Any) -> Any:
    """Return a view nobody can write to by mistake."""
    view = array.view()
    view.flags.writeable = False
    return view
