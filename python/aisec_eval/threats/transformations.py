"""Transformations of a sample: rotations and translations, common corruptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from .._exact import exact
from ..errors import InputError
from .base import Norm, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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
