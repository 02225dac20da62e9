"""Query-based search: how near decisions alone lead, and what searches cost beside the model."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.attacks import Evolution, HopSkipJump, Problem, RayS, SparseRS, Square, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

N = 100
ROUNDS = 200


@pytest.fixture(scope="module")
def mnist(reference: Path) -> tuple[ae.Model, Any, Any]:
    """Return `mnist_cnn_a_adv` and the first 100 test samples."""
    images = np.load(reference / "images" / "mnist_test.npz")
    x = (images["x"][:N].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    return model, x, images["y"][:N].astype(np.int64)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = _core.get_threads()
    _core.set_threads(1)
    yield
    _core.set_threads(threads)


@pytest.mark.parametrize(
    ("method", "threat", "most"),
    [(HopSkipJump(), ae.L2(0), 2.2), (HopSkipJump(), ae.Linf(0), 0.37), (RayS(), ae.Linf(0), 0.34)],
    ids=["hop-skip-jump-l2", "hop-skip-jump-linf", "rays"],
)
def test_nearest_by_decisions(
    method: HopSkipJump | RayS,
    threat: ae.ThreatModel,
    most: float,
    mnist: tuple[ae.Model, Any, Any],
    benchmark: Any,
    report: Callable[[str], None],
) -> None:
    """Median distance after 5000 queries; L2: ART reaches 2.15 on 20 of them, Foolbox 5.04."""
    found = benchmark.pedantic(lambda: nearest(*mnist, threat, method), rounds=1)
    attacked = found.spent.queries > 0
    median, first = np.median(found.distance[attacked]), np.median(found.distance[:20])
    seconds, queries = benchmark.stats.stats.min, found.spent.queries.sum()
    report(
        f"{method.name} {threat.norm}: median {median:.3f} over {attacked.sum()} samples "
        f"({np.median(found.distance):.3f} with the misclassified, {first:.3f} over the first 20), "
        f"{queries} queries in {seconds:.1f} s, {1e6 * seconds / queries:.1f} us each"
    )
    assert found.spent.queries.max() <= 5000
    assert median <= most


@pytest.mark.parametrize(
    ("method", "threat"),
    [
        (Square(), ae.Linf("0.3")),
        (Square(), ae.L2(1)),
        (SparseRS(), ae.L0(5)),
        (SparseRS(), ae.Patch(5)),
        (SparseRS(), ae.Frame(2)),
        (RayS(), ae.Linf(0)),
        (HopSkipJump(), ae.Linf(0)),
        (HopSkipJump(), ae.L2(0)),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
@pytest.mark.usefixtures("one_thread")
def test_bookkeeping(
    method: Square | SparseRS | RayS | HopSkipJump,
    threat: ae.ThreatModel,
    mnist: tuple[ae.Model, Any, Any],
    benchmark: Any,
    report: Callable[[str], None],
) -> None:
    """Time of ask and tell on one thread while the real model answers, a query."""
    model, x, y = mnist
    graph = model.graph
    assert graph is not None
    pool = _core.SearchPool(
        x,
        y,
        np.arange(N),
        num_classes=model.num_classes,
        attack=method.name,
        options=json.dumps(dict(method.options)),
        **Problem(x, y, np.arange(N), threat, 0).region,
        seed=0,
        restart=0,
    )
    buffer = np.empty_like(x)
    asks, tells, forwards, queries = [], [], [], 0

    def turns() -> None:
        nonlocal queries
        for _ in range(ROUNDS):
            start = time.perf_counter()
            rows, _ = pool.ask(buffer)
            asked = time.perf_counter()
            logits = graph.forward(buffer[:rows])
            answered = time.perf_counter()
            pool.tell(buffer, logits)
            asks.append((asked - start) / rows)
            tells.append((time.perf_counter() - answered) / rows)
            forwards.append((answered - asked) / rows)
            queries += rows

    benchmark.pedantic(turns, rounds=1)
    # Medians of turns: a busy neighbour doubles single ones.
    ask, tell, forward = (1e6 * float(np.median(part)) for part in (asks, tells, forwards))
    report(
        f"{method.name} {threat}: {ask + tell:.2f} us a query beside the model's {forward:.1f} "
        f"(ask {ask:.2f}, tell {tell:.2f}; {queries} queries)"
    )
    assert queries > 10 * ROUNDS


@pytest.mark.parametrize("metric", ["linf", "l1", "l0"])
@pytest.mark.parametrize("method", [Square(), Evolution()], ids=lambda method: method.name)
@pytest.mark.usefixtures("one_thread")
def test_bookkeeping_of_tables(
    method: Square | Evolution, metric: Any, benchmark: Any, report: Callable[[str], None]
) -> None:
    """Time of ask and tell on one thread, a query: 40 features, logits of a linear model."""
    integer, number = ae.Feature(0, 20, "integer"), ae.Feature(0, 1, change="up")
    features = [integer] * 15 + [number] * 15 + [ae.OneHot(4, cost="1/2")] * 10
    threat = ae.Tabular(features, 3 if metric == "l0" else "1/2", metric=metric)
    rng = np.random.default_rng(0)
    categories = np.eye(4)[rng.integers(0, 4, (N, 10))].reshape(N, 40)
    parts = [rng.integers(0, 21, (N, 15)), rng.uniform(size=(N, 15)), categories]
    x = np.concatenate(parts, axis=1).astype(np.float32)
    w = rng.normal(size=x.shape[1]).astype(np.float32)
    y, ids = np.zeros(N, np.int64), np.arange(N)
    pool = _core.SearchPool(
        x,
        y,
        ids,
        num_classes=2,
        attack=method.name,
        options=json.dumps(dict(method.options)),
        **Problem(x, y, ids, threat, 0).region,
        seed=0,
        restart=0,
    )
    buffer, spent = np.empty_like(x), []

    def turns() -> None:
        for _ in range(1000):
            start = time.perf_counter()
            rows, _ = pool.ask(buffer)
            asked = time.perf_counter()
            logits = np.stack([100 + buffer[:rows] @ w, np.zeros(rows, np.float32)], axis=1)
            answered = time.perf_counter()
            pool.tell(buffer, logits)
            spent.append((time.perf_counter() - answered + asked - start) / rows)

    benchmark.pedantic(turns, rounds=1)
    report(f"{method.name} {threat}: {1e6 * float(np.median(spent)):.2f} us a query")
