"""`[[threat]]` of patches, frames and tables.

```toml
[[threat]]
kind = "patch"
size = [3, [2, 8]]                     # 3x3, and 2 rows of 8 pixels

[[threat]]
kind = "frame"
width = [1, 2]

[[threat]]
kind = "tabular"
metric = "l1"
eps = [0.1, "1/3"]
features = [                           # the columns in their order
    { lower = 18, upper = 100, kind = "integer", change = "up" },
    { lower = 0, upper = 1, scale = 0.1 },
    { onehot = 3, cost = "1/2" },
]
```
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, StrictInt, Tag

from ..features import Feature, OneHot
from ..threats import Frame, Patch, Tabular, ThreatModel
from .attack_table import STRICT
from .scalars import Identifier, Rational

Pixels = Annotated[StrictInt, Field(gt=0, le=100_000)]


class _Threat(BaseModel):
    model_config = STRICT

    id: Identifier | None = None
    """What tasks and gates call it; the kind when absent."""

    @property
    def norm(self) -> str:
        """What gates may call it besides its id."""
        return str(getattr(self, "kind"))  # noqa: B009 - every subclass has one

    @property
    def name(self) -> str:
        """The id, or the kind when there is none."""
        return self.id or self.norm


class PatchTable(_Threat):
    """`[[threat]] kind = "patch"`: rectangles of pixels, one threat model a size."""

    kind: Literal["patch"]
    size: Annotated[
        list[Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)]],
        Field(min_length=1, max_length=100),
    ]
    """Sides of squares, or [rows, columns]."""

    @property
    def sides(self) -> list[tuple[int, int]]:
        """Rows and columns of every size."""
        return [(n, n) if isinstance(n, int) else (n[0], n[1]) for n in self.size]

    @property
    def eps(self) -> list[Fraction]:
        """Pixels of every size, by which gates may name it: `patch 9`."""
        return [Fraction(rows * columns) for rows, columns in self.sides]

    def models(self, bounds: tuple[float, float]) -> list[ThreatModel]:
        """Return one threat model a size."""
        return [Patch(*sides, bounds=bounds) for sides in self.sides]


class FrameTable(_Threat):
    """`[[threat]] kind = "frame"`: pixels at the border, one threat model a width."""

    kind: Literal["frame"]
    width: Annotated[list[Pixels], Field(min_length=1, max_length=100)]

    @property
    def eps(self) -> list[Fraction]:
        """The widths, by which gates may name it: `frame 2`."""
        return [Fraction(width) for width in self.width]

    def models(self, bounds: tuple[float, float]) -> list[ThreatModel]:
        """Return one threat model a width."""
        return [Frame(width, bounds=bounds) for width in self.width]


class NumberTable(BaseModel):
    """A column that holds a number, see `aisec_eval.Feature`."""

    model_config = STRICT

    lower: Rational
    upper: Rational
    kind: Literal["continuous", "integer"] = "continuous"
    change: Literal["both", "up", "down", "fixed"] = "both"
    scale: Rational | None = None

    def feature(self) -> Feature:
        """Return the feature; raises InputError where its range is none."""
        return Feature(self.lower, self.upper, self.kind, self.change, self.scale)


class OneHotTable(BaseModel):
    """Columns that hold a category, see `aisec_eval.OneHot`."""

    model_config = STRICT

    onehot: Annotated[StrictInt, Field(gt=0, le=100_000)]
    change: Literal["both", "fixed"] = "both"
    cost: Rational = Fraction(1)

    def feature(self) -> OneHot:
        """Return the feature; raises InputError where its cost is negative."""
        return OneHot(self.onehot, self.change, self.cost)


def _feature_kind(value: object) -> str:
    named = "onehot" in value if isinstance(value, dict) else hasattr(value, "onehot")
    return "category" if named else "number"


FeatureTable = Annotated[
    Annotated[NumberTable, Tag("number")] | Annotated[OneHotTable, Tag("category")],
    Discriminator(_feature_kind),
]


class TabularTable(_Threat):
    """`[[threat]] kind = "tabular"`: rows of a table, one threat model a budget."""

    kind: Literal["tabular"]
    features: Annotated[list[FeatureTable], Field(min_length=1, max_length=100_000)]
    metric: Literal["linf", "l2", "l1", "l0"] = "linf"
    eps: Annotated[list[Annotated[Rational, Field(ge=0)]], Field(min_length=1, max_length=100)]

    def models(self, bounds: tuple[float, float]) -> list[ThreatModel]:
        """Return one threat model a budget; the columns' ranges are the features'.

        Raises:
            InputError: a feature or a budget is none.
        """
        del bounds
        features = [table.feature() for table in self.features]
        return [Tabular(features, eps, metric=self.metric) for eps in self.eps]
