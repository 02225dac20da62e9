"""Attacks on some of the samples: those on which a diagnostic says that they are worth it.

Each choice reads one sample only, so that results depend neither on the others nor on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .base import FOUND, Found
from .diagnostics import largest_gradients
from .engine import NativeAttack, search
from .replay import margins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..threats import ThreatModel
    from .base import Problem
    from .target import Target

STUCK = 0.01
"""Gradients that lower the margin by less than this part have not moved a sample."""


@dataclass(frozen=True)
class Selected:
    """An attack on some samples; a subclass chooses which.

    Its restarts are numbered from `first`: other random numbers than those of another stage of
    the same name.
    """

    attack: NativeAttack
    first: int = 1000

    @property
    def name(self) -> str:
        """The attack's own."""
        return self.attack.name

    @property
    def needs_gradient(self) -> bool:
        """The attack's own."""
        return self.attack.needs_gradient

    @property
    def norms(self) -> tuple[str, ...]:
        """The attack's own."""
        return self.attack.norms

    @property
    def restarts(self) -> int:
        """The attack's own."""
        return int(getattr(self.attack, "restarts", 1))

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None."""
        return self.attack.unsupported(target, threat)

    def choose(self, target: Target, problem: Problem, found: Found) -> NDArray[np.int64]:
        """Return the rows to attack; what that costs is added to `found`."""
        raise NotImplementedError

    def begin(self, target: Target, part: Problem, restart: int) -> Found:
        """Attack the samples chosen."""
        return self.attack.run(target, part, restart)

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack the samples chosen once."""
        found = Found.nothing(problem)
        rows = self.choose(target, problem, found)
        if len(rows):
            add(found, rows, self.begin(target, problem.take(rows), restart + self.first))
        return found


@dataclass(frozen=True)
class Near(Selected):
    """An attack on the samples near the boundary only.

    Those are the samples whose smallest margin so far is at most `within` times what the attacks
    have taken off the clean margin. With `from_best` it begins at the point with the smallest
    margin.
    """

    within: float = 0.3
    from_best: bool = False

    def choose(self, target: Target, problem: Problem, found: Found) -> NDArray[np.int64]:
        """Return the rows of samples near the boundary."""
        del target, found
        taken = clean_margins(problem) - best_margins(problem)
        return np.flatnonzero(best_margins(problem) <= self.within * taken)

    def begin(self, target: Target, part: Problem, restart: int) -> Found:
        """Attack the samples chosen."""
        if self.from_best:
            return search(self.attack, target, part, restart, starts=part.best)
        return self.attack.run(target, part, restart)


@dataclass(frozen=True)
class Unfinished(Selected):
    """A longer attack on samples whose margin still fell at the end of every gradient attack."""

    first: int = 3000

    def choose(self, target: Target, problem: Problem, found: Found) -> NDArray[np.int64]:
        """Return the rows of samples that no gradient attack came to rest on."""
        del target, found
        if problem.unfinished is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(problem.unfinished)


@dataclass(frozen=True)
class Flat(Selected):
    """An attack that needs neither gradients nor scores, where the gradient is zero.

    Tried are samples that no attack has moved. Models without gradients have none that is zero.
    Minimum-norm attacks begin at restart 0.
    """

    first: int = 0

    def choose(self, target: Target, problem: Problem, found: Found) -> NDArray[np.int64]:
        """Return the rows of samples whose gradient at the clean input is zero everywhere."""
        before = clean_margins(problem)
        rows = np.flatnonzero(best_margins(problem) >= (1 - STUCK) * before)
        if len(rows) == 0:
            return rows
        flat = np.zeros(len(rows), np.bool_)
        for start in range(0, len(rows), target.batch):
            part = slice(start, start + target.batch)
            largest = largest_gradients(target, problem.take(rows[part]))
            if largest is None:
                return rows[:0]
            flat[part] = largest == 0
        found.forwards[rows] += 1
        found.gradients[rows] += 1
        return rows[flat]


def best_margins(problem: Problem) -> NDArray[np.float64]:
    """Return the smallest margin found so far [m]."""
    assert problem.margin is not None  # noqa: S101 - the driver gives it
    return problem.margin


def clean_margins(problem: Problem) -> NDArray[np.float64]:
    """Return the margin of the clean inputs [m]."""
    assert problem.clean is not None  # noqa: S101 - the driver gives it
    return margins(problem.clean, problem.y)


def add(found: Found, rows: NDArray[np.int64], one: Found) -> None:
    """Add what was found on some rows: costs add up, better points replace."""
    for counter in ("forwards", "gradients", "queries"):
        getattr(found, counter)[rows] += getattr(one, counter)
    better = (one.status == FOUND) | (one.margin < found.margin[rows])
    better |= one.status > found.status[rows]
    for name in ("x", "margin", "status"):
        getattr(found, name)[rows[better]] = getattr(one, name)[better]
    if len(found.late) and len(one.late):
        found.late[rows[better]] = one.late[better]
