"""Runs a native search where the model is: on its graph, through its gradients, by its logits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _core
from .base import EXHAUSTED, FOUND, Found
from .replay import distances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..threats import ThreatModel
    from .base import Problem
    from .target import Target


class NativeAttack:
    """An attack whose search is native code; a subclass is a frozen dataclass of its parameters.

    Subclasses say `name` (as in the native registry), `options` and `restarts`, and override what
    differs.
    """

    needs_gradient: ClassVar[bool] = True
    """Whether it cannot run on a model without gradients."""
    needs_scores: ClassVar[bool] = True
    """Whether it cannot run on a model that returns labels only."""
    minimum_norm: ClassVar[bool] = False
    """Whether it looks for the nearest adversarial point, wherever it lies."""
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    """The norms it is defined for."""

    @property
    def name(self) -> str:
        """The name in results, which also keys the random numbers."""
        raise NotImplementedError

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {}

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None."""
        if threat.norm not in self.norms:
            return f"it is for {', '.join(self.norms)}, not {threat.norm}; use another attack"
        if self.needs_scores and not target.model.capabilities.scores:
            return "the model returns labels only; use hop-skip-jump or rays"
        if self.needs_gradient and target.kind == "callable":
            return "the model offers no gradient; use square"
        return None

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        return search(self, target, problem, restart)


def search(
    attack: NativeAttack,
    target: Target,
    problem: Problem,
    restart: int,
    *,
    targets: NDArray[np.int64] | None = None,
    starts: NDArray[np.float32] | None = None,
) -> Found:
    """Run one native search a sample.

    Args:
        attack: whose name and options choose the search.
        target: the model.
        problem: the samples.
        restart: keys the random numbers.
        targets: classes to reach [m], for targeted attacks.
        starts: points to begin at [m, *input_shape], for attacks that can.

    Returns:
        What was found. Of a minimum-norm attack, points outside the threat model are not.
    """
    found = run_native(attack, target, problem, restart, targets=targets, starts=starts)
    if attack.minimum_norm:
        norm = problem.threat.norm
        outside = distances(problem.x, found.x, norm) > problem.region["eps"]
        found.x[outside] = problem.x[outside]
        found.margin[outside] = np.inf
        found.status[outside & (found.status == FOUND)] = EXHAUSTED
    return found


def run_native(
    attack: NativeAttack,
    target: Target,
    problem: Problem,
    restart: int,
    *,
    targets: NDArray[np.int64] | None = None,
    starts: NDArray[np.float32] | None = None,
) -> Found:
    """Like `search`, with the nearest points of a minimum-norm attack wherever they lie."""
    arguments: dict[str, Any] = {
        "attack": attack.name,
        "options": json.dumps(dict(attack.options)),
        **problem.region,
        "seed": problem.seed,
        "restart": restart,
        "targets": targets,
        "starts": starts,
    }
    if target.kind == "native":
        graph = target.model.graph
        assert graph is not None  # noqa: S101 - `kind` says so
        x, margin, status, forwards, gradients, late = _core.search(
            graph, problem.x, problem.y, problem.ids, batch=target.lane, **arguments
        )
        queries = np.zeros_like(forwards)
        found = Found(x, margin, status, forwards, gradients, queries, late=late)
    else:
        found = _ask_and_tell(target, problem, arguments)
        if target.draws > 1:
            # A step draws for its logits and again for its gradient.
            found.forwards[:] = target.draws * (found.forwards + found.gradients)
            found.gradients[:] *= target.draws
    if not attack.needs_gradient:
        found.queries[:], found.forwards[:] = found.forwards, 0
    return found


def _ask_and_tell(target: Target, problem: Problem, arguments: dict[str, Any]) -> Found:
    """Search natively, evaluate where the model is; the batch is refilled as searches end."""
    pool = _core.SearchPool(
        problem.x, problem.y, problem.ids, num_classes=target.model.num_classes, **arguments
    )
    found = Found.nothing(problem)
    buffer = np.empty((min(target.batch, len(problem)), *problem.x.shape[1:]), np.float32)

    def tell(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = np.ascontiguousarray(logits, np.float32)
        ended, outcomes, cotangent = pool.tell(buffer, logits)
        x, margin, status, forwards, gradients, late = outcomes
        found.x[ended], found.margin[ended], found.status[ended] = x, margin, status
        found.forwards[ended], found.gradients[ended] = forwards, gradients
        found.late[ended] = late
        return cotangent

    while True:
        rows, differentiate = pool.ask(buffer)
        if rows == 0:
            return found
        if differentiate:
            pool.step(target.gradient(buffer[:rows], tell))
        else:
            tell(target.logits(buffer[:rows]))
