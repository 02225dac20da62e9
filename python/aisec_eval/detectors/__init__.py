"""Detectors of poisoned training data: one a file, all give a score and a verdict a sample.

Texts have functions of their own: `aisec_eval.detectors.text`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .activation_clustering import activation_clustering, independent_clustering
from .beatrix import beatrix
from .class_report import class_report
from .confident import confident, confident_learning
from .deep_knn import deep_knn
from .extract import Extraction, extract, extract_source, layers_of
from .frequency import frequency
from .lda import discriminants
from .neighbours import neighbour_disagreement
from .neural_cleanse import CleanseResult, neural_cleanse
from .panel import panel
from .parity import art_logits, bdbench_np_exp, legacy_uncentred
from .patch import frequent_patches
from .scan_classes import contamination
from .source import MIB, open_source
from .spectral import spectral_signatures
from .spectre import spectre
from .split import class_splits
from .strip import strip
from .tracin import Checkpoint, influence, self_influence

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..models import Model
    from ..results import ScanResult

__all__ = [
    "Checkpoint",
    "CleanseResult",
    "Extraction",
    "beatrix",
    "class_report",
    "confident_learning",
    "extract",
    "frequency",
    "influence",
    "neural_cleanse",
    "scan",
    "self_influence",
    "strip",
]

METHODS: dict[str, Callable[..., ScanResult]] = {
    "spectral": spectral_signatures,
    "split": class_splits,
    "neighbours": neighbour_disagreement,
    "deep-knn": deep_knn,
    "auto": panel,
    "confident": confident,
    "activation-clustering": activation_clustering,
    "activation-clustering-ica": independent_clustering,
    "spectre": spectre,
    "scan": contamination,
    "lda": discriminants,
    "legacy_uncentred": legacy_uncentred,
    "art_logits": art_logits,
    "bdbench_np_exp": bdbench_np_exp,
}

PROBABILITIES = frozenset({"confident"})
"""Methods that read probabilities instead of features."""

LOGITS = frozenset({"art_logits"})
"""Methods that read a model's logits."""


def scan(
    features: Any,
    labels: Any = None,
    *,
    method: str = "spectral",
    model: Model | None = None,
    layer: str | int | None = None,
    clean: tuple[Any, Any] | None = None,
    rate: float | None = None,
    memory_limit: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> ScanResult:
    """Score training samples: which were tampered with?

    The data is read twice, batch by batch; memory does not grow with it but for the result and its
    making (33 bytes a sample). Scores of `"spectral"`, `"neighbours"`, `"split"`, `"auto"` do not
    depend, to the last bit, on batches, nor on where the rows come from.

    Args:
        features: what a model sees of each sample, [n, d] or [n, ...]: a numpy or JAX array, a
            polars DataFrame or LazyFrame (one numeric column a feature, or one column of arrays);
            a path to a `.npy` or Parquet file, a folder, pattern or list of Parquet files, a URL
            that fsspec knows, or a Parquet file open in binary mode; Arrow record batches: an
            iterator of them, which is kept in a temporary file for the second pass, or a function
            that returns one.
        labels: the label given to each sample: integers [n] beside an array, a path to a `.npy`
            file beside one, the name of a column of frames, Parquet files and streams (default
            `"label"`, where there is one). None: all samples are one class.
        method: `"spectral"`, centred spectral signatures (arXiv:1811.00636); `"neighbours"`, labels
            that the nearest neighbours do not share (in memory; exact up to 300,000 samples, from a
            graph above, `info["index"]` says which and how many of the neighbours it found);
            `"split"`, classes that fall into two parts as no other class does (read three times).
            `"auto"`, the last two and one-sided confusion of classes as one panel, which needs to
            be told nothing. These give a verdict on the dataset in `info["dataset"]`, with the
            chance of an alarm without poison as its `level` (at most 1 %), as far as the null is
            true. After an alarm scores are log-odds, and the samples more likely poisoned than not
            are flagged; `"auto"` estimates their share in `info["rate"]`, from what is surely to
            what may be poisoned in `info["rate_interval"]`, and with a model and an array of inputs
            shows the values that those share, where they do, in `info["patches"]`.
            `"confident"`: wrong labels by confident learning (`detectors.confident_learning`, which
            has its options); the features are out-of-fold probabilities [n, K] here.
            `"activation-clustering"` (arXiv:1811.03728; `"activation-clustering-ica"` in
            independent components), `"spectre"` (arXiv:2104.11315) and `"scan"` (SCAn, USENIX
            Security 2021) look for a second part of a class and give a verdict, too; `"lda"` scores
            the log-odds of another class in the subspace of discriminants.
            `"deep-knn"` (arXiv:1909.13374) flags what a neighbourhood as large as a class outvotes.
            `"legacy_uncentred"`, `"art_logits"`, `"bdbench_np_exp"`: what other tools compute,
            where that differs from the papers (`detectors.parity`).
        model: a model whose features are scanned: then `features` are its inputs
            [n, *input_shape], and the model runs over them once, through JAX. Features that take
            more than a fourth of `memory_limit` are kept in a temporary file. Without labels each
            sample has the class that the model predicts.
        layer: name or index of the model's layer to read; the input of the last affine layer
            unless given. `info["layer"]` says which one was read.
        clean: features and labels of samples known to be clean, as `features` and `labels` are
            given; for `"scan"`, which takes from them how samples vary.
        rate: an upper bound on the poisoned fraction of any class, in (0, 0.5), if there is one.
            Then the `floor(1.5 * rate * n_c)` highest scores of each class are flagged, as in the
            paper: that many in clean classes, too. Without it samples are flagged by their p-value,
            with the false discovery rate held at 1 % (Benjamini & Hochberg, 1995) as far as the
            null is true.
        memory_limit: bytes for one batch and the statistics of all classes. Features wider than
            4,096, or covariances of all classes that do not fit, take more passes instead of more
            memory; `info` has the relative residual of the directions found.
        progress: called as `progress(rows done, rows in all or 0 if unknown, note)`.

    Returns:
        Scores, p-values and flags in the order of the samples; what the p-values assume is in
        `info["null"]`.

    Raises:
        InputError: an array, label or option does not fit; the row is named.
        DatasetError: a file cannot be read, or changed between the passes.
        CapabilityError: the model does not show its layers.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    if rate is not None and not (isinstance(rate, float | int) and 0 < rate < 0.5):
        raise InputError(f"rate={rate!r} must be between 0 and 0.5, both excluded, or None")
    if memory_limit is not None and memory_limit < 4 * MIB:
        raise InputError(f"memory_limit={memory_limit!r} bytes is less than {4 * MIB}, the least")
    if clean is not None and (method != "scan" or not isinstance(clean, tuple) or len(clean) != 2):
        raise InputError('clean= is a pair (features, labels), and goes with method="scan" alone')
    options: dict[str, Any] = {}
    if model is None:
        if layer is not None:
            raise InputError(f"layer={layer!r} goes with a model: pass model=... and its inputs")
        source = open_source(features, labels, memory_limit=memory_limit)
        if clean is not None:
            options["clean"] = open_source(*clean, memory_limit=memory_limit)
        return METHODS[method](source, rate, memory_limit, progress, **options)
    if method in LOGITS and layer is None:
        layer = layers_of(model).output
    read, about = extract_source(
        model,
        features,
        labels,
        layer=layer,
        probabilities=method in PROBABILITIES,
        memory_limit=memory_limit,
        progress=progress,
    )
    left = None if memory_limit is None else max(4 * MIB, memory_limit - read.kept.held)
    if clean is not None:
        options["clean"] = extract_source(
            model, *clean, layer=layer, memory_limit=memory_limit, progress=progress
        )[0]
    result = METHODS[method](read, rate, left, progress, **options)
    info = {**result.info, "model": model.name, "layer": about}
    if method == "auto" and hasattr(features, "shape"):
        info["patches"] = frequent_patches(features, result)
    return replace(result, info=info)
