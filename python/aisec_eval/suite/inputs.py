"""Models and datasets of a suite, loaded once in each process."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import SuiteError
from ..models.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ..models.base import Model


@dataclass(frozen=True)
class ModelSource:
    """Where a model is and how to read it."""

    name: str
    path: str
    """Absolute path of the file, or URL."""
    input_shape: tuple[int, ...] | None = None
    version: str | None = None
    """Of URLs: what stands behind it, as the suite states."""
    endpoint: Endpoint | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ModelSource:
        """Read what `to_json` gave."""
        shape, endpoint = value["input_shape"], value["endpoint"]
        return ModelSource(
            value["name"],
            value["path"],
            None if shape is None else tuple(shape),
            value["version"],
            None if endpoint is None else Endpoint(**endpoint),
        )


@dataclass(frozen=True)
class Plant:
    """Poison to plant, see `plant_patch`."""

    rate: str
    """An exact rational, as text."""
    target: int
    size: int
    seed: int


@dataclass(frozen=True)
class DataSource:
    """Where samples are, which of them, and what is planted into them."""

    name: str
    source: str
    """A dataset's name or an absolute path."""
    split: str | None = None
    ids: tuple[int, int] | None = None
    plant: Plant | None = None
    table: bool = False
    """Whether it is Parquet files that are scanned where they are."""
    labels: str | None = None
    """The label column of a table."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> DataSource:
        """Read what `to_json` gave."""
        ids, plant = value["ids"], value["plant"]
        return DataSource(
            value["name"],
            value["source"],
            value["split"],
            None if ids is None else (ids[0], ids[1]),
            None if plant is None else Plant(**plant),
            value["table"],
            value["labels"],
        )


@dataclass(frozen=True)
class Samples:
    """Samples as a suite uses them; arrays are read-only."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    ids: NDArray[np.int64]
    digest: str
    """Of the dataset before anything was planted."""
    bounds: tuple[float, float]
    poison: NDArray[np.bool_] | None
    lattice: Fraction | None = None
    """Spacing of the values where they are integers."""
    table_rows: int | None = None
    """Rows of a table, whose samples are not here; None where they are."""

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.y) if self.table_rows is None else self.table_rows


@cache
def load_samples(source: DataSource) -> Samples:
    """Load, cut and poison a dataset as `source` says.

    Raises:
        DatasetError: missing, unreadable, or the ids are outside it.
        SuiteError, InputError: the poison does not fit the data.
    """
    from ..attacks.lattice import spacing_of
    from ..datasets import load_dataset
    from ..datasets.poison import plant_patch

    options: dict[str, Any] = {} if source.split is None else {"split": source.split}
    data = load_dataset(source.source, ids=source.ids, **options)
    x, y = data
    poison = None
    if source.plant is not None:
        if source.plant.target >= data.num_classes:
            raise SuiteError(
                f"data {source.name}: target={source.plant.target} is no class of the data, "
                f"which has {data.num_classes}"
            )
        x, y, poison = plant_patch(
            x,
            y,
            rate=float(Fraction(source.plant.rate)),
            target=source.plant.target,
            size=source.plant.size,
            seed=source.plant.seed,
            bounds=data.bounds,
        )
    return Samples(x, y, data.ids, data.digest, data.bounds, poison, spacing_of(data))


@cache
def load_suite_model(source: ModelSource, data: DataSource | None = None) -> Model:
    """Load a model; the load checks use a few samples of `data` where given.

    What stands behind a URL is known by what the suite says: its digest is of address and version.

    Raises:
        ModelImportError: the file cannot be read or behaves strangely.
        EndpointError: the endpoint refused, failed or answered garbage.
    """
    from ..models import load_model

    options: dict[str, Any] = {}
    if data is not None:
        samples = load_samples(data)
        options = {"samples": samples.x[:64], "labels": samples.y[:64], "bounds": samples.bounds}
    if source.endpoint is not None:
        options["endpoint"] = source.endpoint
    model = load_model(source.path, name=source.name, input_shape=source.input_shape, **options)
    if source.version is not None:
        named = f"{model.digest} {source.version}".encode()
        model.digest = hashlib.sha256(named).hexdigest()
        stated = f"black box, stated to be version {source.version!r}: what answers may change, so "
        stated += "results need not come out the same again"
        model.report = replace(model.report, warnings=(*model.report.warnings, stated))
    return model
