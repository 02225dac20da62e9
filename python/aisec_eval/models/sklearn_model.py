"""A model from a fitted scikit-learn classifier: a graph where it is a network, or a black box."""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import (
    CapabilityError,
    InputError,
    ModelImportError,
    UnsupportedOperationError,
)

from . import checks
from .base import Capabilities, LoadReport, Model, inputs_of
from .lowering.to_jax import to_jax

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .layers import Layers
    from .lowering.ir import GraphSpec

_SCORES = ("decision_function", "predict_proba")
_SOFTMAX = (
    "scores are probabilities (predict_proba): margins are differences of probabilities, not of "
    "logits"
)


class SklearnModel(Model):
    """A scikit-learn classifier of flat features. Built by `load_sklearn`."""

    def __init__(
        self,
        estimator: Any,
        *,
        name: str,
        digest: str,
        input_shape: tuple[int, ...],
        scores: str | None,
        lowered: tuple[GraphSpec, Graph] | None,
    ) -> None:
        self.name = name
        self.digest = digest
        self.input_shape = input_shape
        self.classes = estimator.classes_
        """The estimator's own labels, in the order of the logits."""
        self.num_classes = len(self.classes)
        native = lowered is not None
        self.capabilities = Capabilities(gradient=native, graph=native, scores=scores is not None)
        self.report = LoadReport()
        self._estimator = estimator
        self._scores = scores
        self._lowered = lowered

    @property
    def graph(self) -> Graph | None:
        """The native graph, or None where the classifier is no network."""
        return self._lowered[1] if self._lowered else None

    @cached_property
    def layers(self) -> Layers | None:
        """The nodes of the lowered network, or None where the classifier is no network."""
        from .layers import of_spec

        return of_spec(self.name, self._lowered[0]) if self._lowered else None

    @cached_property
    def _jax(self) -> tuple[Callable[[Any, Any], Any], Any] | None:
        return to_jax(self._lowered[0]) if self._lowered else None

    def jax_function(self) -> tuple[Callable[[Any, Any], Any], Any] | None:
        """Return the lowered network under JAX, or None; imports JAX."""
        return self._jax

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores [n, num_classes] for inputs [n, *input_shape]; native where lowered.

        Raises:
            CapabilityError: the classifier predicts labels only.
            InputError: x does not have the model's shape.
        """
        if self._lowered:
            return self._lowered[1].forward(inputs_of(self, x))
        return self.scores(x).astype(np.float32)

    def scores(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scikit-learn's own scores [n, num_classes], (0, d) for a single decision d.

        Raises:
            CapabilityError: the classifier predicts labels only.
            InputError: x does not have the model's shape.
        """
        if self._scores is None:
            raise CapabilityError(f"{self.name} predicts labels only; use labels()")
        if len(x) == 0:
            return np.zeros((0, self.num_classes))
        found = np.asarray(self._call(self._scores, x), np.float64)
        return np.stack([np.zeros_like(found), found], axis=1) if found.ndim == 1 else found

    def labels(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return what the classifier predicts [n], as positions in its `classes_`.

        Raises:
            InputError: x does not have the model's shape.
        """
        if self._lowered:
            return super().labels(x)
        return self.predicted(x) if len(x) else np.zeros(0, np.int64)

    def predicted(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return scikit-learn's own predictions [n], n >= 1, as positions in `classes_`."""
        found = self._call("predict", x)
        places: NDArray[np.int64] = np.searchsorted(self.classes, found)
        return places.astype(np.int64)

    def _call(self, method: str, x: NDArray[np.float32]) -> Any:
        # A fresh float64 array: what is computed is in double precision, and scalers may write.
        rows = inputs_of(self, x).reshape(len(x), -1).astype(np.float64)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return getattr(self._estimator, method)(rows)


def load_sklearn(source: Any, options: checks.Options) -> SklearnModel | None:
    """Load a fitted scikit-learn classifier or pipeline; None when `source` is none.

    Raises:
        ModelImportError: not a classifier, not fitted, several outputs, or it fails on its inputs.
        InputError: input_shape does not have as many values as the classifier has features.
    """
    from sklearn.base import BaseEstimator, is_classifier

    if not isinstance(source, BaseEstimator) or isinstance(source, type):
        return None
    name = options.name or type(source).__name__
    if not is_classifier(source):
        raise ModelImportError(
            f"{name}: a {type(source).__name__} is not a classifier; pass one, or a pipeline"
        )
    estimator = _unwrapped(source)
    shape = _shape(estimator, options, name)
    lowered, reason = _lower(estimator, shape, name)
    digest = lowered[1].digest if lowered else _digest(estimator, shape)
    x = checks.probes(options, shape)
    for scores in (*_SCORES, None):
        if scores is not None and not hasattr(estimator, scores):
            continue
        model = SklearnModel(
            estimator,
            name=name,
            digest=digest,
            input_shape=shape,
            scores=scores,
            lowered=lowered,
        )
        try:
            predicted = model.predicted(x)
            own = model.scores(x) if scores else None
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelImportError(f"{name}: fails on its inputs: {_line(error)}") from None
        if predicted.shape != (len(x),):
            raise ModelImportError(f"{name} has several outputs; pass a classifier of one label")
        # Other shapes are no scores of the classes: votes of every pair, for one.
        if own is None or own.shape == (len(x), model.num_classes):
            break
    if lowered and own is not None:
        _check(lowered[1], x, own, scores, name)
    found = _warnings(model, x, own, predicted, options)
    if any("not deterministic" in line for line in found):
        model.capabilities = replace(model.capabilities, deterministic=False)
    if reason is not None:
        found.append(f"not certifiable: {reason}; attacked by queries")
    model.report = LoadReport(tuple(found), reason)
    return model


def _unwrapped(source: Any) -> Any:
    """Return the classifier a finished search over parameters answers with."""
    while type(source).__module__.startswith("sklearn.") and hasattr(source, "best_estimator_"):
        source = source.best_estimator_
    return source


def _shape(estimator: Any, options: checks.Options, name: str) -> tuple[int, ...]:
    """Return one sample's shape for a fitted classifier with one output."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
        classes = estimator.classes_
    except (NotFittedError, AttributeError):
        raise ModelImportError(f"{name} is not fitted; call fit(x, y) first") from None
    if isinstance(classes, list) or np.ndim(classes) != 1:
        raise ModelImportError(f"{name} has several outputs; pass a classifier of one label")
    features = getattr(estimator, "n_features_in_", None)
    shape = options.input_shape or (() if features is None else (int(features),))
    if not shape:
        raise InputError(f"{name} does not say how many features it takes; give input_shape=(d,)")
    if features is not None and math.prod(shape) != features:
        raise InputError(
            f"{name} takes {features} features, input_shape={shape} has {math.prod(shape)} values"
        )
    return shape


def _steps(estimator: Any) -> list[Any]:
    """Return transformers and classifier in order, pipelines inside pipelines unrolled."""
    if type(estimator).__module__ != "sklearn.pipeline" or type(estimator).__name__ != "Pipeline":
        return [estimator]
    steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
    return [inner for step in steps for inner in _steps(step)]


def _lower(
    estimator: Any, shape: tuple[int, ...], name: str
) -> tuple[tuple[GraphSpec, Graph] | None, str | None]:
    """Return the network and its native graph, or None and why there is none."""
    from .lowering import sklearn as lowering

    try:
        spec = lowering.lower(_steps(estimator), shape)
        return (spec, spec.to_core()), None
    except UnsupportedOperationError as error:
        return None, str(error)
    except ValueError as error:
        raise ModelImportError(f"{name}: {_line(error)}") from None


def _check(
    graph: Graph, x: NDArray[np.float32], own: NDArray[np.float64], scores: str | None, name: str
) -> None:
    """Compare the graph with scikit-learn's own scores.

    Raises:
        ModelImportError: they differ by more than rounding.
    """
    if scores == "decision_function":
        checks.check_graph(graph, x, own.astype(np.float32), lambda _: {}, name)
        return
    logits = graph.forward64(x.astype(np.float64))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    gap = checks.differs(powers / powers.sum(axis=1, keepdims=True), own)
    if gap is not None:
        raise ModelImportError(
            f"{name}: the lowered graph differs from the model: probabilities off by {gap:.1e} "
            f"relative (at most {checks.TOLERANCE:.0e} is accepted); please report this model"
        )


def _warnings(
    model: SklearnModel,
    x: NDArray[np.float32],
    own: NDArray[np.float64] | None,
    predicted: NDArray[np.int64],
    options: checks.Options,
) -> list[str]:
    """Say in plain words what looks wrong or different from what one may expect."""
    found = []
    classes = model.classes
    if not np.array_equal(classes, np.arange(len(classes))):
        shown = ", ".join(str(c)[:40] for c in classes[:4]) + ", ..." * (len(classes) > 4)
        found.append(f"labels are positions in classes_ ({shown}): 0..{len(classes) - 1}")
    if own is None:
        return found + checks.label_warnings(model.labels, x, predicted, model.num_classes, options)
    found += checks.warnings(model.logits, x, model.logits(x), options, _SOFTMAX)
    moved = int((own.argmax(axis=1) != predicted).sum())
    if moved:
        found.append(
            f"the largest score differs from predict() on {moved} of {len(x)} inputs; verdicts are "
            "about the scores"
        )
    return found


def _digest(estimator: Any, shape: tuple[int, ...]) -> str:
    """Return a hash of the fitted parameters."""
    import joblib

    about: list[Any] = [shape]
    for step in _steps(estimator):
        state = {
            # Trees of neighbours count how often they are asked; what they hold does not change.
            key: value.get_arrays() if hasattr(value, "get_arrays") else value
            for key, value in vars(step).items()
        }
        about.append((f"{type(step).__module__}.{type(step).__qualname__}", state))
    return hashlib.sha256(joblib.hash(about, hash_name="sha1").encode()).hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
