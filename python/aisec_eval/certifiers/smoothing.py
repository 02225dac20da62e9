"""Randomised smoothing: certified L2 radii of the classifier that votes under noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._validate import check_count
from ..errors import CapabilityError, InputError
from ..lattice import Lattice
from ..results import CertifyResult
from ..threats import L2
from . import binomial
from .votes import Votes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    from .._validate import Samples
    from ..models.base import Model
    from ..threats import ThreatModel

_ROUND = 5_000
"""Noisy copies between two looks at the evidence."""


@dataclass(frozen=True)
class Smoothing:
    """Randomised smoothing (Cohen et al. 2019, arXiv:1902.02918, algorithm CERTIFY).

    What is certified is not the model but the classifier that returns the class the model says
    most often under normal noise. `n0` noisy copies choose the class, `n` others bound from below
    how often it comes (Clopper-Pearson), p; then no perturbation of L2 norm below
    `sigma * quantile(p)` changes the vote. Each certificate is wrong with probability at most
    `alpha`. Noise is keyed by (seed, sample, copy): radii depend neither on batches nor on order.

    With `lattice`, the model sees lattice points only: the vote is of the model after rounding its
    input to the lattice, the noise is the normal distribution rounded to it, drawn exactly up to
    a distance in probability that is charged to p. So the certificate also holds for the float32
    arithmetic that votes (compare Voracek & Hein 2023, "Sound randomized smoothing in
    floating-point arithmetic"). Without it noise is float32, as in every other tool, and the
    certificate is of an idealised model in real arithmetic.
    """

    sigma: float
    """Standard deviation of the noise, in the model's input range."""
    n: int = 100_000
    """Noisy copies that bound the probability."""
    n0: int = 100
    """Noisy copies that choose the class."""
    alpha: float = 0.001
    """Probability that a certificate is wrong, at most."""
    seed: int = 0
    lattice: float | str | Fraction | None = None
    """Spacing of the data's values, `Dataset.lattice`; the inputs must lie on it."""
    early_stop: bool = False
    """Stop once the threat model's radius is proven or out of reach: five to ten times fewer
    copies. The evidence is an e-process (a mixture over p above the null), which may be looked at
    any number of times. A radius is then the threat model's or zero."""

    name: ClassVar[str] = "smoothing"

    def __post_init__(self) -> None:
        """Refuse options that certify nothing."""
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise InputError(f"sigma={self.sigma!r} must be a positive number")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha={self.alpha!r} must lie between 0 and 1")
        for name, value in (("n", self.n), ("n0", self.n0)):
            check_count(name, value)
            if value >= 2**32:
                raise InputError(f"{name}={value} must be below 2**32")
        if not 0 <= self.seed < 2**64:
            raise InputError(f"seed={self.seed!r} must be at least 0 and below 2**64")

    def certify(
        self,
        model: Model,
        samples: Samples,
        threat: ThreatModel,
        *,
        memory_limit: int | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> CertifyResult:
        """Certify each sample of a threat model `L2`; see `certifiers.certify`."""
        if not isinstance(threat, L2):
            raise CapabilityError(
                f"smoothing certifies L2 balls, not {threat.norm}; use another method, or L2"
            )
        votes = Votes(model, self._noise(samples), self.seed, memory_limit)
        outcomes = []
        for row, (sample, label) in enumerate(zip(samples.ids, samples.y, strict=True)):
            outcomes.append(self._sample(votes, row, int(sample), int(label), threat.eps_upper))
            if progress is not None:
                progress(row + 1, len(samples), self.name)
        radius = np.array([outcome.radius for outcome in outcomes])
        certified = np.array([outcome.right for outcome in outcomes]) & (radius >= threat.eps_upper)
        n = len(samples)
        return CertifyResult(
            sample=samples.ids,
            label=samples.y,
            certified=certified,
            margin_lower=np.full(n, np.nan),
            margins_lower=np.full((n, model.num_classes - 1), np.nan),
            certificate=tuple(
                self._certificate(model, outcome, int(label)) if proven else None
                for proven, outcome, label in zip(certified, outcomes, samples.y, strict=True)
            ),
            method=self.name,
            reason=tuple(
                "" if proven else outcome.reason
                for proven, outcome in zip(certified, outcomes, strict=True)
            ),
            radius=np.where([outcome.right for outcome in outcomes], radius, 0.0),
        )

    def _noise(self, samples: Samples) -> Any:
        from .votes import LatticeNoise, NormalNoise

        if self.lattice is None:
            return NormalNoise(samples.x, self.sigma)
        return LatticeNoise.of(samples.x, self.sigma, Lattice.of(self.lattice))

    def _sample(self, votes: Votes, row: int, sample: int, label: int, eps: float) -> _Outcome:
        chosen = votes.counts(row, sample, phase=0, first=0, count=self.n0)
        winner = int(chosen.argmax())
        if winner != label:
            # What the smoothed classifier says elsewhere does not help the verdict.
            return _Outcome(False, 0.0, "misclassified", 0, 0)
        if self.early_stop:
            return self._until(votes, row, sample, winner, eps)
        hits = int(votes.counts(row, sample, phase=1, first=0, count=self.n)[winner])
        p = binomial.lower_limit(hits, self.n, self.alpha) - votes.distance
        radius = binomial.radius(p, self.sigma)
        return _Outcome(True, radius, "abstain" if radius <= 0 else "radius", hits, self.n)

    def _until(self, votes: Votes, row: int, sample: int, winner: int, eps: float) -> _Outcome:
        # The probability that the radius needs, and what the noise's distance may hide of it.
        needed = binomial.needed(eps, self.sigma) + votes.distance
        if needed >= 1:
            return _Outcome(True, 0.0, "radius", 0, 0)
        hits = done = 0
        while done < self.n:
            count = min(max(100, min(done, _ROUND)), self.n - done)
            hits += int(votes.counts(row, sample, phase=1, first=done, count=count)[winner])
            done += count
            if binomial.log_evidence_above(needed, hits, done) >= -math.log(self.alpha):
                return _Outcome(True, eps, "", hits, done)
            if binomial.log_evidence_below(needed, hits, done) >= -math.log(self.alpha):
                break
        return _Outcome(True, 0.0, "radius", hits, done)

    def _certificate(self, model: Model, outcome: _Outcome, label: int) -> Mapping[str, Any]:
        return MappingProxyType(
            {
                "method": self.name,
                "model": model.digest,
                "label": label,
                "sigma": float(self.sigma).hex(),
                "lattice": None if self.lattice is None else str(Lattice.of(self.lattice).spacing),
                "seed": self.seed,
                "alpha": self.alpha,
                "hits": outcome.hits,
                "copies": outcome.copies,
                "early_stop": self.early_stop,
                "radius": outcome.radius.hex(),
            }
        )


@dataclass(frozen=True)
class _Outcome:
    right: bool
    """Whether the class that was chosen is the label."""
    radius: float
    reason: str
    hits: int
    copies: int
