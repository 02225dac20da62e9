from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Graph",
    "Moments",
    "SearchPool",
    "Spectral",
    "__version__",
    "apgd_start",
    "check_adversarial",
    "get_threads",
    "margin_bounds",
    "margin_planes",
    "project",
    "random_normal",
    "random_signed",
    "search",
    "set_threads",
]
__version__: str

def set_threads(threads: int) -> None: ...
def get_threads() -> int: ...
def random_signed(
    seed: int, attack: str, restart: int, step: int, samples: NDArray[np.int64], count: int
) -> NDArray[np.float32]: ...
def random_normal(
    seed: int, attack: str, restart: int, step: int, samples: NDArray[np.int64], count: int
) -> NDArray[np.float32]: ...

@final
class Graph:
    """A network: operators from one input to one output, checked when it is made."""

    def __new__(
        cls, spec: str, tensors: Sequence[NDArray[np.float32] | NDArray[np.float64]]
    ) -> Graph: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def output_shape(self) -> tuple[int, ...]: ...
    @property
    def num_nodes(self) -> int: ...
    @property
    def digest(self) -> str: ...
    def node_name(self, node: int) -> str: ...
    def node_op(self, node: int) -> str: ...
    def node_shape(self, node: int) -> tuple[int, ...]: ...
    def forward(self, x: NDArray[np.float32], node: int | None = None) -> NDArray[np.float32]: ...
    def forward64(self, x: NDArray[np.float64], node: int | None = None) -> NDArray[np.float64]: ...
    def value_and_vjp(
        self, x: NDArray[np.float32], cotangent: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def interval(
        self,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        node: int | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

def margin_bounds(
    graph: Graph,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    *,
    spec: NDArray[np.float64],
    method: str,
    center: NDArray[np.float64] | None = None,
    radius: float = 0.0,
    norm: str = "linf",
    memory_limit: int | None = None,
) -> NDArray[np.float64]: ...
def margin_planes(
    graph: Graph,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    *,
    spec: NDArray[np.float64],
    memory_limit: int | None = None,
    timeout: float | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def check_adversarial(
    graph: Graph,
    x: NDArray[np.float32],
    x_adv: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    norm: str,
    eps: float,
    lower: float | NDArray[np.float64],
    upper: float | NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64], list[str]]: ...

@final
class Moments:
    """Counts, sums and Gram matrices per class, from one pass over batches of rows."""

    def __new__(cls, dim: int, memory_limit: int) -> Moments: ...
    @property
    def rows(self) -> int: ...
    def update(
        self, x: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.int64]
    ) -> None: ...

@final
class Spectral:
    """The leading direction of every class, ascending by label: spectral signatures."""

    def __new__(cls, moments: Moments) -> Spectral: ...
    @property
    def labels(self) -> NDArray[np.int64]: ...
    @property
    def counts(self) -> NDArray[np.int64]: ...
    @property
    def eigenvalues(self) -> NDArray[np.float64]: ...
    @property
    def means(self) -> NDArray[np.float64]: ...
    @property
    def directions(self) -> NDArray[np.float64]: ...
    def score(
        self,
        x: NDArray[np.float32] | NDArray[np.float64],
        labels: NDArray[np.int64],
        first: int = 0,
    ) -> NDArray[np.float64]: ...

_Outcomes = tuple[
    NDArray[np.float32],
    NDArray[np.float64],
    NDArray[np.int8],
    NDArray[np.int64],
    NDArray[np.int64],
]

def search(
    graph: Graph,
    x: NDArray[np.float32],
    labels: NDArray[np.int64],
    sample_ids: NDArray[np.int64],
    *,
    attack: str,
    options: str,
    norm: str,
    eps: float,
    lower: float | NDArray[np.float64],
    upper: float | NDArray[np.float64],
    seed: int,
    restart: int,
    batch: int,
    targets: NDArray[np.int64] | None = None,
    starts: NDArray[np.float32] | None = None,
) -> _Outcomes: ...
def apgd_start(
    x: NDArray[np.float32],
    sample_ids: NDArray[np.int64],
    *,
    norm: str,
    eps: float,
    lower: float | NDArray[np.float64],
    upper: float | NDArray[np.float64],
    seed: int,
    restart: int,
    attack: str,
) -> list[NDArray[np.float32]]: ...
def project(
    x: NDArray[np.float32],
    points: NDArray[np.float32],
    *,
    norm: str,
    eps: float,
    lower: float | NDArray[np.float64],
    upper: float | NDArray[np.float64],
) -> NDArray[np.float32]: ...

@final
class SearchPool:
    """An attack on a model the caller owns: ask for points, tell the logits, give the gradients."""

    def __new__(
        cls,
        x: NDArray[np.float32],
        labels: NDArray[np.int64],
        sample_ids: NDArray[np.int64],
        *,
        num_classes: int,
        attack: str,
        options: str,
        norm: str,
        eps: float,
        lower: float | NDArray[np.float64],
        upper: float | NDArray[np.float64],
        seed: int,
        restart: int,
        targets: NDArray[np.int64] | None = None,
        starts: NDArray[np.float32] | None = None,
    ) -> SearchPool: ...
    @property
    def remaining(self) -> int: ...
    def ask(self, buffer: NDArray[np.float32]) -> tuple[int, bool]: ...
    def tell(
        self, buffer: NDArray[np.float32], logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], _Outcomes, NDArray[np.float32]]: ...
    def step(self, gradients: NDArray[np.float32]) -> None: ...
