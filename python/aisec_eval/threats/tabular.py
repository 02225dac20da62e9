"""Rows of a table, and what an attacker may change in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from .._exact import exact
from ..errors import InputError
from ..features import Feature, OneHot, feature, native
from .base import Norm, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from fractions import Fraction

    from numpy.typing import NDArray


Metric = Literal["linf", "l2", "l1", "l0"]
MAX_COLUMNS = 1_000_000
"""Most columns of a table."""


@dataclass(frozen=True, init=False)
class Tabular(ThreatModel):
    """Rows of a table: numbers, whole numbers, categories, fixed and one-way features, a budget.

    A change of a number counts in units of its feature's `scale`, another category its `cost`. All
    changes together are within the budget `eps` by `metric`: the largest ("linf"), the root of the
    sum of squares ("l2"), the sum ("l1"), or how many features change ("l0"; a category is one).
    With "linf" a category may change where its cost is at most `eps`. Inputs are the features as
    they are: scaling belongs into the model.

    Args:
        features: what the columns are, in their order: `Feature` or `OneHot` (several columns).
        eps: the budget, in scales; a number of features for "l0".
        metric: how changes add up.

    Raises:
        InputError: no features, a negative or missing budget, or an unknown metric.
    """

    norm: ClassVar[Norm] = "tabular"

    features: tuple[Feature | OneHot, ...] = field(kw_only=True)
    metric: Metric = field(kw_only=True)

    def __init__(
        self,
        features: Iterable[Feature | OneHot],
        eps: float | int | str | Fraction,
        *,
        metric: Metric = "linf",
    ) -> None:
        given = tuple(features)
        if not given or not all(isinstance(part, Feature | OneHot) for part in given):
            raise InputError("features must be Feature(...) and OneHot(...), at least one of them")
        if metric not in ("linf", "l2", "l1", "l0"):
            raise InputError(f"metric={metric!r} must be linf, l2, l1 or l0")
        if sum(part.columns for part in given) > MAX_COLUMNS:
            raise InputError(f"the features fill more than {MAX_COLUMNS} columns")
        budget = exact(eps)
        if budget < 0 or (metric == "l0" and budget.denominator != 1):
            kind = "a number of features" if metric == "l0" else "a budget of at least 0"
            raise InputError(f"eps={eps!r} must be {kind}")
        object.__setattr__(self, "features", given)
        object.__setattr__(self, "metric", metric)
        object.__setattr__(self, "eps", budget)
        low, high = float(self.lower.min()), float(self.upper.max())
        object.__setattr__(self, "bounds", (low, high))

    @cached_property
    def lower(self) -> NDArray[np.float64]:
        """Least value of each column."""
        return self._ends("lower", 0.0)

    @cached_property
    def upper(self) -> NDArray[np.float64]:
        """Greatest value of each column."""
        return self._ends("upper", 1.0)

    def _ends(self, name: str, onehot: float) -> NDArray[np.float64]:
        ends = [np.full(part.columns, getattr(part, name, onehot)) for part in self.features]
        found = np.concatenate(ends).astype(np.float64)
        found.setflags(write=False)
        return found

    @property
    def label(self) -> str:
        """Metric and budget, e.g. `l1 0.3`."""
        return f"{self.metric} {super().label}"

    @cached_property
    def constraint(self) -> str:
        """Features and budget."""
        return json.dumps(native(self.features, self.metric, self.eps))

    def check_inputs(self, x: NDArray[np.float32]) -> None:
        """Refuse rows that are not of their features' kinds."""
        column = 0
        for part in self.features:
            values = x[:, column : column + part.columns]
            if isinstance(part, OneHot):
                bad = ~((values == 0) | (values == 1)).all(axis=1) | ((values == 1).sum(1) != 1)
                wanted = (
                    f"columns {column} to {column + part.columns - 1} must be one 1 among zeros"
                )
            else:
                bad = (part.kind == "integer") & (values[:, 0] != np.floor(values[:, 0]))
                wanted = f"column {column} must hold whole numbers"
            if bad.any():
                row = int(np.argmax(bad))
                shown = [float(value) for value in values[row][:8]]
                raise InputError(
                    f"x[{row}] has {shown}, but {wanted}; give the raw features and put their "
                    "scaling into the model"
                )
            column += part.columns

    def distances(self, x: NDArray[np.float32], x_adv: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each row's changes count towards the budget, float64 [n]."""
        counts, column = [], 0
        for part in self.features:
            columns = slice(column, column + part.columns)
            move = np.abs(x_adv[:, columns].astype(np.float64) - x[:, columns]).max(axis=1)
            counts.append(move * float(part.cost if isinstance(part, OneHot) else 1 / part.unit))
            column += part.columns
        each = np.stack(counts, axis=1)
        if self.metric == "linf":
            return np.asarray(each.max(axis=1))
        if self.metric == "l0":
            return np.asarray((each != 0).sum(axis=1), dtype=np.float64)
        return np.asarray(each.sum(axis=1) if self.metric == "l1" else np.sqrt((each**2).sum(1)))

    def describe(self) -> dict[str, Any]:
        """Return the features and the budget."""
        features = [part.describe() for part in self.features]
        return {
            "norm": self.norm,
            "metric": self.metric,
            "eps": str(self.eps),
            "features": features,
        }

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(map(feature, value["features"]), value["eps"], metric=value["metric"])
