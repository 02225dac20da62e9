"""The suite file: TOML in, a checked and frozen `Suite` out.

```toml
schema = 1
name = "digits"
version = "1.0.0"
seed = 0

[[model]]
id = "normal"
path = "models/normal.onnx"            # relative to this file, never outside its folder

[[data]]
id = "digits"
source = "digits"                      # a dataset's name, or a file beside this one
split = "test"
ids = [0, 200]                         # first sample, one past the last

[[threat]]
norm = "linf"
eps = ["1/16", "8/255", 0.1]           # exact: 0.1 means one tenth

[[task]]
kind = "evaluate"                      # every model x data x threat unless it names some
attacks = ["apgd-ce", { name = "square", queries = 1000 }]
certify = "crown"

[gate]
"certified_accuracy@linf 1/16@normal" = ">= 0.3"
```
"""

from __future__ import annotations

from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
    Tag,
    model_validator,
)

from ..models.endpoint import Endpoint
from ..threats import (
    CORRUPTIONS,
    L1,
    L2,
    SEVERITIES,
    Corruptions,
    Linf,
    Spatial,
    ThreatModel,
)
from .attack_table import STRICT, AttackList
from .constraint_table import FrameTable, PatchTable, TabularTable
from .gate import Gate, parse_gate
from .scalars import Identifier, Rational, Text
from .tables import is_table

MAX_ENTRIES = 1000
"""Most models, datasets, threats or tasks in one suite."""


class _Table(BaseModel):
    model_config = STRICT


_KEY = "AISEC_EVAL_"


class EndpointTable(_Table):
    """`[model.endpoint]`: how a black box may be asked, see `models.Endpoint`.

    Every process that computes shards keeps to these limits by itself.
    """

    max_batch: StrictInt = 64
    requests_per_second: Rational | None = None
    max_queries: StrictInt | None = None
    timeout: Rational = Fraction(30)
    retries: StrictInt = 5
    backoff: Rational = Fraction(1)
    num_classes: StrictInt | None = None
    api_key_env: StrictStr | None = None
    """Starts with AISEC_EVAL_: a suite of somebody else's can ask for no other secret."""
    api_key_header: StrictStr = "Authorization"

    @model_validator(mode="after")
    def _fits(self) -> EndpointTable:
        if self.api_key_env is not None and not self.api_key_env.startswith(_KEY):
            raise ValueError(
                f"api_key_env={self.api_key_env!r} must start with {_KEY}: a suite may send keys "
                "that were set for it, and no other"
            )
        self.endpoint()
        return self

    def endpoint(self) -> Endpoint:
        """Return the options as the model adapter takes them.

        Raises:
            InputError: a value is out of range.
        """
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            values[name] = float(value) if isinstance(value, Fraction) else value
        return Endpoint(**values)


class ModelTable(_Table):
    """`[[model]]`: an ONNX file beside the suite, or the URL of a black box."""

    id: Identifier
    path: Text | None = None
    url: Annotated[Text, StringConstraints(pattern=r"^https?://")] | None = None
    version: Text | None = None
    """What stands behind the URL, in the suite author's words: part of the model's identity, since
    nothing else tells one model at an address from the next."""
    endpoint: EndpointTable | None = None
    input_shape: Annotated[list[Annotated[StrictInt, Field(gt=0)]], Field(max_length=8)] | None = (
        None
    )
    """One sample's shape, where the file leaves it open; needed with a URL."""

    @model_validator(mode="after")
    def _one_place(self) -> ModelTable:
        if (self.path is None) == (self.url is None):
            raise ValueError('needs either path = "model.onnx" or url = "https://..."')
        if self.url is None and (self.version or self.endpoint):
            raise ValueError("version and endpoint are for a model behind a url")
        if self.url is not None and self.version is None:
            raise ValueError('a url needs version = "...": what stands behind it, in your words')
        if self.url is not None and self.input_shape is None:
            raise ValueError("a url needs input_shape = [...]: one sample's shape")
        return self


class PlantTable(_Table):
    """`[data.plant]`: poison planted into the training samples, so that a scan has a truth."""

    kind: Literal["patch"]
    rate: Annotated[Rational, Field(gt=0, lt=1)]
    """Fraction of all samples that get the patch and, being of other classes, the target label."""
    target: Annotated[StrictInt, Field(ge=0)]
    size: Annotated[StrictInt, Field(gt=0, le=64)] = 3
    """Side of the square patch in the lower right corner, in pixels."""


class DataTable(_Table):
    """`[[data]]`: a named dataset or a file beside the suite."""

    id: Identifier
    source: Text
    split: Text | None = None
    ids: tuple[StrictInt, StrictInt] | None = None
    """First sample id and one past the last; all samples when absent."""
    plant: PlantTable | None = None
    labels: Text | None = None
    """Column of labels. With one, or where `source` is a folder (`features/`) or a pattern
    (`features/*.parquet`), the data are Parquet files of features: scanned where they are, in
    shards, and for scans alone. Without one it is `label`, if there is such a column."""

    @model_validator(mode="after")
    def _range(self) -> DataTable:
        if is_table(self.source, self.labels) and (self.split or self.ids or self.plant):
            raise ValueError(
                "split, ids and plant are not for tables, which are scanned as a whole"
            )
        if self.ids is not None and not 0 <= self.ids[0] < self.ids[1]:
            raise ValueError(f"ids={list(self.ids)} is empty; give [first, one past the last]")
        return self


_BALLS: dict[str, type[ThreatModel]] = {"linf": Linf, "l2": L2, "l1": L1}


class BallTable(_Table):
    """`[[threat]]`: one norm at one or more radii, in the units of the data's range."""

    kind: Literal["ball"] = "ball"
    norm: Literal["linf", "l2", "l1"]
    eps: Annotated[list[Annotated[Rational, Field(ge=0)]], Field(min_length=1, max_length=100)]
    id: Identifier | None = None
    """What tasks and gates call it; the norm when absent."""

    @property
    def name(self) -> str:
        """The id, or the norm when there is none."""
        return self.id or self.norm

    def models(self, bounds: tuple[float, float]) -> list[ThreatModel]:
        """Return one threat model a radius.

        Raises:
            InputError: a radius does not fit `bounds`.
        """
        return [_BALLS[self.norm](eps, bounds=bounds) for eps in self.eps]


class _OtherThreat(_Table):
    """A threat model that has no radius."""

    id: Identifier | None = None

    @property
    def norm(self) -> str:
        """What gates may call it besides its id."""
        return str(getattr(self, "kind"))  # noqa: B009 - every subclass has one

    @property
    def name(self) -> str:
        """The id, or the kind when there is none."""
        return self.id or self.norm

    @property
    def eps(self) -> list[Fraction]:
        """No radii."""
        return []


class SpatialTable(_OtherThreat):
    """`[[threat]] kind = "spatial"`: rotations (degrees) and translations (pixels) of images."""

    kind: Literal["spatial"]
    max_rotation: Annotated[Rational, Field(ge=0, le=180)] = Fraction(30)
    max_translation: Annotated[Rational, Field(ge=0, le=10_000)] = Fraction(3)
    fill: Rational = Fraction(0)

    def models(self, bounds: tuple[float, float]) -> list[ThreatModel]:
        """Return the threat model.

        Raises:
            InputError: the padding does not fit `bounds`.
        """
        limits = self.max_rotation, self.max_translation
        return [Spatial(*limits, fill=float(self.fill), bounds=bounds)]


def _corruption(name: str) -> str:
    if name not in CORRUPTIONS:
        near = get_close_matches(name, CORRUPTIONS, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(CORRUPTIONS)}"
        raise ValueError(f'no corruption "{name}"; {hint}')
    return name


class CorruptionsTable(_OtherThreat):
    """`[[threat]] kind = "corruptions"`: common corruptions of images."""

    kind: Literal["corruptions"]
    names: Annotated[
        list[Annotated[StrictStr, AfterValidator(_corruption)]], Field(min_length=1)
    ] = list(CORRUPTIONS)
    severities: Annotated[
        list[Annotated[StrictInt, Field(ge=1, le=5)]], Field(min_length=1, max_length=5)
    ] = list(SEVERITIES)

    def models(self, bounds: tuple[float, float]) -> list[ThreatModel]:
        """Return the threat model.

        Raises:
            InputError: a corruption or a severity is named twice.
        """
        return [Corruptions(self.names, self.severities, bounds=bounds)]


def _threat_kind(value: object) -> str:
    found = value.get("kind", "ball") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(found)


ThreatTable = Annotated[
    Annotated[BallTable, Tag("ball")]
    | Annotated[SpatialTable, Tag("spatial")]
    | Annotated[CorruptionsTable, Tag("corruptions")]
    | Annotated[PatchTable, Tag("patch")]
    | Annotated[FrameTable, Tag("frame")]
    | Annotated[TabularTable, Tag("tabular")],
    Discriminator(_threat_kind),
]


def _method(name: str) -> str:
    from ..attacks.registry import METHODS

    if name not in METHODS:
        raise ValueError(f"must be one of {', '.join(METHODS)}, or a list of attacks")
    return name


def _attacks_tag(value: object) -> str:
    return "named" if isinstance(value, str) else "listed"


class EvaluateTable(_Table):
    """`[[task]] kind = "evaluate"`: the bracket on every model x data x threat it names."""

    kind: Literal["evaluate"]
    id: Identifier | None = None
    models: list[Identifier] | None = None
    data: list[Identifier] | None = None
    threats: list[Identifier] | None = None
    attacks: Annotated[
        Annotated[str, AfterValidator(_method), Tag("named")]
        | Annotated[AttackList, Tag("listed")],
        Discriminator(_attacks_tag),
    ] = "fast"
    certify: Literal["none", "ibp", "crown-ibp", "crown", "alpha-crown", "complete"] = "crown"
    certify_seconds: Annotated[Rational, Field(gt=0, le=86_400)] | None = None
    """What "complete" may take for one sample, 60 when absent. A deadline: what is decided before
    it does not depend on the machine, how much is decided does."""
    backend: Literal["auto", "native", "jax"] = "auto"

    @model_validator(mode="after")
    def _deadline(self) -> EvaluateTable:
        if self.certify_seconds is not None and self.certify != "complete":
            raise ValueError('certify_seconds goes with certify = "complete"')
        return self


def _detector(name: str) -> str:
    from ..detectors import METHODS

    if name not in METHODS:
        raise ValueError(f"must be one of {', '.join(METHODS)}")
    return name


class ScanTable(_Table):
    """`[[task]] kind = "scan"`: poison scores of every dataset it names."""

    kind: Literal["scan"]
    id: Identifier | None = None
    data: list[Identifier] | None = None
    method: Annotated[str, AfterValidator(_detector)] = "spectral"
    rate: Annotated[Rational, Field(gt=0, lt=Fraction(1, 2))] | None = None
    """An upper bound on the poisoned fraction of any class, where there is one."""
    shard_rows: Annotated[StrictInt, Field(gt=0)] | None = None
    """Rows of a shard of a table, rounded up to whole parts of 262,144; about 1 GiB of features
    when absent. Scores do not depend on it."""


TaskTable = Annotated[EvaluateTable | ScanTable, Field(discriminator="kind")]


def _entries(least: int) -> Any:
    return Field(min_length=least, max_length=MAX_ENTRIES)


class Suite(_Table):
    """A checked suite: models x datasets x threat models x methods, with gates."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Identifier
    version: Identifier
    description: Annotated[StrictStr, StringConstraints(max_length=10_000)] = ""
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] = 0
    fail_on_error: StrictBool = True
    """Whether a shard that failed makes the run incomplete (exit code 3)."""
    model: Annotated[list[ModelTable], _entries(0)] = []
    data: Annotated[list[DataTable], _entries(1)]
    threat: Annotated[list[ThreatTable], _entries(0)] = []
    task: Annotated[list[TaskTable], _entries(1)]
    gate: Annotated[dict[str, StrictStr], Field(max_length=MAX_ENTRIES)] = {}

    _path: Path = Path("suite.toml")

    @property
    def path(self) -> Path:
        """The file this suite was read from; its folder is where relative paths start."""
        return self._path

    @property
    def gates(self) -> list[Gate]:
        """The gates, parsed."""
        return [parse_gate(metric, claim) for metric, claim in self.gate.items()]
