"""Transfer: adversarial examples of another model, tried on this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .._validate import check_count
from ..errors import InputError
from .apgd import APGD
from .base import EXHAUSTED, FAILED, FOUND, Found
from .replay import margins
from .target import Target

if TYPE_CHECKING:
    from ..models import Model
    from ..threats import ThreatModel
    from .base import Problem


@dataclass(frozen=True, repr=False)
class Transfer:
    """Examples that fool a surrogate with the most confidence (Papernot et al. 2016, 1605.07277).

    Each restart costs a sample one query of the model attacked; what APGD does to the surrogate is
    not counted. Where examples of another model break what this model's own gradients could not,
    those gradients mislead: see the flag `transfer`.

    Args:
        surrogate: a model of the same inputs and classes that has gradients.
        steps: gradient steps on the surrogate.
        restarts: points tried.

    Raises:
        InputError: a count below 1, or a surrogate without gradients.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    needs_gradient: ClassVar[bool] = False
    from_model: ClassVar[bool] = True

    surrogate: Model
    steps: int = 50
    restarts: int = 1

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("restarts", self.restarts)
        if Target.of(self.surrogate, "auto").kind == "callable":
            raise InputError(
                f"model {self.surrogate.name!r} has no gradients, which a surrogate needs"
            )

    def __repr__(self) -> str:
        """Return what identifies the attack: the surrogate by name and digest."""
        surrogate = f"{self.surrogate.name} {self.surrogate.digest[:16]}"
        return f"Transfer({surrogate!r}, steps={self.steps}, restarts={self.restarts})"

    @property
    def name(self) -> str:
        """`transfer`."""
        return "transfer"

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None."""
        if threat.norm not in self.norms:
            return f"it is for {', '.join(self.norms)}, not {threat.norm}; use another attack"
        for what in ("input_shape", "num_classes"):
            here, there = getattr(target.model, what), getattr(self.surrogate, what)
            if here != there:
                return f"the surrogate's {what} is {there}, not {here}; use another surrogate"
        return None

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack the surrogate, and try on the model what was found."""
        surrogate = Target.of(self.surrogate, "auto", batch_size=target.batch)
        attack = APGD("margin", steps=self.steps, to_the_end=True)
        made = attack.run(surrogate, problem, restart)
        logits = target.logits(made.x)
        found = Found.nothing(problem)
        margin = margins(logits, problem.y)
        known = ~np.isnan(margin)
        found.x[known], found.margin[known] = made.x[known], margin[known]
        found.status[:] = np.where(known, np.where(margin < 0, FOUND, EXHAUSTED), FAILED)
        found.queries[:] += 1
        return found
