"""Auto-PGD: gradient ascent with momentum and a step size that adapts to progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .._validate import check_count
from ..errors import InputError
from .base import Found

if TYPE_CHECKING:
    from ..threats import ThreatModel
    from .base import Problem
    from .target import Target

_LOSSES = ("ce", "dlr", "margin")


@dataclass(frozen=True)
class APGD:
    """Auto-PGD (Croce & Hein 2020, arXiv:2003.01690; for L1 2021, arXiv:2103.01208).

    Defaults as in AutoAttack. Each sample stops at its first success; what is kept is the point
    with the smallest margin. Linf, L2 and boxes run on native graphs and through JAX, L1 on
    native graphs.

    Args:
        loss: "ce" (cross-entropy), "dlr" (difference of logits ratio) or "margin".
        steps: gradient steps after the random start, at least 1; a sample costs at most
            `steps + 1` evaluations a restart.
        restarts: runs with fresh random starts on the samples not yet broken.

    Raises:
        InputError: an unknown loss, or a count below 1.
    """

    loss: Literal["ce", "dlr", "margin"] = "ce"
    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.loss not in _LOSSES:
            raise InputError(f"loss={self.loss!r} is unknown; choose ce, dlr or margin")
        check_count("steps", self.steps)
        check_count("restarts", self.restarts)

    @property
    def name(self) -> str:
        """The name in results: `apgd-ce`, `apgd-dlr` or `apgd-margin`."""
        return f"apgd-{self.loss}"

    @property
    def needs_gradient(self) -> bool:
        """True: black boxes cannot be attacked."""
        return True

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None."""
        if target.kind == "callable":
            return "the model offers no gradient; use square"
        if target.kind == "jax" and threat.norm == "l1":
            return "L1 runs on native graphs only; use square"
        return None

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        if target.kind == "jax":
            from .apgd_jax import run

            return run(self, target, problem, restart)
        from .._core import apgd

        graph = target.model.graph
        assert graph is not None  # noqa: S101 - `kind` says so
        x, margin, status, forwards, gradients = apgd(
            graph,
            problem.x,
            problem.y,
            problem.ids,
            **problem.region,
            seed=problem.seed,
            restart=restart,
            steps=self.steps,
            loss=self.loss,
            batch=target.lane,
        )
        return Found(x, margin, status, forwards, gradients, np.zeros_like(forwards))
