"""scikit-learn classifiers: networks become graphs, everything else a black box."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import (
    discriminant_analysis,
    ensemble,
    linear_model,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    svm,
)
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

import aisec_eval as ae
from aisec_eval.errors import AisecError, CapabilityError, InputError, ModelImportError
from aisec_eval.models import load_model


def data(classes: int, n: int = 200, features: int = 6) -> Any:
    x, y = make_classification(
        n, features, n_informative=5, n_redundant=0, n_classes=classes, random_state=classes
    )
    x = (x - x.min()) / (x.max() - x.min())
    return x.astype(np.float32), y


def fitted(estimator: Any, classes: int = 3) -> Any:
    x, y = data(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(x.astype(np.float64), y)


def mlp(activation: str, hidden: tuple[int, ...] = (8, 5)) -> Any:
    return neural_network.MLPClassifier(
        hidden, activation=activation, max_iter=60, random_state=0, learning_rate_init=0.02
    )


NETWORKS: dict[str, Any] = {
    "logistic": linear_model.LogisticRegression(),
    "logistic cv": linear_model.LogisticRegressionCV(
        Cs=2, l1_ratios=(0,), use_legacy_attributes=False, scoring="accuracy"
    ),
    "no intercept": linear_model.LogisticRegression(fit_intercept=False),
    "linear svc": svm.LinearSVC(random_state=0),
    "crammer-singer": svm.LinearSVC(multi_class="crammer_singer", random_state=0),
    "sgd": linear_model.SGDClassifier(random_state=0),
    "perceptron": linear_model.Perceptron(),
    "ridge": linear_model.RidgeClassifier(),
    "lda": discriminant_analysis.LinearDiscriminantAnalysis(),
    "mlp relu": mlp("relu"),
    "mlp tanh": mlp("tanh"),
    "mlp logistic": mlp("logistic"),
    "mlp identity": mlp("identity"),
    "mlp wide": mlp("relu", (12,)),
    "standard": make_pipeline(StandardScaler(), linear_model.LogisticRegression()),
    "standard no mean": make_pipeline(StandardScaler(with_mean=False), mlp("relu")),
    "standard no std": make_pipeline(StandardScaler(with_std=False), svm.LinearSVC()),
    "min-max": make_pipeline(MinMaxScaler((-1, 1)), mlp("tanh")),
    "min-max clipped": make_pipeline(MinMaxScaler((-1, 2), clip=True), mlp("relu")),
    "max-abs": make_pipeline(MaxAbsScaler(), linear_model.LogisticRegression()),
    "robust": make_pipeline(RobustScaler(), linear_model.LogisticRegression()),
    "nested": make_pipeline(
        make_pipeline(StandardScaler(), "passthrough"), MinMaxScaler(), mlp("relu")
    ),
    "searched": GridSearchCV(linear_model.LogisticRegression(), {"C": [0.1, 1]}, cv=2),
}


def own(model: Any, x: Any) -> Any:
    """scikit-learn's own decisions as logits."""
    z = model.decision_function(x.astype(np.float64))
    return np.stack([0 * z, z], axis=1) if z.ndim == 1 else z


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_lowered_exactly(name: str, classes: int) -> None:
    estimator = fitted(NETWORKS[name], classes)
    model = load_model(estimator)
    graph = model.graph
    assert graph is not None
    assert model.capabilities.graph
    assert model.capabilities.gradient
    assert model.num_classes == classes
    assert model.report.not_certifiable is None
    rng = np.random.default_rng(0)
    x = np.concatenate([data(classes)[0], rng.normal(size=(50, 6)).astype(np.float32)])
    z = graph.forward64(x.astype(np.float64))
    if hasattr(estimator, "decision_function"):
        np.testing.assert_allclose(z, own(estimator, x), rtol=1e-9, atol=1e-9)
    else:
        proba = estimator.predict_proba(x.astype(np.float64))
        np.testing.assert_allclose(softmax(z, axis=1), proba, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(z.argmax(1), estimator.predict(x.astype(np.float64)))
    np.testing.assert_allclose(model.logits(x), z, rtol=1e-4, atol=1e-4)
    apply, params = model.jax_function() or (None, None)
    assert apply is not None
    np.testing.assert_allclose(apply(params, x[:5]), z[:5], rtol=1e-4, atol=1e-4)


def test_scalers_are_folded_into_the_first_layer() -> None:
    estimator = fitted(make_pipeline(StandardScaler(), linear_model.LogisticRegression()))
    graph = load_model(estimator).graph
    assert graph is not None
    assert [graph.node_op(i) for i in range(graph.num_nodes)] == ["input", "affine"]


def test_certified_and_attacked_meet_on_a_linear_model() -> None:
    estimator = fitted(linear_model.LogisticRegression())
    x, y = data(3, 60)
    model = load_model(estimator)
    evaluation = ae.evaluate(model, x, y, ae.Linf(0.02), attacks="fast", certify="crown")
    bracket = evaluation.bracket
    assert bracket.certified == pytest.approx(bracket.attacked, abs=1e-9)
    # Linf on a linear model: a sample is safe iff every margin exceeds eps |w_y - w_j|_1.
    z, w = own(estimator, x), estimator.coef_
    inside = (x >= 0.02).all(1) & (x <= 0.98).all(1)
    rows = np.arange(60)
    reach = 0.02 * np.abs(w[y][:, None] - w[None]).sum(2)
    slack = z[rows, y][:, None] - z - reach
    slack[rows, y] = np.inf
    safe = slack.min(1) > 0
    certified = np.asarray(evaluation.verdict) == ae.VERDICTS.index("certified")
    np.testing.assert_array_equal(certified[inside], safe[inside])
    assert 0 < certified.sum() < 60


def test_images_are_flattened_row_by_row() -> None:
    estimator = fitted(linear_model.LogisticRegression())
    x, _ = data(3, 20)
    flat = load_model(estimator)
    image = load_model(estimator, input_shape=(1, 2, 3))
    np.testing.assert_array_equal(image.logits(x.reshape(-1, 1, 2, 3)), flat.logits(x))
    boxed = load_model(fitted(naive_bayes.GaussianNB()), input_shape=(2, 3))
    assert boxed.logits(x.reshape(-1, 2, 3)).shape == (20, 3)


BLACK_BOXES: dict[str, Any] = {
    "forest": ensemble.RandomForestClassifier(10, random_state=0),
    "boosting": ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0),
    "neighbours": neighbors.KNeighborsClassifier(3),
    "bayes": naive_bayes.GaussianNB(),
    "svc": svm.SVC(),
    "normalized": make_pipeline(Normalizer(), linear_model.LogisticRegression()),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", BLACK_BOXES)
def test_black_boxes(name: str, classes: int) -> None:
    estimator = fitted(BLACK_BOXES[name], classes)
    model = load_model(estimator)
    x, y = data(classes, 40)
    assert model.graph is None
    assert model.jax_function() is None
    assert not model.capabilities.gradient
    assert model.capabilities.scores
    assert model.logits(x).shape == (40, classes)
    assert model.logits(x[:0]).shape == (0, classes)
    expected = estimator.predict(x.astype(np.float64))
    np.testing.assert_array_equal(model.labels(x), expected)
    np.testing.assert_array_equal(model.logits(x).argmax(1), expected)
    assert any(line.startswith("not certifiable: ") for line in model.report.warnings)
    proba = not hasattr(estimator, "decision_function")
    assert any("predict_proba" in line for line in model.report.warnings) == proba
    assert load_model(estimator).digest == model.digest
    if name == "forest":
        attack = ae.attacks.Square(queries=60)
        result = ae.attack(model, x, y, ae.Linf(0.2), method=attack)
        assert "broken" in {ae.VERDICTS[v] for v in np.asarray(result.verdict)}


def test_the_digest_follows_the_parameters() -> None:
    first, second = (ensemble.RandomForestClassifier(5, random_state=seed) for seed in (0, 1))
    assert load_model(fitted(first)).digest != load_model(fitted(second)).digest
    near = linear_model.LogisticRegression(C=1.0), linear_model.LogisticRegression(C=1.01)
    assert len({load_model(fitted(m)).digest for m in near}) == 2


def test_labels_only() -> None:
    votes = ensemble.VotingClassifier(
        [("a", linear_model.LogisticRegression()), ("b", neighbors.KNeighborsClassifier(3))]
    )
    estimator = fitted(votes)
    model = load_model(estimator)
    x, _ = data(3, 30)
    assert not model.capabilities.scores
    np.testing.assert_array_equal(model.labels(x), estimator.predict(x.astype(np.float64)))
    with pytest.raises(CapabilityError, match="labels only"):
        model.logits(x)
    assert any("labels only" in line for line in model.report.warnings)


def test_votes_of_pairs_are_no_scores() -> None:
    x, y = data(4)
    estimator = svm.SVC(decision_function_shape="ovo").fit(x, y)
    model = load_model(estimator)
    assert not model.capabilities.scores
    np.testing.assert_array_equal(model.labels(x), estimator.predict(x.astype(np.float64)))


def test_other_labels_become_positions() -> None:
    x, y = data(3)
    names = np.array(["ant", "bee", "cat"])
    estimator = neighbors.KNeighborsClassifier(3).fit(x, names[y])
    model = load_model(estimator, samples=x, labels=y)
    assert any("ant, bee, cat" in line for line in model.report.warnings)
    expected = estimator.predict(x.astype(np.float64))
    np.testing.assert_array_equal(names[model.labels(x)], expected)


class Random(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Scores with noise; a user's own class."""

    def fit(self, x: Any, y: Any) -> Random:
        self.classes_ = np.unique(y)
        self.n_features_in_ = x.shape[1]
        self.generator_ = np.random.default_rng(0)
        return self

    def decision_function(self, x: Any) -> Any:
        return self.generator_.normal(size=(len(x), len(self.classes_)))

    def predict(self, x: Any) -> Any:
        return self.classes_[self.decision_function(x).argmax(1)]


class Shapeless(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    def fit(self, _x: Any, _y: Any = None) -> Shapeless:
        return self

    def transform(self, x: Any) -> Any:
        return x

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Failing(Random):
    def predict(self, x: Any) -> Any:
        raise ValueError(f"not\n  today {len(x)}")


class Tuned(linear_model.LogisticRegression):  # type: ignore[misc]
    """A subclass may compute anything: it is not lowered."""

    def decision_function(self, x: Any) -> Any:
        return np.tanh(super().decision_function(x))


def test_randomness_is_noticed() -> None:
    model = load_model(fitted(Random()))
    assert not model.capabilities.deterministic
    assert any("not deterministic" in line for line in model.report.warnings)
    assert any("differs from predict()" in line for line in model.report.warnings)


def test_subclasses_are_black_boxes() -> None:
    estimator = fitted(Tuned())
    model = load_model(estimator)
    assert model.graph is None
    x, _ = data(3, 10)
    np.testing.assert_allclose(
        model.logits(x), estimator.decision_function(x.astype(np.float64)), rtol=1e-6
    )


def test_wrong_labels_are_noticed() -> None:
    x, y = data(3)
    estimator = fitted(linear_model.LogisticRegression())
    assert load_model(estimator, samples=x, labels=y).report.warnings == ()
    wrong = load_model(estimator, samples=x, labels=(y + 1) % 3)
    assert any("close to chance" in line for line in wrong.report.warnings)


def test_refusals_are_one_line() -> None:
    x, y = data(3)
    several = multioutput.MultiOutputClassifier(naive_bayes.GaussianNB())
    many = np.stack([y, 1 - (y > 0)], axis=1)
    broken = fitted(linear_model.LogisticRegression())
    broken.coef_ = np.full_like(broken.coef_, np.nan)
    free = fitted(Random())
    free.n_features_in_ = None
    shapeless = Pipeline([("f", Shapeless()), ("m", free)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        multilabel = mlp("relu").fit(x, np.eye(3)[y])
    for estimator, options, kind, message in (
        (linear_model.LogisticRegression(), {}, ModelImportError, "not fitted"),
        (make_pipeline(StandardScaler(), svm.SVC()), {}, ModelImportError, "not fitted"),
        (fitted(linear_model.LinearRegression()), {}, ModelImportError, "not a classifier"),
        (fitted(StandardScaler()), {}, ModelImportError, "not a classifier"),
        (several.fit(x, many), {}, ModelImportError, "several outputs"),
        (multilabel, {}, ModelImportError, "several outputs"),
        (fitted(svm.LinearSVC()), {"input_shape": (7,)}, InputError, "takes 6 features"),
        (broken, {}, ModelImportError, "NaN"),
        (shapeless, {}, InputError, "input_shape"),
        (fitted(Failing()), {}, ModelImportError, "fails on its inputs: not today"),
    ):
        with pytest.raises(kind, match=message) as caught:
            load_model(estimator, **options)
        assert isinstance(caught.value, AisecError)
        assert "\n" not in str(caught.value)
