"""What an attack is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .._validate import input_range
from ..threats import Transformation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..threats import ThreatModel
    from .starts import Pool
    from .target import Target

EXHAUSTED, FOUND, FAILED = 0, 1, 2
"""Status of a sample: budget spent, candidate found, or its logits could not be used."""


@dataclass(frozen=True)
class Problem:
    """The samples an attack is to break, and where each may move."""

    x: NDArray[np.float32]
    """Clean inputs [m, *input_shape]."""
    y: NDArray[np.int64]
    ids: NDArray[np.int64]
    """Sample ids [m]: the keys of the random numbers."""
    threat: ThreatModel
    seed: int
    pool: Pool | None = None
    """What data starts are taken from."""
    clean: NDArray[np.float32] | None = None
    """Logits of the clean inputs [m, num_classes]."""
    best: NDArray[np.float32] | None = None
    """The evaluated point with the smallest margin so far [m, *input_shape]."""
    margin: NDArray[np.float64] | None = None
    """The margin there [m]."""
    unfinished: NDArray[np.bool_] | None = None
    """Whether the margin still fell at the end of every gradient attack on it [m]."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Any) -> Problem:
        """Return the problem of some of the samples."""
        names = ("clean", "best", "margin", "unfinished")
        known = {name: getattr(self, name) for name in names}
        taken = {name: value[rows] for name, value in known.items() if value is not None}
        return replace(self, x=self.x[rows], y=self.y[rows], ids=self.ids[rows], **taken)

    @property
    def region(self) -> dict[str, Any]:
        """Norm, radius, input range and constraint as the native searches take them.

        Of transformations only the range: which inputs they reach is for `replay` to say.
        """
        lower, upper = (b if b.ndim else float(b) for b in input_range(self.threat))
        norm = "box" if isinstance(self.threat, Transformation) else self.threat.norm
        eps = self.threat.eps_lower
        region: dict[str, Any] = {"norm": norm, "eps": eps, "lower": lower, "upper": upper}
        if self.threat.constraint is not None:
            region |= {"norm": "box", "eps": 0.0, "constraint": self.threat.constraint}
        return region


@dataclass(frozen=True)
class Found:
    """The outcome of one attack, one row a sample of its problem."""

    x: NDArray[np.float32]
    """The evaluated point with the smallest margin [m, *input_shape]; never outside the threat."""
    margin: NDArray[np.float64]
    """The margin there [m]; inf where no logits could be used."""
    status: NDArray[np.int8]
    forwards: NDArray[np.int64]
    gradients: NDArray[np.int64]
    queries: NDArray[np.int64]
    transform: tuple[str, ...] = ()
    """Under threat models of transformations: which one gave `x` [m]."""
    cases: NDArray[np.int8] | None = None
    """Under finite threat models: what became of each case [m, k], codes of `Cases`."""
    late: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """How much of the margin the last 10 points took off, or the second half of fewer [m]; NaN
    where that is not known or the search is for something else; empty where it is nowhere."""

    @staticmethod
    def nothing(problem: Problem) -> Found:
        """Nothing found and nothing spent."""
        m = len(problem)
        return Found(
            problem.x.copy(),
            np.full(m, np.inf),
            np.zeros(m, np.int8),
            np.zeros(m, np.int64),
            np.zeros(m, np.int64),
            np.zeros(m, np.int64),
            late=np.full(m, np.nan),
        )


class Attack(Protocol):
    """A published attack with its parameters; a frozen dataclass."""

    @property
    def restarts(self) -> int:
        """How often it is run on the samples it has not broken."""

    @property
    def name(self) -> str:
        """The name in results, `apgd-ce`, `square`; it also keys the random numbers."""

    @property
    def needs_gradient(self) -> bool:
        """Whether it cannot run on a model without gradients."""

    def unsupported(self, target: Target, threat: ThreatModel) -> str | None:
        """Return why the attack cannot run, in a few words with the remedy, or None."""

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once."""
