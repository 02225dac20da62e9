from collections.abc import Callable, Sequence
from os import PathLike
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Clusters",
    "Graph",
    "InputSplit",
    "Krylov",
    "MinHash",
    "NeighbourGraph",
    "NeighbourVotes",
    "Neighbours",
    "NgramCounts",
    "NgramSketch",
    "Noisy",
    "Projection",
    "Prune",
    "SearchPool",
    "Sketch",
    "Spectral",
    "SplitProof",
    "Statistics",
    "Substrings",
    "Table",
    "TableRows",
    "__version__",
    "apgd_start",
    "blake3",
    "check_adversarial",
    "check_bagging",
    "check_certificate",
    "check_constraint",
    "check_run_off",
    "check_votes",
    "confident_classes",
    "decide",
    "fast_ica",
    "gaussian_shares",
    "get_threads",
    "gram_deviations",
    "judge_labels",
    "margin_bounds",
    "margin_planes",
    "optimal_bands",
    "plain_proof",
    "project",
    "quantum_entropy",
    "random_normal",
    "random_signed",
    "run_off_radii",
    "search",
    "set_threads",
    "trusted_rows",
    "two_means",
    "vote_radii",
    "warp",
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
def warp(
    x: NDArray[np.float32],
    rotation: NDArray[np.float64],
    shift: NDArray[np.float64],
    fill: float,
) -> NDArray[np.float32]:
    """Images [n, channels, height, width], each turned about its centre, then shifted; bilinear.

    Args:
        x: images.
        rotation: degrees counter-clockwise [n].
        shift: pixels right and down [n, 2].
        fill: value of pixels outside the image.
    """

@final
class Noisy:
    """One input and the noise that is added to it."""

    @staticmethod
    def normal(x: NDArray[np.float32], sigma: float) -> Noisy:
        """Normal noise of standard deviation `sigma` on `x`, float32 `[*input_shape]`."""

    @staticmethod
    def lattice(
        levels: NDArray[np.int32],
        thresholds: NDArray[np.uint64],
        lowest: int,
        numerator: int,
        denominator: int,
    ) -> Noisy:
        """Noise on the multiples of `numerator / denominator`.

        Args:
            levels: which multiple each element of the input is, int32 `[*input_shape]`.
            thresholds: 2^64 times the probability that the noise is at most `lowest + k` levels,
                uint64, ascending.
            lowest: the least level of the noise.
            numerator: with `denominator`, the distance between levels.
            denominator: the same.
        """

    def copies(
        self, seed: int, phase: int, sample: int, first: int, count: int
    ) -> NDArray[np.float32]:
        """The noisy copies `first..first + count`, float32 `[count, *input_shape]`."""

    def class_counts(
        self, graph: Graph, seed: int, phase: int, sample: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """How many of the noisy copies `first..first + count` each class wins, int64 `[K]`.

        A copy with a logit that is not finite counts for no class.
        """

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
    radius: float | NDArray[np.float64] | None = None,
    norm: str = "linf",
    memory_limit: int | None = None,
    iterations: int = 20,
    rate: float = 0.1,
    decay: float = 0.98,
    stop: bool = True,
    timeout: float | None = None,
) -> NDArray[np.float64]: ...

@final
class SplitProof:
    @property
    def ends(self) -> list[tuple[int, int]]: ...
    def write(
        self,
        graph: Graph,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        *,
        clauses: int,
        compact: bool = False,
    ) -> str: ...

def decide(
    graph: Graph,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    *,
    rows: NDArray[np.float64],
    rhs_lower: NDArray[np.float64],
    rhs_upper: NDArray[np.float64],
    sizes: Sequence[int],
    center: NDArray[np.float64] | None = None,
    radius: float = 0.0,
    norm: str = "linf",
    inner: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    timeout: float | None = None,
    memory_limit: int | None = None,
    effort: float = 1e11,
    most_domains: int | None = None,
    record: bool = False,
    start: SplitProof | None = None,
) -> tuple[str, NDArray[np.float64] | None, float, int, SplitProof | None]: ...

@final
class InputSplit:
    """Branch and bound over a box of inputs."""

    def __new__(
        cls,
        graph: Graph,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        *,
        rows: NDArray[np.float64],
        rhs: NDArray[np.float64],
        sizes: Sequence[int],
        memory_limit: int,
        record: bool = False,
    ) -> InputSplit: ...
    @property
    def domains(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def slack(self) -> float: ...
    @property
    def open(self) -> list[int]: ...
    def proof(self) -> str | None: ...
    def advance(self, waves: int, timeout: float) -> tuple[str, NDArray[np.float64]]: ...

def margin_planes(
    graph: Graph,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    *,
    spec: NDArray[np.float64],
    memory_limit: int | None = None,
    timeout: float | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def check_certificate(
    graph: Graph, text: bytes, *, exact: bool = False
) -> list[
    tuple[
        NDArray[np.float64],
        NDArray[np.float64],
        tuple[str, NDArray[np.float64], float] | None,
        list[tuple[NDArray[np.float64], NDArray[np.float64]]],
        NDArray[np.float64],
        int,
    ]
]: ...
def plain_proof(method: str, bounds: Sequence[float]) -> str: ...
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
    constraint: str | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64], list[str]]: ...
def check_constraint(
    x: NDArray[np.float32], x_adv: NDArray[np.float32], *, constraint: str
) -> list[str]: ...

@final
class Statistics:
    """Counts, means and scatter matrices per class, of a range of rows."""

    PART_ROWS: int
    def __new__(
        cls,
        dim: int,
        memory_limit: int,
        *,
        first: int = 0,
        part_rows: int = ...,
        single: bool = False,
    ) -> Statistics: ...
    @staticmethod
    def from_bytes(data: bytes, memory_limit: int) -> Statistics: ...
    def to_bytes(self) -> bytes: ...
    @property
    def rows(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def dim(self) -> int: ...
    def update(
        self, x: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.int64]
    ) -> None: ...
    def merge(self, other: Statistics) -> None: ...
    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]: ...
    def covariance(self, label: int) -> NDArray[np.float64]: ...

@final
class Krylov:
    """The search for the leading direction of every class without covariance matrices."""

    def __new__(cls, dim: int, memory_limit: int) -> Krylov: ...
    @property
    def dim(self) -> int: ...
    @property
    def fits(self) -> bool: ...
    def update(
        self, x: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.int64]
    ) -> None: ...
    def finish_pass(self) -> int: ...
    def spectral(self) -> tuple[Spectral, NDArray[np.float64]]: ...

@final
class Spectral:
    """The leading direction of every class, ascending by label: spectral signatures."""

    def __new__(cls, statistics: Statistics) -> Spectral: ...
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

def judge_labels(
    p: NDArray[np.float32] | NDArray[np.float64],
    labels: NDArray[np.int64],
    quality: str,
    first: int = 0,
) -> tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.bool_],
    NDArray[np.bool_],
    float,
]: ...
def confident_classes(
    p: NDArray[np.float32] | NDArray[np.float64], cuts: NDArray[np.float64]
) -> NDArray[np.int32]: ...

@final
class Prune:
    """The samples whose label a pair of classes disputes most."""

    def __new__(
        cls,
        classes: int,
        given: NDArray[np.int64],
        likely: NDArray[np.int64],
        count: NDArray[np.int64],
    ) -> Prune: ...
    def update(
        self, p: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.int64]
    ) -> None: ...
    def finish(self) -> tuple[NDArray[np.uint64], int]: ...

@final
class Projection:
    """A mean and a basis for each class: rows are projected by those of their class."""

    def __new__(
        cls,
        labels: NDArray[np.int64],
        means: NDArray[np.float64],
        bases: NDArray[np.float64],
    ) -> Projection: ...
    def apply(
        self,
        x: NDArray[np.float32] | NDArray[np.float64],
        labels: NDArray[np.int64],
        first: int = 0,
    ) -> NDArray[np.float64]: ...

@final
class Sketch:
    """Scatter matrices of all classes in a few rows each: frequent directions."""

    def __new__(cls, dim: int, directions: int, memory_limit: int) -> Sketch: ...
    @staticmethod
    def class_bytes(dim: int, directions: int) -> int: ...
    def update(
        self, x: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.int64]
    ) -> None: ...
    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]: ...
    def leading(
        self, label: int, count: int
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64], float]: ...

def two_means(
    z: NDArray[np.float64], seed: int, key: int, restarts: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64], float, float, float]: ...
def gaussian_shares(
    variances: NDArray[np.float64], rows: int, draws: int, seed: int, key: int, restarts: int
) -> NDArray[np.float64]: ...
def fast_ica(
    z: NDArray[np.float64], tolerance: float, iterations: int, key: int
) -> tuple[NDArray[np.float64], int, bool]: ...
def trusted_rows(
    z: NDArray[np.float64], fraction: float, limit: int, extreme: bool
) -> tuple[NDArray[np.bool_], int, bool]: ...
def quantum_entropy(
    z: NDArray[np.float64], kept: NDArray[np.bool_], alpha: float, elementwise: bool
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]: ...
def gram_deviations(
    reference: NDArray[np.float32],
    queries: NDArray[np.float32],
    orders: Sequence[int],
    width: float,
    memory: int,
) -> NDArray[np.float64]: ...

@final
class Table:
    """What the footer of a Parquet file says: which columns hold features and labels."""

    def __new__(
        cls,
        source: str | Callable[[int, int], bytes],
        size: int | None = None,
        label: str | None = None,
    ) -> Table: ...
    @property
    def rows(self) -> int: ...
    @property
    def group_rows(self) -> list[int]: ...
    @property
    def dim(self) -> int: ...
    @property
    def single(self) -> bool: ...
    @property
    def label(self) -> str | None: ...
    @property
    def features(self) -> list[str]: ...
    @property
    def fingerprint(self) -> int: ...
    def scan(self, first: int = 0, *, memory_limit: int) -> TableRows: ...

@final
class TableRows:
    """Rows of a table, in order."""

    def read(
        self, x: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.int64]
    ) -> int: ...

_Outcomes = tuple[
    NDArray[np.float32],
    NDArray[np.float64],
    NDArray[np.int8],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float64],
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
    constraint: str | None = None,
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
        constraint: str | None = None,
    ) -> SearchPool: ...
    @property
    def remaining(self) -> int: ...
    def ask(self, buffer: NDArray[np.float32]) -> tuple[int, bool]: ...
    def tell(
        self, buffer: NDArray[np.float32], logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], _Outcomes, NDArray[np.float32]]: ...
    def step(self, gradients: NDArray[np.float32]) -> None: ...

def vote_radii(
    votes: NDArray[np.uint32], classes: int, feeds: NDArray[np.uint32] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predictions and radii of deep partition aggregation or, with `feeds`, of finite aggregation.

    Args:
        votes: class of each model, uint32 `[n, models]`, below `classes`.
        classes: number of classes.
        feeds: distinct models that each bucket of training data feeds, uint32 `[buckets, d]`.

    Returns:
        class and radius, int64 `[n]`.

    Raises:
        ValueError: a vote or a model is out of range.
    """

def run_off_radii(
    logits: NDArray[np.float32], feeds: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predictions and radii of the run-off election.

    Args:
        logits: of each model, float32 `[n, models, classes]`.
        feeds: as for `vote_radii`.

    Returns:
        class and radius, int64 `[n]`.
    """

def blake3(data: bytes) -> str:
    """BLAKE3 of bytes, 256 bits in hexadecimal."""

def check_votes(
    votes: NDArray[np.uint32],
    classes: int,
    prediction: NDArray[np.int64],
    radius: NDArray[np.int64],
    feeds: NDArray[np.uint32] | None = None,
) -> list[str]:
    """Re-checks predictions and radii of deep partition or finite aggregation.

    Args:
        votes: class of each model, uint32 `[n, models]`, below `classes`.
        classes: number of classes.
        prediction: claimed class, int64 `[n]`.
        radius: claimed radius, int64 `[n]`; nothing is claimed where it is negative.
        feeds: distinct models that each bucket feeds, uint32 `[buckets, d]`; one bucket a model
            when None.

    Returns:
        For each sample why the claim is refused, empty where it holds.

    Raises:
        ValueError: an array does not fit the others, or a vote or model is out of range.
    """

def check_run_off(
    logits: NDArray[np.float32],
    prediction: NDArray[np.int64],
    radius: NDArray[np.int64],
    feeds: NDArray[np.uint32] | None = None,
) -> list[str]:
    """Re-checks predictions and radii of the run-off election.

    Args:
        logits: of each model, float32 `[n, models, classes]`.
        prediction: as for `check_votes`.
        radius: as for `check_votes`.
        feeds: as for `check_votes`.

    Returns:
        For each sample why the claim is refused, empty where it holds.

    Raises:
        ValueError: an array does not fit the others, or a model is out of range.
    """

def check_bagging(
    votes: NDArray[np.uint32],
    classes: int,
    prediction: NDArray[np.int64],
    radius: NDArray[np.int64],
    *,
    training_size: int,
    subsample: int,
    alpha: float,
) -> list[str]:
    """Re-checks predictions and radii of bagging.

    Args:
        votes: as for `check_votes`.
        classes: as for `check_votes`.
        prediction: as for `check_votes`.
        radius: as for `check_votes`.
        training_size: samples in the training set.
        subsample: samples each model was trained on, drawn with replacement.
        alpha: probability that a radius is too large.

    Returns:
        For each sample why the claim is refused, empty where it holds.

    Raises:
        ValueError: an array does not fit the others, or a number is out of range.
    """

@final
class Neighbours:
    """The exact nearest neighbours of every sample among the others, found in parts."""

    def __new__(cls, x: NDArray[np.float32], k: int, metric: str) -> Neighbours:
        """Prepares the search; the features are copied twice.

        Args:
            x: features, float32 `[n, d]`.
            k: neighbours of each sample, below `n`.
            metric: "cosine" or "euclidean".

        Raises:
            ValueError: a feature is not finite, or an argument does not fit.
        """

    @staticmethod
    def memory(samples: int, dim: int, k: int) -> int:
        """Bytes that a search of `samples` holds, beside the features that it is given."""

    @property
    def progress(self) -> tuple[int, int]:
        """Pairs of blocks of samples that were compared, and that there are."""

    def advance(self, pairs: int) -> None:
        """Compares up to `pairs` further pairs of blocks."""

    def finish(self) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Indices, uint32 `[n, k]`, and distances, float32 `[n, k]`, nearest first.

        Raises:
            ValueError: pairs are left.
        """

@final
class NeighbourGraph:
    """Most of the nearest neighbours of every sample among the others, from a graph, in parts."""

    def __new__(
        cls, x: NDArray[np.float32], k: int, metric: str, *, seed: int = 0
    ) -> NeighbourGraph:
        """Prepares the search; the features are copied twice.

        Args:
            x: features, float32 `[n, d]`.
            k: neighbours of each sample, below `n`, which is below 2^31.
            metric: "cosine" or "euclidean".
            seed: names the random choices.

        Raises:
            ValueError: a feature is not finite, or an argument does not fit.
        """

    @staticmethod
    def memory(samples: int, dim: int, k: int) -> int:
        """Bytes that a search of `samples` holds, beside the features that it is given."""

    @property
    def progress(self) -> tuple[int, int]:
        """Trees and rounds that are done, and that there are at most."""

    def advance(self) -> None:
        """Compares the leaves of one tree, or the choices of one round."""

    def finish(
        self,
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32], tuple[float, float, int]]:
        """Indices and distances `[n, k]`, nearest first, and how many of the true ones these are.

        The last are the mean share of true neighbours, measured on samples, its lower bound of
        95 % confidence, and the number of these samples.

        Raises:
            ValueError: trees or rounds are left.
        """

@final
class NeighbourVotes:
    """How the neighbourhood of every sample votes, exact, counted in parts."""

    def __new__(
        cls,
        x: NDArray[np.float32],
        code: NDArray[np.uint32],
        k: list[int],
        near: int,
        metric: str,
    ) -> NeighbourVotes:
        """Prepares the count; the features are copied twice.

        Args:
            x: features, float32 `[n, d]`.
            code: class of each sample, uint32 `[n]`.
            k: neighbours that vote, for samples of each class, below `n`.
            near: neighbours that are kept, below `n`.
            metric: "cosine" or "euclidean".

        Raises:
            ValueError: a feature is not finite, or an argument does not fit.
        """

    @staticmethod
    def memory(samples: int, dim: int, near: int, threads: int) -> int:
        """Bytes that a count for `samples` holds at most, beside the features it is given."""

    @property
    def progress(self) -> tuple[int, int]:
        """Panels of samples that are done, and that there are."""

    def advance(self, panels: int) -> None:
        """Counts the votes for up to `panels` further panels."""

    def finish(
        self,
    ) -> tuple[
        NDArray[np.uint32],
        NDArray[np.uint32],
        NDArray[np.uint32],
        NDArray[np.uint32],
        NDArray[np.float32],
    ]:
        """Votes for the own class `[n]`, for the most frequent other one, and that class.

        The last two are indices and distances of the nearest neighbours `[n, near]`.

        Raises:
            ValueError: panels are left.
        """

def optimal_bands(
    threshold: float, permutations: int, false_positives: float, false_negatives: float
) -> tuple[int, int]:
    """Bands and rows of least weighted area of errors around a Jaccard threshold."""

@final
class MinHash:
    """MinHash signatures of texts as sets of shingles."""

    def __new__(cls, unit: str, width: int, permutations: int, seed: int) -> MinHash:
        """Draws the hash functions.

        Args:
            unit: "word", "char" or "byte".
            width: units of a shingle, at least 1.
            permutations: values of a signature, 1 to 4096.
            seed: of the hash functions.

        Raises:
            ValueError: an argument does not fit.
        """

    def signatures(
        self, documents: list[str] | list[bytes], first: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Signatures uint32 `[n, permutations]` and numbers of units uint32 `[n]`.

        Args:
            documents: str or bytes.
            first: number of the first document, for messages.

        Raises:
            ValueError: a document is no valid text.
        """

    def band_keys(
        self, documents: list[str] | list[bytes], bands: int, rows: int, first: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Keys of bands uint64 `[n, bands]` and numbers of units uint32 `[n]`.

        Args:
            documents: str or bytes.
            bands: number of bands.
            rows: values of the signature in each; all bands must fit in it.
            first: number of the first document, for messages.

        Raises:
            ValueError: a document is no valid text, or the bands do not fit.
        """

    def shingles(self, document: str | bytes) -> NDArray[np.uint64]:
        """Hashes of a document's shingles, each once, ascending.

        Raises:
            ValueError: no valid text.
        """

@final
class Clusters:
    """Clusters of documents that share a key of some band."""

    def __new__(cls, folder: str | PathLike[str], memory: int) -> Clusters:
        """Starts with no documents.

        Args:
            folder: where keys that do not fit in memory go.
            memory: bytes for keys.

        Raises:
            OSError: no file can be made in `folder`.
        """

    @property
    def spilled(self) -> int:
        """Bytes written to disk."""

    def add(self, first: int, keys: NDArray[np.uint64], units: NDArray[np.uint32]) -> None:
        """Adds documents number `first` on, in any order; those without units share no keys.

        Args:
            first: number of the first.
            keys: uint64 `[n, bands]`.
            units: uint32 `[n]`.

        Raises:
            ValueError: more than 2^32 - 1 documents, or a shape or dtype is wrong.
            OSError: the disk is full.
        """

    def finish(self) -> NDArray[np.uint32]:
        """The least document of each document's cluster, uint32 `[n]`.

        Raises:
            OSError: the temporary file cannot be read.
        """

@final
class Substrings:
    """Substrings that occur more than once."""

    def __new__(
        cls, length: int, within: bool, folder: str | PathLike[str], memory: int
    ) -> Substrings:
        """Starts with no documents.

        Args:
            length: least bytes, at least 2.
            within: count what repeats in one document only.
            folder: where positions that do not fit in memory go.
            memory: bytes for the documents and their positions.

        Raises:
            ValueError: `length` is below 2.
        """

    def add(self, documents: list[str] | list[bytes]) -> None:
        """Adds documents, str or bytes; they stay in memory.

        Raises:
            MemoryError: they do not fit.
            ValueError: a document is no valid text.
        """

    def finish(self) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Spans, and whether each is a copy of something earlier, bool `[m]`.

        A span is (document, start, end, document and start of the first occurrence), uint32
        `[m, 5]`.

        Raises:
            OSError: the disk is full.
            ValueError: 4 GiB of documents or more.
        """

@final
class NgramSketch:
    """The first pass over documents: how many hold each n-gram, at most."""

    def __new__(cls, unit: str, shortest: int, longest: int, memory: int, seed: int) -> NgramSketch:
        """Starts with no documents.

        Args:
            unit: "word", "char" or "byte".
            shortest: least units of an n-gram, at least 1.
            longest: most units.
            memory: bytes.
            seed: of the hash functions.

        Raises:
            ValueError: an argument does not fit.
        """

    def add(self, documents: list[str] | list[bytes]) -> None:
        """Counts documents, str or bytes.

        Raises:
            ValueError: a document is no valid text, or the counting has begun.
        """

@final
class NgramCounts:
    """The second pass: documents of each class that hold each frequent n-gram."""

    def __new__(cls, sketch: NgramSketch, classes: int, least: int, memory: int) -> NgramCounts:
        """Takes the sketch of the first pass, which is empty afterwards.

        Args:
            sketch: of the same documents.
            classes: how many there are.
            least: documents an n-gram must be in.
            memory: bytes; `least` is doubled until the n-grams fit.

        Raises:
            ValueError: the sketch was taken before.
        """

    @property
    def least(self) -> int:
        """N-grams in fewer documents are not counted; grows where memory is short."""

    def add(self, documents: list[str] | list[bytes], classes: NDArray[np.uint32]) -> None:
        """Counts documents of classes uint32 `[n]`, numbers below that of classes.

        Raises:
            ValueError: a document is no valid text, or a class does not fit.
        """

    def take(
        self,
    ) -> tuple[
        NDArray[np.uint64],
        NDArray[np.uint32],
        NDArray[np.uint32],
        NDArray[np.uint64],
        list[bytes],
    ]:
        """Takes the n-grams: hashes, units, documents of each class, fingerprints, texts.

        Hashes, uint64 `[m]`, ascend; units are uint32 `[m]`, documents uint32 `[m, classes]`.
        Fingerprints, uint64 `[m]`, are equal for n-grams in the same documents; texts are those
        where the n-grams occur first, at most 200 bytes.
        """

    def find(
        self, documents: list[str] | list[bytes], keys: NDArray[np.uint64], first: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
        """Which documents hold which n-grams: numbers in the list uint32 `[k]`, hashes `[k]`.

        Args:
            documents: str or bytes.
            keys: hashes of n-grams, ascending, uint64 `[m]`.
            first: number of the first document, for messages.

        Raises:
            ValueError: a document is no valid text.
        """
