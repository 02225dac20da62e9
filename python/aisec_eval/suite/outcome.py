"""What executors and the run say to each other: small, plain, no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .shard import Shard

ATTEMPTS = 3
"""How often a shard is started before the death of its worker counts as its own fault."""


@dataclass(frozen=True)
class Outcome:
    """A shard that is in the store, or why it is not."""

    key: str
    seconds: float = 0.0
    worker: str = ""
    error: str | None = None
    """One line; None when the result is in the store."""


def where(shard: Shard) -> str:
    """Name a shard in a message: `normal, linf 1/16, digits, samples 0-63`."""
    first, stop = shard.rows
    what = "models" if shard.identity["kind"].startswith("ensemble") else "rows"
    parts = [shard.data.name, f"{what} {first}-{stop - 1}"]
    if shard.model is not None:
        threat: Mapping[str, Any] = shard.identity["threat"]
        parts = [shard.model.name, f"{threat['norm']} {threat.get('eps', '')}".strip(), *parts]
    return ", ".join(parts)
