"""What other tools compute, by name, so that old numbers can be reproduced and explained.

None of these is a recommendation. They differ from the published algorithms, in ways that their
docstrings say, and have no null: p-values are 1 and nothing is said of the dataset.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..results import ScanResult
from .moments import gather
from .passes import Reader
from .projections import project_classes
from .spectre import quantum_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .passes import Progress
    from .source import Source

_ART_RATE = 0.33
_PORT_WIDTH = 64
_PORT_SQUARES = [k * k for k in range(1, 9)]
NO_NULL = "none: what is reproduced has no null; p-values are 1"


def legacy_uncentred(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """Spectral signatures as ART, BackdoorBench and the authors' own program compute them.

    The direction comes from centred features, but what is projected on it is not centred: the score
    is |v·x|, so a large mean along v decides the ranking. As in ART, samples from the quantile
    1 - 1.5 * rate of every class upwards are flagged, with `rate` 0.33 unless given: about half of
    any data, clean or not.

    Raises:
        InputError: the features do not fit, or are not finite.
    """
    reader = Reader(source, memory_limit, progress, 2)
    try:
        return _uncentred(reader, rate)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None


def art_logits(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """`legacy_uncentred` of the logits, which is the layer that ART reads of PyTorch models.

    With a model, the logits are extracted; without one the features given are taken to be logits.

    Raises:
        InputError: the features do not fit, or are not finite.
    """
    result = legacy_uncentred(source, rate, memory_limit, progress)
    return replace(result, method="art_logits")


def _uncentred(reader: Reader, rate: float | None) -> ScanResult:
    moments = gather(reader)
    values = np.empty(len(moments.labels))

    def basis(index: int) -> NDArray[np.float64]:
        leading, vectors = moments.leading(index, 1)
        values[index] = leading[0]
        return np.ascontiguousarray(vectors)

    raw = replace(moments, means=np.zeros_like(moments.means))
    score = np.empty(len(reader.label))
    flagged = np.zeros(len(score), dtype=np.bool_)
    assumed = rate if rate is not None else _ART_RATE
    everything = list(range(len(moments.labels)))
    for _, rows, z in project_classes(reader, raw, everything, 1, basis):
        own = np.abs(z[:, 0])
        score[rows] = own
        flagged[rows] = own >= np.quantile(own, max(1 - 1.5 * assumed, 0.0))
    info: dict[str, Any] = {
        "source": reader.source.name,
        "features": moments.dim,
        "counts": moments.counts.tolist(),
        "rate": assumed,
        "rule": "scores from the quantile 1 - 1.5 * rate of each class upwards",
        "null": NO_NULL,
        **moments.info(),
        "notes": moments.notes,
    }
    return _unjudged("legacy_uncentred", score, flagged, reader, moments.labels, values, info)


def bdbench_np_exp(
    source: Source, rate: float | None, memory_limit: int | None, progress: Progress
) -> ScanResult:
    """SPECTRE as BackdoorBench ports it: the exponential of each entry, not that of the matrix.

    So the score depends on the signs and the order of principal axes (here: the entry of largest
    magnitude positive, as scikit-learn has it). The filter ends where the published tail reaches no
    sample, the dimension is one of eight squares up to 64, and the `round(1.5 * rate * n_c)`
    highest scores of every class are flagged. The port is told the number of poisoned samples; here
    `rate`, as a share of each class, stands for it.

    Where filtering removes no sample of a class, the port divides rounding errors by rounding
    errors; here every direction then weighs the same.

    Raises:
        InputError: no rate is given, or the features do not fit, or are not finite.
    """
    if rate is None:
        raise InputError('method="bdbench_np_exp" is told the poisoned share of a class: pass rate')
    reader = Reader(source, memory_limit, progress, 2)
    try:
        return _port(reader, rate)
    except (ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name}: {error}") from None


def _port(reader: Reader, rate: float) -> ScanResult:
    moments = gather(reader)
    c = len(moments.labels)
    most = min(moments.dim, 2 * moments.directions or moments.dim)
    width = min(_PORT_WIDTH, most)
    variances = np.zeros((c, width))

    def basis(index: int) -> NDArray[np.float64]:
        variances[index], vectors = moments.leading(index, width)
        return np.ascontiguousarray(vectors)

    chosen = [i for i in range(c) if moments.counts[i] >= 2]
    score = np.zeros(len(reader.label))
    flagged = np.zeros(len(score), dtype=np.bool_)
    table = []
    for index, rows, projected in project_classes(reader, moments, chosen, width, basis):
        spread = variances[index]
        rank = min(int((spread > 1e-10 * spread[0]).sum()), len(rows) - 1)
        if rank == 0:
            continue
        squares = [k for k in _PORT_SQUARES if k <= rank]
        z = np.ascontiguousarray(projected[:, : squares[-1]])
        found = quantum_scores(z, rate, squares, elementwise=True, extreme=False)
        score[rows] = found.scores
        most_suspicious = np.argsort(-found.scores, kind="stable")[: round(1.5 * rate * len(rows))]
        flagged[rows[most_suspicious]] = True
        table.append(
            {
                "class": int(moments.labels[index]),
                "excess": found.excess,
                "dimension": found.dimension,
                "trusted": found.trusted,
            }
        )
    info: dict[str, Any] = {
        "source": reader.source.name,
        "features": moments.dim,
        "counts": moments.counts.tolist(),
        "rate": rate,
        "rule": "the round(1.5 * rate * n_c) highest scores of each class",
        "null": NO_NULL,
        "class_tests": table,
        **moments.info(),
        "notes": moments.notes,
    }
    return _unjudged("bdbench_np_exp", score, flagged, reader, moments.labels, np.empty(0), info)


def _unjudged(
    method: str,
    score: NDArray[np.float64],
    flagged: NDArray[np.bool_],
    reader: Reader,
    labels: NDArray[np.int64],
    eigenvalues: NDArray[np.float64],
    info: dict[str, Any],
) -> ScanResult:
    return ScanResult(
        score=score,
        flagged=flagged,
        p_value=np.ones(len(score)),
        label=reader.label,
        method=method,
        classes=labels,
        eigenvalues=eigenvalues,
        info=info,
    )
