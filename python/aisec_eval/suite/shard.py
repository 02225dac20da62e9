"""The unit of distribution: a cell times a range of samples, named by the hash of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .identity import digest
from .inputs import DataSource, ModelSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Shard:
    """A cell times a range of samples, named by the hash of its inputs."""

    identity: Mapping[str, Any]
    """Everything the result depends on, as plain JSON."""
    model: ModelSource | None
    data: DataSource
    rows: tuple[int, int]
    """First row of the dataset and one past the last."""

    @cached_property
    def key(self) -> str:
        """SHA-256 of the identity's canonical JSON."""
        return digest(self.identity)

    @property
    def stage(self) -> int:
        """Shards of a stage need some of the stages before, and no others."""
        return int(self.identity.get("stage", 0))

    @property
    def needs(self) -> Sequence[str]:
        """Keys of the shards whose results this one reads."""
        found: Sequence[str] = self.identity.get("needs", ())
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, for a worker in another process."""
        return {
            "identity": dict(self.identity),
            "model": None if self.model is None else self.model.to_json(),
            "data": self.data.to_json(),
            "rows": list(self.rows),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Shard:
        """Read what `to_json` gave."""
        first, stop = value["rows"]
        return Shard(
            value["identity"],
            None if value["model"] is None else ModelSource.from_json(value["model"]),
            DataSource.from_json(value["data"]),
            (first, stop),
        )
