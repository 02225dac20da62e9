"""Common corruptions: every one of the threat model's, at every severity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..cases import CORRECT, UNKNOWN, WRONG
from ..threats import Corruptions
from .base import FAILED, FOUND, Found
from .corruption_library import corrupted, unfit, versions
from .replay import margins

if TYPE_CHECKING:
    from ..threats import ThreatModel
    from .base import Problem
    from .target import Target


@dataclass(frozen=True)
class CommonCorruptions:
    """All corruptions of the threat model (Hendrycks & Dietterich 2019, arXiv:1903.12261).

    Nothing is searched: every corruption is applied at every severity to every sample, and
    `Found.cases` says on which the model is correct. The adversarial example of a broken sample is
    the mildest that breaks it: of the least severity the one with the smallest margin.
    """

    needs_gradient: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("corruptions",)
    restarts: ClassVar[int] = 1
    exhaustive: ClassVar[bool] = True
    """Misclassified samples are evaluated too: accuracies under corruptions are of all samples."""

    @property
    def name(self) -> str:
        """The name in results: `common-corruptions`."""
        return "common-corruptions"

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None.

        Raises:
            CapabilityError: the package that computes the corruptions is not installed.
        """
        if not isinstance(threat, Corruptions):
            return f"it is for corruptions, not {threat.norm}; give it ae.Corruptions"
        versions()
        return unfit(target.model.input_shape)

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Evaluate every case of every sample, one sample's images together."""
        del restart
        threat = problem.threat
        assert isinstance(threat, Corruptions)  # noqa: S101 - `unsupported` says so
        levels = [(name, severity) for name in threat.names for severity in threat.severities]
        severities = np.array([severity for _, severity in levels])
        found = Found.nothing(problem)
        correct = np.full((len(problem), len(levels)), UNKNOWN, np.int8)
        transform = [""] * len(problem)
        for row in range(len(problem)):
            x, sample = problem.x[row], int(problem.ids[row])
            images = np.stack(
                [corrupted(x, threat, *case, seed=problem.seed, sample=sample) for case in levels]
            )
            logits = target.logits(images)
            margin = margins(logits, np.repeat(problem.y[row], len(levels)))
            usable = ~np.isnan(margin)
            right = logits.argmax(axis=1) == problem.y[row]
            correct[row, usable] = np.where(right[usable], CORRECT, WRONG)
            found.queries[row] = len(levels)
            if not usable.all():
                found.status[row] = FAILED
            if not usable.any():
                continue
            margin[~usable] = np.inf
            broken = margin < 0
            least = severities == (severities[broken].min() if broken.any() else severities)
            chosen = int(np.where(least, margin, np.inf).argmin())
            found.x[row], found.margin[row] = images[chosen], margin[chosen]
            transform[row] = threat.cases[chosen]
            if broken.any():
                found.status[row] = FOUND
        return replace(found, transform=tuple(transform), cases=correct)
