"""Threat models: which perturbations count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._exact import exact, round_down, round_up
from ..errors import InputError
from .balls import L0, L1, L2, Box, Linf
from .base import Norm, ThreatModel
from .pixels import Frame, Patch, image_size
from .tabular import MAX_COLUMNS, Metric, Tabular
from .transformations import CORRUPTIONS, SEVERITIES, Corruptions, Spatial, Transformation

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CORRUPTIONS",
    "KINDS",
    "L0",
    "L1",
    "L2",
    "MAX_COLUMNS",
    "SEVERITIES",
    "Box",
    "Corruptions",
    "Frame",
    "Linf",
    "Metric",
    "Norm",
    "Patch",
    "Spatial",
    "Tabular",
    "ThreatModel",
    "Transformation",
    "exact",
    "image_size",
    "parse",
    "round_down",
    "round_up",
]

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
