"""Diagnostics: signs that an attack failed for a reason other than a robust model.

Always on. Everything is read off what a run computes anyway, except for at most a few dozen
evaluations that confirm a suspicion. Those are about the model, not about a sample, and are not in
a sample's counts: its row must not depend on the others of the call. What is gathered here can be
merged with that of other samples of the same set; `judge` makes flags of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from ..findings import PROBES, REPEATS, Findings, Probe, Repeat, Stage, coarse
from .base import EXHAUSTED, FOUND, Problem
from .judge import FRAGILE, suspicious

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ..findings import Fault
    from .base import Attack, Found
    from .target import Target

MOVING = 0.05
"""An attack whose last points take off more than this part of what it took off was not at rest."""
_SMALLEST = 104.0
"""Beyond this margin `exp(-margin)` is zero in float32."""


def stage(order: int, attack: Attack, restart: int, broken: int) -> Stage:
    """Describe one run of an attack."""
    # Minimum-norm attacks with several restarts begin the first at the clean input.
    from_data = getattr(attack, "starts", 0) > 0 and (restart > 0 or attack.restarts == 1)
    loss = str(getattr(attack, "loss", ""))
    from_model = bool(getattr(attack, "from_model", False))
    return Stage(order, attack.name, attack.needs_gradient, broken, loss, from_data, from_model)


def at_rest(found: Found, clean_margin: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return whether the margin was still falling when an attack ended [m].

    1 for at rest, -1 for still falling, 0 where that is not known.
    """
    late = found.late if len(found.late) else np.full(len(found.status), np.nan)
    with np.errstate(invalid="ignore"):
        moving = late > MOVING * (clean_margin - found.margin)
    known = np.isfinite(late) & (found.status == EXHAUSTED)
    return np.where(known, np.where(moving, -1, 1), 0).astype(np.int8)


@dataclass(frozen=True)
class Trail:
    """What a run knows at its end, one row a sample."""

    problem: Problem
    clean: NDArray[np.float32]
    """Logits of the clean inputs [n, num_classes]."""
    clean_margin: NDArray[np.float64]
    gradient_margin: NDArray[np.float64]
    """Smallest margin that attacks with gradients reached [n]; inf where none ran."""
    margin: NDArray[np.float64]
    attacked: NDArray[np.bool_]
    """Correctly classified to begin with, and evaluable [n]."""
    broken: NDArray[np.bool_]
    error: NDArray[np.bool_]
    unfinished: NDArray[np.bool_]
    """Whether the margin still fell at the end of every gradient attack [n]."""
    stages: Sequence[Stage]
    repeats: Sequence[Repeat]
    """What `ask_again` gave."""
    refused: Mapping[str, Fault]
    """Candidates that the re-check did not confirm."""


def ask_again(
    target: Target, problem: Problem, logits: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[Repeat, ...]:
    """Evaluate those of `rows` with the smallest ids a second time.

    Graphs and JAX functions compute the same again by construction and are not asked.
    """
    if not target.can_differ or len(rows) == 0:
        return ()
    asked = rows[np.argsort(problem.ids[rows], kind="stable")][:REPEATS]
    before = _unit(logits[asked])
    again = _unit(target.logits(np.ascontiguousarray(problem.x[asked])))
    usable = np.asarray(np.isfinite(before).all(axis=1) & np.isfinite(again).all(axis=1))
    with np.errstate(invalid="ignore"):
        moved = np.abs(before - again) > 1e-4
    return tuple(
        Repeat(int(problem.ids[row]), bool(usable[i]) and bool(moved[i].any()))
        for i, row in enumerate(asked)
    )


def are_softmax(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows are probability distributions (AutoAttack's tolerance)."""
    if logits.shape[1] < 2:
        return np.zeros(len(logits), np.bool_)
    inside = ((logits > -1e-5) & (logits < 1 + 1e-5)).all(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(inside & (np.abs(logits.sum(axis=1, dtype=np.float64) - 1) < 1e-5))


def gather(trail: Trail, target: Target, *, part: bool) -> Findings:
    """Return the findings of a finished run.

    Args:
        trail: what the run knows.
        target: the model, to confirm suspicions.
        part: whether others will be merged with these findings: then a suspicion is looked into
            even where these samples alone do not raise it.
    """
    found = Findings(
        attacked=int(trail.attacked.sum()),
        broken=int(trail.broken.sum()),
        open=int((trail.attacked & ~trail.broken & ~trail.error).sum()),
        errors=int(trail.error.sum()),
        repeats=tuple(trail.repeats),
        refused=dict(trail.refused),
        failures=dict(sorted(target.messages.items())),
    )
    if not target.model.capabilities.scores or found.attacked == 0:
        return found
    rows = np.flatnonzero(trail.attacked)
    levels, inputs = _levels(trail, rows)
    stuck = _stuck(trail)
    found = replace(
        found,
        classes=trail.clean.shape[1],
        stages=tuple(trail.stages),
        fragile=_fragile(trail),
        softmax=int(are_softmax(trail.clean[rows]).sum()),
        saturated=int((trail.clean_margin[rows] > _SMALLEST).sum()),
        levels=levels,
        inputs=inputs,
        stuck=len(stuck),
        unfinished=int((trail.attacked & ~trail.broken & ~trail.error & trail.unfinished).sum()),
    )
    if len(stuck) and (part or suspicious(found)):
        found = replace(found, probes=_probe(trail.problem, stuck, target))
    return found


def _levels(
    trail: Trail, rows: NDArray[np.int64]
) -> tuple[tuple[float, ...] | None, tuple[str, ...] | None]:
    # Adding zero turns -0 into 0.
    levels = np.unique(trail.clean_margin[rows] + 0.0).tolist()
    hashes = (blake2b(trail.problem.x[i].tobytes(), digest_size=8).hexdigest() for i in rows)
    return coarse([(levels, hashes)])


def _stuck(trail: Trail) -> NDArray[np.int64]:
    """Return the rows whose margin gradients hardly lowered."""
    region = trail.problem.region
    if region["norm"] != "box" and region["eps"] == 0:
        return np.zeros(0, np.int64)
    moved = trail.clean_margin - trail.gradient_margin
    tried = trail.attacked & np.isfinite(trail.gradient_margin)
    return np.flatnonzero(tried & (moved < 0.01 * trail.clean_margin))


def _probe(problem: Problem, stuck: NDArray[np.int64], target: Target) -> tuple[Probe, ...]:
    rows = stuck[np.argsort(problem.ids[stuck], kind="stable")][:PROBES]
    some = problem.take(rows)
    largest = largest_gradients(target, some)
    flat = np.zeros(len(rows), np.bool_) if largest is None else largest == 0
    failed = _unconstrained(target, some)
    return tuple(
        Probe(int(sample), bool(f), bool(s))
        for sample, f, s in zip(some.ids, flat, failed, strict=True)
    )


def _fragile(trail: Trail) -> int:
    scale = np.abs(np.where(np.isfinite(trail.clean), trail.clean, 0)).max(axis=1)
    return int((trail.broken & (trail.margin > -FRAGILE * scale)).sum())


def largest_gradients(target: Target, problem: Problem) -> NDArray[np.float32] | None:
    """Return the largest entry of each gradient of the margin at the clean inputs [n]."""
    n, rows = len(problem), np.arange(len(problem))
    if target.kind == "native":
        graph = target.model.graph
        assert graph is not None  # noqa: S101 - `kind` says so
        logits = graph.forward(problem.x)
        gradient = graph.value_and_vjp(problem.x, _cotangent(logits, problem.y))[1]
    elif target.kind == "jax":
        import jax
        import jax.numpy as jnp

        function = target.model.jax_function()
        assert function is not None  # noqa: S101 - `kind` says so
        apply, params = function

        def total(x: Any) -> Any:
            logits = apply(params, x)
            own = logits[rows, problem.y]
            others = jnp.where(jax.nn.one_hot(problem.y, logits.shape[1]) > 0, -jnp.inf, logits)
            return (others.max(axis=1) - own).sum()

        gradient = np.asarray(jax.grad(total)(problem.x))
    elif target.model.capabilities.gradient:
        gradient = target.model.value_and_vjp(problem.x, lambda z: _cotangent(z, problem.y))[1]
    else:
        return None
    return np.asarray(np.abs(gradient.reshape(n, -1)).max(axis=1))


def _cotangent(logits: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = np.arange(len(y))
    others = logits.copy()
    others[rows, y] = -np.inf
    cotangent = np.zeros_like(logits)
    cotangent[rows, others.argmax(axis=1)] = 1
    cotangent[rows, y] = -1
    return cotangent


def _unconstrained(target: Target, problem: Problem) -> NDArray[np.bool_]:
    """Return which samples APGD cannot break anywhere in the input range [n]."""
    from ..threats import Linf
    from .apgd import APGD

    low, high = problem.threat.bounds
    free = replace(problem, threat=Linf(high - low, bounds=(low, high)))
    attack = APGD(loss="margin", steps=20)
    if attack.unsupported(target, free.threat) is not None:
        return np.zeros(len(problem), np.bool_)
    return np.not_equal(attack.run(target, free, 0).status, FOUND)


def _unit(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        return np.asarray(wide / np.maximum(length, 1e-12))
