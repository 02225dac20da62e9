"""Threat models: which perturbations count."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ._exact import exact as exact
from ._exact import round_down as round_down
from ._exact import round_up as round_up
from .errors import InputError
from .features import Feature, OneHot, feature, native

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

Norm = Literal[
    "linf", "l2", "l1", "l0", "box", "patch", "frame", "tabular", "spatial", "corruptions"
]
Metric = Literal["linf", "l2", "l1", "l0"]
MAX_COLUMNS = 1_000_000
"""Most columns of a table."""


@dataclass(frozen=True)
class ThreatModel:
    """A norm ball of radius `eps` around each sample, cut with the input range `bounds`.

    `eps` is in the units of `bounds` (for images usually [0, 1]) and kept as an exact rational.
    """

    norm: ClassVar[Norm]

    eps: Fraction
    bounds: tuple[float, float] = (0.0, 1.0)

    def __init__(
        self, eps: float | int | str | Fraction, *, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        object.__setattr__(self, "eps", exact(eps))
        try:
            low, high = (float(bound) for bound in bounds)
        except (TypeError, ValueError):
            raise InputError(
                f"bounds={bounds!r} must be two finite numbers, lower < upper"
            ) from None
        object.__setattr__(self, "bounds", (low, high))
        self._check()

    def _check(self) -> None:
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"bounds={self.bounds} must be two finite numbers, lower < upper")
        if self.eps < 0:
            raise InputError(f"eps={self.label} is negative; a radius must be at least 0")
        if self.norm == "linf" and self.eps > Fraction(high) - Fraction(low):
            raise InputError(
                f"eps={self.label} is larger than the input range {self.bounds}; "
                "eps is in the units of bounds (for 8-bit images in [0, 1] write eps='8/255')"
            )

    @property
    def eps_upper(self) -> float:
        """The radius rounded up to float64: what certifiers must cover."""
        return round_up(self.eps)

    @property
    def eps_lower(self) -> float:
        """The radius rounded down to float64: what adversarial examples must stay within."""
        return round_down(self.eps)

    @property
    def label(self) -> str:
        """The radius as a person writes it: `8/255`, `0.3`, `2`."""
        eps = self.eps
        decimal = f"{float(eps):.6g}"
        # A float is binary: 0.1 is shown as the 0.1 that was meant, not by its 55 digits.
        if abs(Fraction(decimal) - eps) <= abs(eps) / 10**12:
            return decimal
        levels = round(eps * 255)
        if abs(eps * 255 - levels) <= eps * 255 / 10**12:
            return f"{levels}/255"
        return str(eps) if eps.denominator < 10**6 else repr(float(eps))

    def __str__(self) -> str:
        """Return norm and radius, e.g. `Linf 8/255`."""
        return f"{self.norm.capitalize()} {self.label}"

    @property
    def constraint(self) -> str | None:
        """What samples must satisfy beside `bounds` and instead of a radius, for native code."""
        return None

    def check_inputs(self, x: NDArray[np.float32]) -> None:
        """Refuse inputs [n, *input_shape] that the threat model is not for.

        Raises:
            InputError: what is wrong with which.
        """

    def describe(self) -> dict[str, Any]:
        """Return the threat model in exact terms that JSON can hold; `parse` reads it."""
        return {"norm": self.norm, "eps": str(self.eps), "bounds": list(self.bounds)}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["eps"], bounds=tuple(value["bounds"]))


@dataclass(frozen=True, init=False)
class Linf(ThreatModel):
    """Every coordinate moves by at most `eps`."""

    norm: ClassVar[Norm] = "linf"


@dataclass(frozen=True, init=False)
class L2(ThreatModel):
    """The perturbation's Euclidean norm is at most `eps`."""

    norm: ClassVar[Norm] = "l2"


@dataclass(frozen=True, init=False)
class L1(ThreatModel):
    """The perturbation's absolute values sum to at most `eps`."""

    norm: ClassVar[Norm] = "l1"


@dataclass(frozen=True, init=False)
class L0(ThreatModel):
    """At most `eps` coordinates change, each to anything in `bounds`.

    Coordinates of the input are counted, not pixels: three for a pixel of a colour image.
    Certifiers do not cover it.
    """

    norm: ClassVar[Norm] = "l0"

    def _check(self) -> None:
        super()._check()
        if self.eps.denominator != 1:
            raise InputError(
                f"eps={self.label} is not a number of coordinates; L0 needs an integer"
            )


@dataclass(frozen=True, init=False, eq=False)
class Box(ThreatModel):
    """Each input may be anything in `[lower, upper]`, arrays of one sample's shape.

    Unlike the norm balls a box does not move with the sample: it is the same region for all.
    """

    norm: ClassVar[Norm] = "box"

    lower: NDArray[np.float64] = field(kw_only=True)
    upper: NDArray[np.float64] = field(kw_only=True)

    def __init__(self, lower: ArrayLike, upper: ArrayLike) -> None:
        try:
            low = np.array(lower, dtype=np.float64)
            high = np.array(upper, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError("box corners must be arrays of one sample's shape") from None
        if low.shape != high.shape or low.size == 0:
            raise InputError(
                f"box corners must have one sample's shape, got {low.shape} and {high.shape}"
            )
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            raise InputError("box corners must be finite with lower <= upper everywhere")
        low.setflags(write=False)
        high.setflags(write=False)
        object.__setattr__(self, "lower", low)
        object.__setattr__(self, "upper", high)
        object.__setattr__(self, "eps", Fraction(0))
        object.__setattr__(self, "bounds", (float(low.min()), float(high.max())))

    @property
    def label(self) -> str:
        """Shape and extent of the box."""
        low, high = self.bounds
        return f"{'x'.join(map(str, self.lower.shape))} in [{low:g}, {high:g}]"

    def describe(self) -> dict[str, Any]:
        """Return the corners."""
        return {"norm": "box", "lower": self.lower.tolist(), "upper": self.upper.tolist()}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["lower"], value["upper"])

    def __eq__(self, other: object) -> bool:
        """Boxes are equal when their corners are."""
        return (
            isinstance(other, Box)
            and np.array_equal(self.lower, other.lower)
            and np.array_equal(self.upper, other.upper)
        )

    def __hash__(self) -> int:
        """Hash of both corners."""
        return hash((self.lower.tobytes(), self.upper.tobytes(), self.lower.shape))


@dataclass(frozen=True, init=False)
class Patch(ThreatModel):
    """Every pixel of one rectangle may be anything in `bounds`, wherever the rectangle lies.

    Images are [channels, height, width], [height, width], or [height, width, channels] with at most
    four channels and more than four rows. All channels of a pixel change together.

    Args:
        height: rows of the rectangle.
        width: its columns; a square when None.
        bounds: range of the inputs.

    Raises:
        InputError: not whole numbers from 1 on.
    """

    norm: ClassVar[Norm] = "patch"

    height: int = field(kw_only=True)
    width: int = field(kw_only=True)

    def __init__(
        self,
        height: int,
        width: int | None = None,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        sides = {"height": height, "width": height if width is None else width}
        for name, value in sides.items():
            object.__setattr__(self, name, _pixels(name, value))
        super().__init__(self.height * self.width, bounds=bounds)

    @property
    def label(self) -> str:
        """Rows and columns, e.g. `5x5`."""
        return f"{self.height}x{self.width}"

    @property
    def constraint(self) -> str:
        """The rectangle."""
        return json.dumps({"patch": {"height": self.height, "width": self.width}})

    def check_inputs(self, x: NDArray[np.float32]) -> None:
        """Refuse samples that are no images or smaller than the patch."""
        rows, columns = image_size(x.shape[1:], "a patch")
        if self.height > rows or self.width > columns:
            raise InputError(
                f"a patch of {self.label} pixels does not fit an image of {rows}x{columns}"
            )

    def describe(self) -> dict[str, Any]:
        """Return both sides and the range."""
        sides = {"height": self.height, "width": self.width}
        return {"norm": self.norm, **sides, "bounds": list(self.bounds)}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["height"], value["width"], bounds=tuple(value["bounds"]))


@dataclass(frozen=True, init=False)
class Frame(ThreatModel):
    """Every pixel no further than `width` from an edge may be anything in `bounds`.

    Images as for `Patch`.

    Args:
        width: thickness of the frame in pixels.
        bounds: range of the inputs.

    Raises:
        InputError: not a whole number from 1 on.
    """

    norm: ClassVar[Norm] = "frame"

    width: int = field(kw_only=True)

    def __init__(self, width: int, *, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
        object.__setattr__(self, "width", _pixels("width", width))
        super().__init__(self.width, bounds=bounds)

    @property
    def constraint(self) -> str:
        """The frame."""
        return json.dumps({"frame": {"width": self.width}})

    def check_inputs(self, x: NDArray[np.float32]) -> None:
        """Refuse samples that are no images."""
        image_size(x.shape[1:], "a frame")

    def describe(self) -> dict[str, Any]:
        """Return the width and the range."""
        return {"norm": self.norm, "width": self.width, "bounds": list(self.bounds)}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["width"], bounds=tuple(value["bounds"]))


def _pixels(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name}={value!r} must be a whole number of pixels, at least 1")
    return int(value)


def image_size(shape: tuple[int, ...], what: str) -> tuple[int, int]:
    """Return rows and columns of images of one shape.

    Raises:
        InputError: they are no images; `what` needs them.
    """
    match shape:
        case (rows, columns, channels) if channels <= 4 < rows:
            return rows, columns
        case (_, rows, columns) | (rows, columns):
            return rows, columns
    raise InputError(
        f"{what} is for images [channels, height, width] or [height, width], one sample has shape "
        f"{list(shape)}; reshape the data and the model's input"
    )


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


CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 common corruptions, in the order of the paper."""
SEVERITIES = (1, 2, 3, 4, 5)


class Transformation(ThreatModel):
    """What may happen to a sample is a family of transformations, not a ball around it.

    An adversarial example is the transformed sample, with the name or the parameters of the
    transformation; the re-check computes it again. Certifiers do not cover it.
    """

    def _set(self, bounds: tuple[float, float], **values: Any) -> None:
        object.__setattr__(self, "eps", Fraction(0))
        try:
            low, high = (float(bound) for bound in bounds)
        except (TypeError, ValueError):
            raise InputError(
                f"bounds={bounds!r} must be two finite numbers, lower < upper"
            ) from None
        object.__setattr__(self, "bounds", (low, high))
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()


@dataclass(frozen=True, init=False)
class Spatial(Transformation):
    """Rotations and translations of images (Engstrom et al. 2019, arXiv:1712.02779).

    The image [..., height, width], channels first, is turned about its centre and then shifted,
    with bilinear interpolation; what comes from outside the image is `fill`.

    Args:
        max_rotation: degrees either way, 0..180; positive turns counter-clockwise.
        max_translation: pixels either way, along both axes; positive is right and down.
        fill: value of pixels from outside the image, within `bounds`: zero padding.
        bounds: range of the inputs.

    Raises:
        InputError: not finite numbers in these ranges.
    """

    norm: ClassVar[Norm] = "spatial"

    max_rotation: Fraction = field(kw_only=True)
    max_translation: Fraction = field(kw_only=True)
    fill: float = field(kw_only=True)

    def __init__(
        self,
        max_rotation: float | int | str | Fraction = 30,
        max_translation: float | int | str | Fraction = 3,
        *,
        fill: float = 0.0,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        rotation = exact(max_rotation, name="max_rotation")
        translation = exact(max_translation, name="max_translation")
        padding = float(exact(fill, name="fill"))
        self._set(bounds, max_rotation=rotation, max_translation=translation, fill=padding)

    def _check(self) -> None:
        super()._check()
        if not 0 <= self.max_rotation <= 180:
            raise InputError(f"max_rotation={self.max_rotation} must be 0 to 180 degrees")
        if not 0 <= self.max_translation <= 10_000:
            raise InputError(f"max_translation={self.max_translation} must be 0 to 10000 pixels")
        if not self.bounds[0] <= self.fill <= self.bounds[1]:
            raise InputError(
                f"fill={self.fill:g} is outside the input range {self.bounds}; "
                "give fill= one of its values"
            )

    @property
    def label(self) -> str:
        """Both limits."""
        rotation, translation = float(self.max_rotation), float(self.max_translation)
        return f"rotation {rotation:g} deg, translation {translation:g} px"

    def describe(self) -> dict[str, Any]:
        """Return the limits, the padding and the range."""
        return {
            "norm": self.norm,
            "max_rotation": str(self.max_rotation),
            "max_translation": str(self.max_translation),
            "fill": self.fill,
            "bounds": list(self.bounds),
        }

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(
            value["max_rotation"],
            value["max_translation"],
            fill=value["fill"],
            bounds=tuple(value["bounds"]),
        )


@dataclass(frozen=True, init=False)
class Corruptions(Transformation):
    """Common corruptions of images (Hendrycks & Dietterich 2019, arXiv:1903.12261).

    Every corruption is applied at every severity, to images [channels, height, width] of one or
    three channels, quantised to 8 bits as in the paper. A sample is broken where one of them makes
    the model err; `Evaluation.cases` holds what each of them did.

    Args:
        names: which corruptions, of `CORRUPTIONS`; all when None.
        severities: which of 1..5.
        bounds: range of the inputs.

    Raises:
        InputError: an unknown corruption or severity.
    """

    norm: ClassVar[Norm] = "corruptions"

    names: tuple[str, ...] = field(kw_only=True)
    severities: tuple[int, ...] = field(kw_only=True)

    def __init__(
        self,
        names: Iterable[str] | None = None,
        severities: Iterable[int] = SEVERITIES,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        wanted = CORRUPTIONS if names is None else (names,) if isinstance(names, str) else names
        given = (severities,) if isinstance(severities, int) else severities
        self._set(bounds, names=tuple(wanted), severities=tuple(given))

    def _check(self) -> None:
        super()._check()
        for name in self.names:
            if name not in CORRUPTIONS:
                raise InputError(
                    f"corruption {name!r} is unknown; there are {', '.join(CORRUPTIONS)}"
                )
        for severity in self.severities:
            if severity not in SEVERITIES or isinstance(severity, bool):
                raise InputError(f"severity {severity!r} is unknown; there are 1, 2, 3, 4 and 5")
        for what, values in (("names", self.names), ("severities", self.severities)):
            if not values or len(set(values)) < len(values):
                raise InputError(f"{what}={list(values)!r} must be distinct, and at least one")

    @property
    def cases(self) -> tuple[str, ...]:
        """Every corruption at every severity, as `fog/3`."""
        return tuple(f"{name}/{severity}" for name in self.names for severity in self.severities)

    @property
    def label(self) -> str:
        """How many corruptions, and the severities."""
        count = len(self.names)
        names = f"{count} kinds" if count > 2 else ", ".join(self.names)
        severities = ", ".join(map(str, self.severities))
        return f"{names}, severity {'1 to 5' if self.severities == SEVERITIES else severities}"

    def describe(self) -> dict[str, Any]:
        """Return names, severities and the range."""
        return {
            "norm": self.norm,
            "names": list(self.names),
            "severities": list(self.severities),
            "bounds": list(self.bounds),
        }

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> ThreatModel:
        """Return what `describe` described."""
        return cls(value["names"], value["severities"], bounds=tuple(value["bounds"]))


KINDS: dict[str, type[ThreatModel]] = {
    kind.norm: kind for kind in (Linf, L2, L1, L0, Box, Patch, Frame, Tabular, Spatial, Corruptions)
}
"""Threat models by `norm`."""


def parse(description: Mapping[str, Any]) -> ThreatModel:
    """Return the threat model that `ThreatModel.describe` described.

    Raises:
        InputError: not such a description.
    """
    norm = description.get("norm")
    kind = KINDS.get(norm) if isinstance(norm, str) else None
    if kind is None:
        raise InputError(f"threat model of kind {str(norm)[:40]!r} is unknown")
    try:
        return kind.from_description(description)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError):
        raise InputError(f"not the description of a {kind.norm} threat model") from None
