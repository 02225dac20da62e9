"""Diagnostics: signs that an attack failed for a reason other than a robust model.

Always on. Everything is read off what a run computes anyway, except for at most a few dozen
evaluations that confirm a suspicion. Those are about the model, not about a sample, and are not in
a sample's counts: its row must not depend on the others of the call. The checks are those of
AutoAttack (Croce & Hein 2020, arXiv:2003.01690) and the indicators of attack failure (Pintor et
al. 2022, arXiv:2106.09947). Of the latter, silent success cannot happen here (the point with the
smallest margin is what every search returns), and transfer failure needs a second model.

A flag is one line: a code, a colon, and a sentence that ends with advice. What is only a
consequence of another flag's cause is not raised beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import FOUND, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .base import Attack
    from .target import Target

PROBES = 16
"""Samples on which a suspicion is confirmed."""
REPEATS = 4
"""Samples that a model without graph is asked again about."""
FRAGILE = 1e-4
"""Margins closer to zero than this part of the sample's largest logit are fragile."""
COMPARISONS = ("outside-in", "queries-beat-gradients")
"""Codes that compare attacks; they assume samples that no attack has chosen."""
_SMALLEST = 104.0
"""Beyond this margin `exp(-margin)` is zero in float32."""
_SHARE = 0.05
"""Part of the samples from which on a finding is about the model, not about a sample."""
_FEW = 3
"""Samples that one kind of attack must break beyond another's to be worth a line."""


@dataclass(frozen=True)
class Stage:
    """One run of an attack: what it was and what it broke."""

    name: str
    needs_gradient: bool
    broken: int
    loss: str = ""
    from_data: bool = False
    """Whether it starts at inputs of other classes."""

    @staticmethod
    def of(attack: Attack, restart: int, broken: int) -> Stage:
        """Describe one run of an attack."""
        # Minimum-norm attacks with several restarts begin the first at the clean input.
        from_data = getattr(attack, "starts", 0) > 0 and (restart > 0 or attack.restarts == 1)
        loss = str(getattr(attack, "loss", ""))
        return Stage(attack.name, attack.needs_gradient, broken, loss, from_data)


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
    stages: Sequence[Stage]
    unstable: bool
    """What `randomised` said."""
    refused: int
    """Candidates that a fresh evaluation did not confirm."""


def randomised(
    target: Target, x: NDArray[np.float32], logits: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[bool, NDArray[np.int64]]:
    """Return whether a second evaluation of some clean inputs differs, and which rows it cost.

    Graphs and JAX functions compute the same again by construction and are not asked.
    """
    none = rows[:0]
    if target.kind in ("native", "jax") or len(rows) == 0:
        return False, none
    asked = rows[:REPEATS]
    before = _unit(logits[asked])
    again = _unit(target.logits(np.ascontiguousarray(x[asked])))
    usable = np.isfinite(before).all(axis=1) & np.isfinite(again).all(axis=1)
    return bool((np.abs(before - again)[usable] > 1e-4).any()), asked


def is_softmax(logits: NDArray[np.float32]) -> bool:
    """Return whether every row is a probability distribution (AutoAttack's tolerance)."""
    if len(logits) == 0 or logits.shape[1] < 2 or not np.isfinite(logits).all():
        return False
    inside = (logits > -1e-5) & (logits < 1 + 1e-5)
    return bool(inside.all() and (np.abs(logits.sum(axis=1, dtype=np.float64) - 1) < 1e-5).all())


def examine(trail: Trail, target: Target) -> list[str]:
    """Return the flags of a finished run.

    Args:
        trail: what the run knows.
        target: the model, to confirm suspicions.
    """
    attacked = np.flatnonzero(trail.attacked)
    if len(attacked) == 0:
        return []
    if trail.unstable:
        refused = f"; {trail.refused} candidates failed a fresh evaluation" if trail.refused else ""
        return [
            f"randomised: the same input gives different outputs{refused}: attack the expectation "
            "over the randomness, or fix the model's random state"
        ]
    if not target.model.capabilities.scores:
        return []
    flags = _few_classes(trail)
    if flag := _quantised(trail, attacked):
        flags.append(flag)
    elif is_softmax(trail.clean[attacked]):
        flags.append(
            "softmax-output: the outputs are probabilities, whose gradients vanish: attack the "
            "logits before the softmax"
        )
    elif flag := _saturated(trail, attacked) or _stuck(trail, attacked, target):
        flags.append(flag)
    else:
        flags += _disagreement(trail, len(attacked))
    if flag := _fragile(trail):
        flags.append(flag)
    return flags


def _few_classes(trail: Trail) -> list[str]:
    classes = trail.clean.shape[1]
    needs = {"dlr": 3, "dlr-targeted": 4}
    short = {stage.loss for stage in trail.stages if classes < needs.get(stage.loss, 0)}
    return [
        f"few-classes: {loss} needs {needs[loss]} classes and the model has {classes}: another "
        "loss took its place; prefer ce or margin"
        for loss in sorted(short)
    ]


def _quantised(trail: Trail, attacked: NDArray[np.int64]) -> str | None:
    """Continuous outputs give every sample a margin of its own; coarse ones repeat a few."""
    rows = attacked[:1000]
    inputs = {row.tobytes(): i for i, row in zip(rows, trail.problem.x[rows], strict=True)}
    distinct = len(np.unique(trail.clean_margin[list(inputs.values())]))
    if len(inputs) < 3 or distinct > max(1, len(inputs) // 4):
        return None
    return (
        f"quantised-outputs: {len(inputs)} different samples have only {distinct} different "
        f"margin{'' if distinct == 1 else 's'}: small changes of the input do not show and "
        "gradients vanish; attack the outputs before they are rounded, or labels only"
    )


def _saturated(trail: Trail, attacked: NDArray[np.int64]) -> str | None:
    """Cross-entropy as written in papers has gradient zero in float32; ours does not saturate."""
    count = int((trail.clean_margin[attacked] > _SMALLEST).sum())
    if count <= _SHARE * len(attacked):
        return None
    return (
        f"masked-gradients: on {count} of {len(attacked)} samples the logits are so far apart that "
        "the gradient of cross-entropy is zero in float32: the losses here allow for that, other "
        "tools' figures do not; divide the logits by a temperature"
    )


def _stuck(trail: Trail, attacked: NDArray[np.int64], target: Target) -> str | None:
    """Gradient attacks made no progress: is there a gradient, and does it lead anywhere at all?"""
    region = trail.problem.region
    if region["norm"] != "box" and region["eps"] == 0:
        return None
    moved = trail.clean_margin - trail.gradient_margin
    tried = trail.attacked & np.isfinite(trail.gradient_margin)
    stuck = np.flatnonzero(tried & (moved < 0.01 * trail.clean_margin))
    if len(stuck) == 0 or len(stuck) <= _SHARE * len(attacked):
        return None
    rows = stuck[np.argsort(trail.problem.ids[stuck], kind="stable")][:PROBES]
    largest = _largest_gradients(target, trail.problem.take(rows))
    if largest is not None:
        zero = int((largest == 0).sum())
        if zero > len(rows) / 2:
            return (
                f"zero-gradients: the input gradient vanishes on {zero} of {len(rows)} samples "
                "that gradient attacks could not move: their failure says nothing about "
                "robustness; differentiate through a smooth substitute or use query attacks"
            )
    failed = _unconstrained(target, trail.problem.take(rows))
    if failed > len(rows) / 2:
        return (
            f"unconstrained-attack-fails: even without a limit on the perturbation gradients break "
            f"only {len(rows) - failed} of {len(rows)} samples: they do not lead to errors; use "
            "query attacks or a smooth substitute"
        )
    return None


def _largest_gradients(target: Target, problem: Problem) -> NDArray[np.float32] | None:
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


def _unconstrained(target: Target, problem: Problem) -> int:
    """Return how many samples APGD cannot break anywhere in the input range."""
    from ..threats import Linf
    from .apgd import APGD

    low, high = problem.threat.bounds
    free = replace(problem, threat=Linf(high - low, bounds=(low, high)))
    attack = APGD(loss="margin", steps=20)
    if attack.unsupported(target, free.threat) is not None:
        return 0
    found = attack.run(target, free, 0)
    return int((found.status != FOUND).sum())


def _disagreement(trail: Trail, attacked: int) -> list[str]:
    """One kind of attack breaks what gradients from the clean input, run before it, could not."""
    flags = []
    inside = [i for i, s in enumerate(trail.stages) if s.needs_gradient and not s.from_data]
    later = trail.stages[min(inside, default=len(trail.stages)) :]
    data = [stage for stage in later if stage.from_data]
    queries = [stage for stage in later if not stage.needs_gradient]
    broken = sum(stage.broken for stage in data)
    if broken >= max(_FEW, _SHARE * attacked):
        flags.append(
            f"outside-in: {_names(data)} from inputs of other classes broke {broken} of {attacked} "
            "samples that gradients from the clean input had left: they mislead near the data; "
            "keep starts from data in every evaluation"
        )
    broken = sum(stage.broken for stage in queries)
    if broken >= max(_FEW, _SHARE * attacked):
        flags.append(
            f"queries-beat-gradients: {_names(queries)} broke {broken} of {attacked} samples that "
            "attacks with gradients had left: the gradients mislead; trust query attacks and raise "
            "their budget"
        )
    return flags


def _names(stages: list[Stage]) -> str:
    return ", ".join(dict.fromkeys(stage.name for stage in stages))


def _fragile(trail: Trail) -> str | None:
    scale = np.abs(np.where(np.isfinite(trail.clean), trail.clean, 0)).max(axis=1)
    fragile = trail.broken & (trail.margin > -FRAGILE * scale)
    count, broken = int(fragile.sum()), int(trail.broken.sum())
    if count == 0:
        return None
    return (
        f"fragile-margins: {count} of {broken} adversarial examples have a margin below "
        f"{FRAGILE:g} of the largest logit: other hardware may decide them otherwise; do not lean "
        "on differences this small"
    )


def _unit(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        return np.asarray(wide / np.maximum(length, 1e-12))
