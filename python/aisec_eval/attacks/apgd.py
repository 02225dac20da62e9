"""Auto-PGD: gradient ascent with momentum and a step size that adapts to progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._validate import check_count
from ..errors import InputError
from .engine import NativeAttack, search
from .targets import TARGETS, Targeted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .base import Found, Problem
    from .target import Target

_LOSSES = ("ce", "dlr", "margin")


@dataclass(frozen=True)
class APGD(NativeAttack):
    """Auto-PGD (Croce & Hein 2020, arXiv:2003.01690; for L1 2021, arXiv:2103.01208).

    Defaults as in AutoAttack. Each sample stops at its first success; what is kept is the point
    with the smallest margin.

    Args:
        loss: "ce" (cross-entropy), "dlr" (difference of logits ratio, for two classes the margin)
            or "margin".
        steps: gradient steps after the random start, at least 1; a sample costs at most
            `steps + 1` evaluations a restart.
        restarts: runs with fresh random starts on the samples not yet broken.
        large_radius: L1 only: begin at three, then two times the radius, as AutoAttack does
            (three starts: two evaluations more).
        eot: draws of a randomised model that logits and gradients are averaged over, each twice
            a step; graphs and JAX functions are not randomised and drawn once.
        to_the_end: go on after the first success, to the example that is misclassified with the
            most confidence.

    Raises:
        InputError: an unknown loss, or a count below 1.
    """

    loss: Literal["ce", "dlr", "margin"] = "ce"
    steps: int = 100
    restarts: int = 1
    large_radius: bool = False
    eot: int = 1
    to_the_end: bool = False

    def __post_init__(self) -> None:
        if self.loss not in _LOSSES:
            raise InputError(f"loss={self.loss!r} is unknown; choose ce, dlr or margin")
        check_count("steps", self.steps)
        check_count("restarts", self.restarts)
        check_count("eot", self.eot)

    @property
    def name(self) -> str:
        """The name in results: `apgd-ce`, `apgd-dlr` or `apgd-margin`."""
        return f"apgd-{self.loss}"

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        more = {"to_the_end": True} if self.to_the_end else {}
        return {"steps": self.steps, "large_radius": self.large_radius, **more}

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
        if target.kind == "jax" and problem.threat.norm != "l1":
            from .apgd_jax import run

            return run(self, target, problem, restart)
        return search(self, target.expected(self.eot), problem, restart)


@dataclass(frozen=True)
class APGDT(Targeted):
    """APGD-T: Auto-PGD towards one class after another, by their rank at the clean input.

    The loss is the targeted difference of logits ratio; with three classes the third logit stands
    for the mean of the third and the fourth, with two the targeted margin takes its place. With
    fewer classes than `targets` + 1 the runs left over do nothing.

    Args:
        steps: gradient steps towards each class, at least 1.
        targets: classes tried on the samples not yet broken.
        large_radius: L1 only: begin at three, then two times the radius, as AutoAttack does.

    Raises:
        InputError: a count below 1.
    """

    steps: int = 100
    targets: int = TARGETS
    large_radius: bool = False

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("targets", self.targets)

    @property
    def name(self) -> str:
        """The name in results: `apgd-t`."""
        return "apgd-t"

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {"steps": self.steps, "large_radius": self.large_radius}
