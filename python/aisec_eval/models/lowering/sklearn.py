"""Lowers fitted scikit-learn networks: linear classifiers, MLPs, and the scalers before them.

Read from the fitted parameters alone; nothing of scikit-learn is called. Two classes give logits
(0, d) for the decision d, so that their difference and their softmax are scikit-learn's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import UnsupportedOperationError

from .builder import NotLowerable, Value
from .emit import Emitter
from .simplify import simplify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .ir import GraphSpec

_LINEAR = frozenset(
    (
        *("LogisticRegression", "LogisticRegressionCV", "LinearSVC", "SGDClassifier"),
        *("Perceptron", "PassiveAggressiveClassifier", "RidgeClassifier", "RidgeClassifierCV"),
        "LinearDiscriminantAnalysis",
    )
)
_ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": None}


def lower(steps: Sequence[Any], input_shape: tuple[int, ...]) -> GraphSpec:
    """Return the graph of transformers followed by a classifier, applied to the flat sample.

    Raises:
        UnsupportedOperationError: a step that is not a network of the graph's operators.
    """
    emit = Emitter(input_shape, "input")
    x = emit.reshape(Value(0, (1, *input_shape)), (1, math.prod(input_shape)))
    for step in steps:
        emit.source = name = type(step).__name__
        rule = _rule(step)
        if rule is None:
            raise UnsupportedOperationError(f"{name} has no bounds")
        try:
            x = rule(emit, x, step)
        except NotLowerable as error:
            raise UnsupportedOperationError(f"{name}: {error}") from None
        emit.label(x, name)
    return simplify(emit.finish(x))


def _rule(step: Any) -> Callable[[Emitter, Value, Any], Value] | None:
    """Return how a step is lowered; by its exact type, as a subclass may compute anything."""
    kind = type(step)
    if not kind.__module__.startswith("sklearn."):
        return None
    return _linear if kind.__name__ in _LINEAR else _RULES.get(kind.__name__)


def _linear(emit: Emitter, x: Value, model: Any) -> Value:
    weight = np.atleast_2d(np.asarray(model.coef_, np.float64))
    bias = np.broadcast_to(np.asarray(model.intercept_, np.float64), len(weight))
    return _decide(emit, x, weight, bias)


def _mlp(emit: Emitter, x: Value, model: Any) -> Value:
    if model.activation not in _ACTIVATIONS:
        raise NotLowerable(f"activation {model.activation!r}")
    op = _ACTIVATIONS[model.activation]
    *hidden, last = zip(model.coefs_, model.intercepts_, strict=True)
    for weight, bias in hidden:
        x = emit.affine(x, np.asarray(weight, np.float64).T, np.asarray(bias, np.float64))
        x = x if op is None else emit.unary(op, x)
    weight, bias = (np.asarray(part, np.float64) for part in last)
    return _decide(emit, x, weight.T, bias)


def _decide(emit: Emitter, x: Value, weight: Any, bias: Any) -> Value:
    """Apply the last layer; a single decision becomes two logits."""
    if len(weight) == 1:
        weight = np.concatenate([np.zeros_like(weight), weight])
        bias = np.concatenate([np.zeros(1), bias])
    return emit.affine(x, weight, bias)


def _standard_scaler(emit: Emitter, x: Value, scaler: Any) -> Value:
    if scaler.with_mean:
        x = emit.binary("sub", x, np.asarray(scaler.mean_, np.float64))
    return emit.binary("div", x, np.asarray(scaler.scale_, np.float64)) if scaler.with_std else x


def _robust_scaler(emit: Emitter, x: Value, scaler: Any) -> Value:
    if scaler.with_centering:
        x = emit.binary("sub", x, np.asarray(scaler.center_, np.float64))
    return (
        emit.binary("div", x, np.asarray(scaler.scale_, np.float64)) if scaler.with_scaling else x
    )


def _min_max_scaler(emit: Emitter, x: Value, scaler: Any) -> Value:
    x = emit.binary("mul", x, np.asarray(scaler.scale_, np.float64))
    x = emit.binary("add", x, np.asarray(scaler.min_, np.float64))
    return _clipped(emit, x, *scaler.feature_range) if scaler.clip else x


def _max_abs_scaler(emit: Emitter, x: Value, scaler: Any) -> Value:
    x = emit.binary("div", x, np.asarray(scaler.scale_, np.float64))
    return _clipped(emit, x, -1.0, 1.0) if getattr(scaler, "clip", False) else x


def _clipped(emit: Emitter, x: Value, low: float, high: float) -> Value:
    x = emit.binary("max", x, np.float64(low))
    return emit.binary("min", x, np.float64(high))


_RULES: dict[str, Callable[[Emitter, Value, Any], Value]] = {
    "MLPClassifier": _mlp,
    "StandardScaler": _standard_scaler,
    "RobustScaler": _robust_scaler,
    "MinMaxScaler": _min_max_scaler,
    "MaxAbsScaler": _max_abs_scaler,
}
