"""The bracket around robust accuracy, and the confidence interval of a proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass


def wilson(successes: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927), clipped to [0, 1]."""
    if total == 0:
        return (0.0, 1.0)
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == total else min(1.0, centre + half)
    return (low, high)


@dataclass(frozen=True)
class Bracket:
    """Certified accuracy <= true robust accuracy <= attacked accuracy, over `total` samples."""

    certified: float
    """Fraction of samples proven safe."""
    attacked: float
    """Fraction of samples not proven misclassified or broken; an `error` never counts as robust."""
    total: int
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not (0 <= self.certified <= self.attacked <= 1 and self.total > 0):
            raise ValueError(
                f"a bracket needs 0 <= certified <= attacked <= 1 over at least one sample, got "
                f"{self.certified}, {self.attacked}, {self.total}"
            )

    @property
    def open(self) -> float:
        """Fraction of samples decided from neither side: the figure to shrink."""
        return self.attacked - self.certified

    @property
    def interval(self) -> tuple[float, float]:
        """Confidence interval of the population's robust accuracy.

        From the lower Wilson limit of the certified to the upper Wilson limit of the attacked
        accuracy.
        """
        low, _ = wilson(round(self.certified * self.total), self.total, confidence=self.confidence)
        _, high = wilson(round(self.attacked * self.total), self.total, confidence=self.confidence)
        return (low, high)

    def __str__(self) -> str:
        """Return `61.0 % <= robust <= 64.0 %`."""
        return f"{self.certified:.1%} <= robust <= {self.attacked:.1%}"
