"""What became of every case of a finite threat model: accuracy by corruption and severity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

WRONG, CORRECT, UNKNOWN = 0, 1, -1
"""Codes of a case: the model erred, did not, or could not be evaluated."""


@dataclass(frozen=True, eq=False)
class Cases:
    """Whether the model is correct on each sample in each case, `fog/3` for instance.

    All samples count, misclassified ones too, as benchmarks of corruptions count them; what could
    not be evaluated is not correct.
    """

    names: tuple[str, ...]
    """Kind and level of each case [k]."""
    correct: NDArray[np.int8]
    """CORRECT, WRONG or UNKNOWN [n, k]."""

    def __post_init__(self) -> None:
        if self.correct.ndim != 2 or self.correct.shape[1] != len(self.names):
            raise ValueError(
                f"{len(self.names)} cases need [n, {len(self.names)}], got {self.correct.shape}"
            )

    @staticmethod
    def unknown(names: Sequence[str], samples: int) -> Cases:
        """Nothing evaluated yet."""
        return Cases(tuple(names), np.full((samples, len(names)), UNKNOWN, np.int8))

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """Fraction of all samples that are correct in each case [k]."""
        return np.asarray((self.correct == CORRECT).mean(axis=0))

    @property
    def mean_accuracy(self) -> float:
        """Mean over all cases: for common corruptions the figure that leaderboards rank by."""
        return float(self.accuracy.mean())

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row a case: kind, level, accuracy."""
        import polars as pl

        parts = [name.rpartition("/") for name in self.names]
        return pl.DataFrame(
            {
                "kind": [kind for kind, _, _ in parts],
                "level": [level for _, _, level in parts],
                "accuracy": self.accuracy,
            }
        )

    @cached_property
    def table(self) -> pl.DataFrame:
        """One row a kind: kind, one column a level, mean."""
        import polars as pl

        wide = self.frame.pivot("level", index="kind", values="accuracy")
        mean = self.frame.group_by("kind", maintain_order=True).agg(pl.col("accuracy").mean())
        return wide.with_columns(mean["accuracy"].alias("mean"))

    def mce(self, baseline: Cases) -> float:
        """Return the mean corruption error relative to a baseline model; 1 is as bad as it.

        A kind's error is the sum of its error rates over all levels, divided by the baseline's
        (Hendrycks & Dietterich 2019); the mean is over kinds.

        Args:
            baseline: the same cases of another model, AlexNet's in the paper.

        Raises:
            InputError: other cases, or a kind on which the baseline makes no error.
        """
        if self.names != baseline.names:
            raise InputError("the baseline has other cases; give it the same threat model")
        kinds = self.frame["kind"].to_numpy()
        ratios = []
        for kind in dict.fromkeys(kinds):
            rows = kinds == kind
            least = float((1 - baseline.accuracy[rows]).sum())
            if least == 0:
                raise InputError(f"the baseline makes no error under {kind}: nothing to divide by")
            ratios.append(float((1 - self.accuracy[rows]).sum()) / least)
        return float(np.mean(ratios))
