"""Tables: every constraint holds, and on small tables the verdict is that of all rows there are."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aisec_eval as ae
from aisec_eval import Feature, OneHot, Tabular, _core
from aisec_eval.attacks import Evolution, Square, attack
from aisec_eval.errors import CapabilityError, InputError
from aisec_eval.models import Capabilities, LoadReport, Model
from aisec_eval.threats import parse
from helpers.networks import LayeredModel, random_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

FEATURES = (
    Feature(0, 6, "integer", scale=2),
    OneHot(3, cost="1/2"),
    Feature(-2, 3, "integer", "up"),
    Feature(0, 9, "integer", "fixed"),
    OneHot(2, "fixed"),
    Feature(1, 4, "integer", "down", scale="3/10"),
)
COLUMNS = 9


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    threads = _core.get_threads()
    yield
    _core.set_threads(threads)


def rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return random rows of FEATURES."""
    rng = np.random.default_rng(seed)
    parts: list[Any] = []
    for part in FEATURES:
        if isinstance(part, OneHot):
            parts.append(np.eye(part.size)[rng.integers(0, part.size, count)])
        else:
            values = rng.integers(int(part.lower), int(part.upper) + 1, count)
            parts.append(values[:, None])
    return np.concatenate(parts, axis=1).astype(np.float32)


def choices(part: Feature | OneHot, now: Any) -> list[tuple[tuple[float, ...], Fraction]]:
    """Return all a feature may be, and what that costs, by the definition."""
    if isinstance(part, OneHot):
        every = [tuple(float(i == k) for i in range(part.size)) for k in range(part.size)]
        kept = every if part.change == "both" else [tuple(now)]
        return [(value, part.cost * (value != tuple(now))) for value in kept]
    old = int(now[0])
    low = int(part.lower) if part.change in ("both", "down") else old
    high = int(part.upper) if part.change in ("both", "up") else old
    unit = part.scale or Fraction(part.upper) - Fraction(part.lower)
    return [((float(v),), abs(v - old) / unit) for v in range(low, high + 1)]


def reachable(threat: Tabular, row: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return every row of the threat model around one, by exact arithmetic."""
    options, column = [], 0
    for part in threat.features:
        options.append(choices(part, row[column : column + part.columns]))
        column += part.columns
    found = []
    for combination in product(*options):
        costs = [cost for _, cost in combination]
        spent: Any = {
            "linf": max(costs),
            "l1": sum(costs),
            "l0": sum(cost > 0 for cost in costs),
            "l2": sum(cost**2 for cost in costs),
        }[threat.metric]
        if spent <= (threat.eps**2 if threat.metric == "l2" else threat.eps):
            found.append([value for values, _ in combination for value in values])
    return np.array(found, np.float32)


class BlackBox(Model):
    """Scores by a function, and nothing else."""

    name, digest = "box", "0"
    capabilities = Capabilities()
    report = LoadReport()

    def __init__(self, score: Callable[[NDArray[np.float32]], Any], columns: int) -> None:
        self.score, self.input_shape, self.num_classes = score, (columns,), 2

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        score = np.asarray(self.score(x), np.float32)
        return np.stack([-score, score], axis=1)


THREATS = [("linf", "1"), ("linf", "3/10"), ("l1", "1.5"), ("l1", 0), ("l2", "1.2"), ("l0", 2)]


@pytest.mark.parametrize(("metric", "eps"), THREATS)
def test_verdicts_on_small_tables_are_those_of_all_rows(metric: Any, eps: Any) -> None:
    threat = Tabular(FEATURES, eps, metric=metric)
    x = rows(10)
    net = random_model(8, (COLUMNS,), classes=2)

    def score(points: NDArray[np.float32]) -> Any:
        scaled = points / np.float32([6, 1, 1, 1, 3, 9, 1, 1, 4])
        return np.diff(net.logits(np.ascontiguousarray(scaled, np.float32)))[:, 0] - 0.3

    model = BlackBox(score, COLUMNS)
    y = model.labels(x)
    found = attack(model, x, y, threat, method="evolution")
    for i, row in enumerate(x):
        every = reachable(threat, row)
        assert len(every) <= 5000
        broken = (model.labels(every) != y[i]).any()
        assert ae.VERDICTS[found.verdict[i]] == (ae.BROKEN if broken else ae.OPEN)
        assert (every == found.x_adv[i]).all(axis=1).any()
        if not broken:
            assert found.spent.queries[i] == max(1, len(every) - 1)
    # What the checker accepts is exactly what can be reached.
    every = np.unique(np.concatenate([reachable(threat, row) for row in x]), axis=0)
    for row in x[:3]:
        mine = {point.tobytes() for point in reachable(threat, row)}
        clean = np.broadcast_to(row, every.shape).copy()
        reasons = _core.check_constraint(clean, every, constraint=threat.constraint)
        accepted = {point.tobytes() for point, why in zip(every, reasons, strict=True) if not why}
        assert accepted == mine


MIXED = st.lists(
    st.one_of(
        st.builds(
            Feature,
            st.just(-3),
            st.just(5),
            st.sampled_from(["integer", "continuous"]),
            st.sampled_from(["both", "up", "down", "fixed"]),
            st.one_of(st.none(), st.fractions(Fraction(1, 9), 9, max_denominator=20)),
        ),
        st.builds(
            OneHot, st.integers(1, 4), st.sampled_from(["both", "fixed"]), st.fractions(0, 2)
        ),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=40)
@given(
    features=MIXED,
    metric=st.sampled_from(["linf", "l2", "l1", "l0"]),
    eps=st.fractions(0, 3, max_denominator=30),
    seed=st.integers(0, 2**32),
)
def test_constraints_hold_in_exact_arithmetic(
    features: list[Any], metric: Any, eps: Fraction, seed: int
) -> None:
    threat = Tabular(features, eps if metric != "l0" else int(eps), metric=metric)
    rng = np.random.default_rng(seed)
    parts: list[Any] = []
    for part in features:
        if isinstance(part, OneHot):
            parts.append(np.eye(part.size)[rng.integers(0, part.size, 4)])
        else:
            values = rng.uniform(-3, 5, (4, 1))
            parts.append(np.round(values) if part.kind == "integer" else values)
    x = np.concatenate(parts, axis=1).astype(np.float32)
    w = rng.normal(size=x.shape[1])
    model = BlackBox(lambda points: 50 + points @ w, x.shape[1])
    methods = [Square(queries=30), Evolution(queries=40, population=5)]
    found = attack(model, x, np.ones(4, np.int64), threat, method=methods, seed=seed)
    limit = threat.eps**2 if metric == "l2" else threat.eps
    for old, new, distance in zip(x, found.x_adv, threat.distances(x, found.x_adv), strict=True):
        column, costs = 0, []
        for part in features:
            before, after = (r[column : column + part.columns] for r in (old, new))
            column += part.columns
            if part.change == "fixed":
                assert before.tobytes() == after.tobytes()
            if isinstance(part, OneHot):
                assert sorted(after) == [0] * (part.size - 1) + [1]
                costs.append(part.cost * bool((before != after).any()))
                changed = bool((before != after).any())
            else:
                value = float(after[0])
                assert part.lower <= value <= part.upper
                assert part.kind == "continuous" or value == int(value)
                assert part.change != "up" or value >= before[0]
                assert part.change != "down" or value <= before[0]
                costs.append(abs(Fraction(value) - Fraction(float(before[0]))) / part.unit)
                changed = value != before[0]
            if metric == "l0":
                costs[-1] = Fraction(int(changed))
        spent: Any = (
            max(costs) if metric == "linf" else sum(c**2 if metric == "l2" else c for c in costs)
        )
        assert spent <= limit
        exact = float(spent) ** 0.5 if metric == "l2" else float(spent)
        assert distance == pytest.approx(exact, abs=1e-6)


def test_batches_order_and_threads_change_nothing() -> None:
    model = random_model(4, (COLUMNS,))
    x = rows(23, seed=3)
    y, ids = model.labels(x), np.arange(23) * 5
    threat = Tabular((*FEATURES[:-1], Feature(0, 9, scale=2)), "1/2", metric="l2")
    method = [Square(queries=60), Evolution(queries=200)]
    expected = attack(model, x, y, threat, method=method, sample_ids=ids, batch_size=1)
    assert {ae.VERDICTS[code] for code in expected.verdict} >= {ae.BROKEN, ae.OPEN}
    order = np.random.default_rng(1).permutation(23)
    for threads, batch in [(1, 64), (3, 500)]:
        _core.set_threads(threads)
        same = attack(
            model,
            x[order],
            y[order],
            threat,
            method=method,
            sample_ids=ids[order],
            batch_size=batch,
        )
        assert np.array_equal(same.x_adv, expected.x_adv[order])
        assert np.array_equal(same.margin, expected.margin[order])
        assert np.array_equal(same.spent.queries, expected.spent.queries[order])


def test_scikit_learn_models() -> None:
    """A forest and a logistic regression: the second against the optimum of its linear score."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    x = rows(200, seed=5)
    y = (x[:, 0] + 2 * x[:, 1] - x[:, 4] + 0.3 * x[:, 8] > 3).astype(np.int64)
    threat = Tabular(FEATURES, "1/2", metric="l1")
    forest = ae.load_model(RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, y))
    assert forest.graph is None
    found = attack(forest, x[:6], y[:6], threat, method=[Square(queries=40), "evolution"])
    for i in range(6):
        every = reachable(threat, x[i])
        broken = (forest.labels(every) != y[i]).any()
        expected = ae.BROKEN if broken else ae.OPEN
        if forest.labels(x[i : i + 1])[0] != y[i]:
            expected = ae.MISCLASSIFIED
        assert ae.VERDICTS[found.verdict[i]] == expected
    regression = ae.load_model(LogisticRegression().fit(x, y))
    evaluation = ae.evaluate(regression, x[:40], y[:40], threat)
    for i in range(40):
        if evaluation.verdict[i] == ae.VERDICTS.index(ae.OPEN):
            assert (regression.labels(reachable(threat, x[i])) == y[i]).all()
    assert (evaluation.verdict == ae.VERDICTS.index(ae.BROKEN)).any()
    assert parse(evaluation.info["threat"]) == threat


def test_budgets_are_exact_at_the_boundary() -> None:
    """Three steps of ten tenths cost three tenths: reachable with "0.3", not below."""
    features = [Feature(0, 10, "integer") for _ in range(3)]
    x = np.zeros((1, 3), np.float32)
    for metric in ("linf", "l1", "l2"):
        point = np.float32([[3, 0, 0]])
        for eps, allowed in [("0.3", True), (Fraction(299999, 10**6), False)]:
            constraint = Tabular(features, eps, metric=metric).constraint
            assert (_core.check_constraint(x, point, constraint=constraint)[0] == "") is allowed
    point = np.float32([[1, 1, 1]])
    constraint = Tabular(features, "0.3", metric="l1").constraint
    assert _core.check_constraint(x, point, constraint=constraint) == [""]
    constraint = Tabular([*features[:2], Feature(0, 7, "integer")], "0.3", metric="l1").constraint
    assert "cost" in _core.check_constraint(x, point, constraint=constraint)[0]


def test_every_violation_is_named() -> None:
    threat = Tabular(FEATURES, 2, metric="l1")
    clean = np.float32([[2, 1, 0, 0, 1, 4, 0, 1, 3]])
    for column, value, message in [
        (0, 2.5, "column 0 is not a whole number"),
        (1, 0.0, "columns from 1 on are not one 1 among zeros"),
        (2, 1.0, "columns from 1 on are not one 1 among zeros"),
        (4, 0.0, "column 4 moved against its direction"),
        (5, 5.0, "column 5 is fixed and differs"),
        (6, 1.0, "column 6 is fixed and differs"),
        (8, 4.0, "column 8 moved against its direction"),
        (0, 7.0, "column 0 moved by 5e0, at most 4e0 is allowed"),
    ]:
        point = clean.copy()
        point[0, column] = value
        (reason,) = _core.check_constraint(clean, point, constraint=threat.constraint)
        assert message in reason
    point = clean.copy()
    point[0, [0, 1, 2]] = [5, 0, 1]
    assert _core.check_constraint(clean, point, constraint=threat.constraint) == [""]
    point[0, 4] = 3
    (reason,) = _core.check_constraint(clean, point, constraint=threat.constraint)
    assert reason == "the changes cost 7.2e1, not proven to be within 6e1"


def test_refusals() -> None:
    model = random_model(4, (COLUMNS,))
    threat = Tabular(FEATURES, 1)
    x, y = rows(2), np.zeros(2, np.int64)
    for column, value, message in [
        (0, 0.5, "column 0 must hold whole numbers"),
        (1, 0.5, "columns 1 to 3 must be one 1 among zeros"),
        (0, 9.0, "widen the feature's range"),
    ]:
        bad = x.copy()
        bad[1, column] = value
        with pytest.raises(InputError, match=message):
            attack(model, bad, y, threat)
    with pytest.raises(InputError, match=r"the features fill columns \[8\], one sample has \[9\]"):
        attack(model, x, y, Tabular(FEATURES[1:], 1))
    for method in ("apgd-ce", "fab-t", "fmn", "hop-skip-jump", "sparse-rs", "carlini-wagner"):
        with pytest.raises(CapabilityError, match="not tabular"):
            attack(model, x, y, threat, method=method)
    with pytest.raises(CapabilityError, match="certifiers do not cover tabular"):
        ae.certify(model, x, y, threat)
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: Tabular([], 1), "at least one"),
        (lambda: Tabular([3], 1), "at least one"),  # type: ignore[list-item]
        (lambda: Tabular(FEATURES, -1), "a budget of at least 0"),
        (lambda: Tabular(FEATURES, "1/2", metric="l0"), "a number of features"),
        (lambda: Tabular(FEATURES, 1, metric="l3"), "metric"),  # type: ignore[arg-type]
        (lambda: Feature(1, 0), "lower <= upper"),
        (lambda: Feature(0, float("nan")), "finite"),
        (lambda: Feature(0, 2**25, "integer"), "float32 holds whole numbers"),
        (lambda: Feature(0, 1, "ordinal"), "kind"),  # type: ignore[arg-type]
        (lambda: Feature(0, 1, change="left"), "change"),  # type: ignore[arg-type]
        (lambda: Feature(0, 1, scale=0), "scale"),
        (lambda: OneHot(0), "size"),
        (lambda: OneHot(2, "up"), "change"),  # type: ignore[arg-type]
        (lambda: OneHot(2, cost=-1), "cost"),
        (lambda: Evolution(queries=0), "queries"),
        (lambda: Evolution(population=1), "population"),
    ]
    for make, message in refused:
        with pytest.raises(InputError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
    good = threat.describe()
    for bad in ({}, {"features": [{"lower": 0}]}, {"features": [{"onehot": 2, "size": 3}]}):
        with pytest.raises(InputError):
            parse({**good, **bad} if bad else {"norm": "tabular"})


def test_what_cannot_move_is_open_after_one_query() -> None:
    layers = [(np.ones((2, 2)), np.zeros(2))]
    model = LayeredModel([(layers[0][0], [1, 0])], (2,))
    threat = Tabular([Feature(0, 1, change="fixed"), Feature(0, 1, change="fixed")], 1)
    found = attack(model, np.float32([[0, 1]]), [0], threat)
    assert ae.VERDICTS[found.verdict[0]] == ae.OPEN
    assert found.spent.queries[0] <= 4
