"""Searches by decisions and sparse changes: closed forms, labels only, invariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.attacks import HopSkipJump, RayS, SparseRS, attack, nearest
from aisec_eval.errors import CapabilityError, InputError
from aisec_eval.models import Capabilities, LoadReport, Model
from aisec_eval.threats import L0, L1, L2, Linf
from helpers.networks import LayeredModel, random_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (2, 4, 3)
N = 24
DUAL = {"linf": 1, "l2": 2}
DECISION = [(HopSkipJump(queries=3000), L2), (HopSkipJump(queries=3000), Linf), (RayS(), Linf)]


class LabelsOnly(Model):
    """Tells the class another model predicts, and counts what it was asked."""

    name = "labels-only"
    digest = "0"
    capabilities = Capabilities(scores=False)
    report = LoadReport()

    def __init__(self, model: Model) -> None:
        self.model = model
        self.input_shape, self.num_classes = model.input_shape, model.num_classes
        self.asked = 0

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        raise CapabilityError(f"labels only, asked for {len(x)} rows of logits")

    def labels(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        self.asked += len(x)
        return self.model.labels(x)


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    threads = _core.get_threads()
    yield
    _core.set_threads(threads)


def linear(x: Any, gap: float) -> tuple[LayeredModel, Any]:
    """Return a model whose margin at `x` is `gap`, and its gradient."""
    w = np.random.default_rng(7).normal(size=N).astype(np.float32)
    bias = gap - float(w.astype(np.float64) @ x.reshape(-1).astype(np.float64))
    return LayeredModel([(np.stack([w, 0 * w]), [bias, 0])], SHAPE), w.astype(np.float64)


def middle() -> Any:
    return np.random.default_rng(3).uniform(0.4, 0.6, (1, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize(("method", "norm"), DECISION)
def test_the_distance_to_a_plane(method: Any, norm: Any) -> None:
    x = middle()
    model, w = linear(x, 1.0)
    expected = 1.0 / np.linalg.norm(w, DUAL[norm.norm])
    found = nearest(model, x, [0], norm(0), method)
    slack = 1e-3 if isinstance(method, RayS) else 0.05 * expected
    assert expected * (1 - 1e-6) <= found.distance[0] <= expected + slack
    assert found.spent.queries[0] == method.queries
    assert found.spent.forwards[0] == 1
    black_box = LabelsOnly(model)
    same = nearest(black_box, x, [0], norm(0), method)
    assert np.array_equal(same.x_adv, found.x_adv)
    # The clean input, the search, the re-check.
    assert black_box.asked == 1 + method.queries + 1
    # Broken exactly within radii that are no smaller.
    for radius, verdict in [(expected + 1.1 * slack, ae.BROKEN), (0.99 * expected, ae.OPEN)]:
        result = attack(black_box, x, [0], norm(radius), method=method)
        assert ae.VERDICTS[result.verdict[0]] == verdict
        assert result.flags == ()
        if verdict == ae.BROKEN:
            assert result.distance[0] <= norm(radius).eps_lower
            assert result.found_by == (method.name,)
            assert result.spent.queries[0] < method.queries


def test_labels_only_refuses_what_needs_scores() -> None:
    x = middle()
    model = LabelsOnly(linear(x, 1.0)[0])
    for name, threat in [
        ("square", L2(1)),
        ("apgd-ce", L2(1)),
        ("sparse-rs", L0(1)),
        ("fmn", L2(1)),
    ]:
        with pytest.raises(CapabilityError, match="returns labels only; use hop-skip-jump or rays"):
            attack(model, x, [0], threat, method=name)


def test_sparse_rs_reaches_the_optimum() -> None:
    x = middle()
    model, w = linear(x, 100.0)
    flat = x.reshape(-1).astype(np.float64)
    gains = np.sort(np.where(w > 0, w * flat, -w * (1 - flat)))[::-1]
    for count in (1, 6, 23, 24):
        result = attack(model, x, [0], L0(count), method=SparseRS(queries=4000))
        assert (result.x_adv != x).sum() <= count
        np.testing.assert_allclose(result.margin, 100 - gains[:count].sum(), atol=1e-4)
        assert result.spent.queries[0] == 4000
    fewest = 1 + int(np.argmax(np.cumsum(gains) > 1.0))
    model, _ = linear(x, 1.0)
    result = attack(model, x, [0], L0(fewest), method="sparse-rs")
    assert ae.VERDICTS[result.verdict[0]] == ae.BROKEN
    assert result.distance[0] <= fewest
    if fewest > 1:
        result = attack(model, x, [0], L0(fewest - 1), method="sparse-rs")
        assert ae.VERDICTS[result.verdict[0]] == ae.OPEN


@pytest.mark.parametrize(
    ("method", "threat"),
    [
        (HopSkipJump(queries=300, starts=1), L2("0.3")),
        (HopSkipJump(queries=300), Linf("0.1")),
        (RayS(queries=300), Linf("0.1")),
        (SparseRS(queries=300), L0(3)),
    ],
    ids=str,
)
def test_batches_order_and_threads_change_nothing(method: Any, threat: Any) -> None:
    model = random_model(11, SHAPE)
    rng = np.random.default_rng(5)
    x = rng.uniform(0.2, 0.8, (17, *model.input_shape)).astype(np.float32)
    y, ids = model.labels(x), np.arange(17) * 3
    expected = attack(model, x, y, threat, method=method, sample_ids=ids, batch_size=1)
    assert ae.VERDICTS.index(ae.BROKEN) in expected.verdict
    for threads, batch in [(1, 7), (3, 64)]:
        _core.set_threads(threads)
        same = attack(model, x, y, threat, method=method, sample_ids=ids, batch_size=batch)
        assert np.array_equal(same.x_adv, expected.x_adv)
        assert np.array_equal(same.verdict, expected.verdict)
        assert np.array_equal(same.spent.queries, expected.spent.queries)
    if getattr(method, "starts", 0):
        return  # The order of equally near data starts is that of the samples.
    order = rng.permutation(17)
    moved = attack(model, x[order], y[order], threat, method=method, sample_ids=ids[order])
    assert np.array_equal(moved.x_adv, expected.x_adv[order])


def test_data_starts_never_lose() -> None:
    model = random_model(11, SHAPE)
    x = np.random.default_rng(5).uniform(0, 1, (20, *model.input_shape)).astype(np.float32)
    y = model.labels(x)
    assert len(np.unique(y)) > 1
    noise = nearest(model, x, y, L2(0), HopSkipJump(queries=200))
    both = nearest(model, x, y, L2(0), HopSkipJump(queries=200, starts=2))
    assert (both.distance <= noise.distance).all()
    assert (both.restart > 0).any()
    assert (both.spent.queries > noise.spent.queries).all()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: HopSkipJump(queries=0),
        lambda: HopSkipJump(starts=-1),
        lambda: HopSkipJump(first_probes=0),
        lambda: RayS(queries=0),
        lambda: RayS(tolerance=0.0),
        lambda: RayS(tolerance=float("nan")),
        lambda: SparseRS(queries=0),
        lambda: SparseRS(alpha_init=0.0),
        lambda: SparseRS(restarts=0),
    ],
)
def test_refused_parameters(wrong: Any) -> None:
    with pytest.raises(InputError):
        wrong()


@pytest.mark.parametrize(
    ("name", "threat"),
    [("hop-skip-jump", L1(1)), ("rays", L2(1)), ("sparse-rs", Linf("0.1"))],
)
def test_refused_norms(name: str, threat: Any) -> None:
    x = middle()
    with pytest.raises(CapabilityError, match=f"{name} cannot attack .*: it is for"):
        attack(linear(x, 1.0)[0], x, [0], threat, method=name)


@pytest.mark.reference
def test_mnist_adversarially_trained(reference: Path) -> None:
    """At a fifth of the benchmark's budget: nothing nearer than the best known."""
    images = np.load(reference / "images" / "mnist_test.npz")
    x = (images["x"][:24].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    y = images["y"][:24].astype(np.int64)
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    best = np.load(reference / "reference" / "minnorm_mnist_cnn_a_adv_l2_first500.npz")
    known = best["best_known"][:24]
    found = nearest(model, x, y, L2(0), HopSkipJump(queries=1000))
    assert np.isfinite(found.distance).all()
    assert (found.distance > 0.95 * known)[found.distance > 0].all()
    assert np.median(found.distance) < 3.4
    linf = nearest(model, x, y, Linf(0), RayS(queries=1000))
    assert np.median(linf.distance) < 0.36
    sparse = attack(model, x, y, L0(20), method=SparseRS(queries=1000))
    assert (sparse.verdict == ae.VERDICTS.index(ae.BROKEN)).sum() >= 18
