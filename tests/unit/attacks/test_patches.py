"""Patches and frames: what is reachable is found, nothing else is accepted, nothing depends on it.

The search itself is tested in Rust, against closed forms.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.attacks import SparseRS, attack
from aisec_eval.errors import CapabilityError, InputError
from aisec_eval.threats import Frame, Patch, parse
from helpers.networks import LayeredModel, random_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE = (2, 4, 3)


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    threads = _core.get_threads()
    yield
    _core.set_threads(threads)


def linear(gap: float, seed: int = 7) -> tuple[LayeredModel, Any, Any]:
    """Return a model with margin `gap` at a sample, the sample, and what values may take off."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.2, 0.8, (1, *SHAPE)).astype(np.float32)
    w = rng.normal(size=x.size).astype(np.float32)
    bias = gap - float(w.astype(np.float64) @ x.reshape(-1).astype(np.float64))
    gains = np.where(w > 0, w * x.reshape(-1), -w * (1 - x.reshape(-1))).reshape(SHAPE)
    return LayeredModel([(np.stack([w, 0 * w]), [bias, 0])], SHAPE), x, gains


def best_patch(gains: Any, rows: int, columns: int) -> float:
    places = product(range(SHAPE[1] - rows + 1), range(SHAPE[2] - columns + 1))
    return float(max(gains[:, r : r + rows, c : c + columns].sum() for r, c in places))


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (2, 3), (4, 3)])
def test_broken_exactly_where_some_patch_is_enough(size: tuple[int, int]) -> None:
    _, _, gains = linear(0)
    best = best_patch(gains, *size)
    for gap, verdict in [(0.98 * best, ae.BROKEN), (1.02 * best, ae.OPEN)]:
        model, x, _ = linear(gap)
        for backend in ("native", "jax"):
            found = attack(model, x, [0], Patch(*size), method="fast", backend=backend)
            assert ae.VERDICTS[found.verdict[0]] == verdict
            changed = (found.x_adv != x).any(axis=(0, 1))
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            assert np.ptp(rows) < size[0]
            assert np.ptp(columns) < size[1]
        if verdict == ae.BROKEN:
            assert found.found_by == ("sparse-rs",)


def test_a_frame_reaches_the_border_only() -> None:
    model, x, gains = linear(0)
    inner = gains[:, 1:3, 1].sum()
    for gap, verdict in [
        (0.98 * (gains.sum() - inner), ae.BROKEN),
        (1.02 * (gains.sum() - inner), ae.OPEN),
    ]:
        model, x, _ = linear(gap)
        found = attack(model, x, [0], Frame(1), method="sparse-rs")
        assert ae.VERDICTS[found.verdict[0]] == verdict
        assert np.array_equal(found.x_adv[..., 1:3, 1], x[..., 1:3, 1])
    assert ae.VERDICTS[attack(model, x, [0], Frame(2)).verdict[0]] == ae.BROKEN


@settings(max_examples=40)
@given(
    shape=st.sampled_from([(2, 5, 4), (1, 6, 3), (5, 4), (7, 5, 3)]),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    places=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=4),
)
def test_the_checker_measures_the_rectangle(
    shape: tuple[int, ...], size: tuple[int, int], places: list[tuple[int, int]]
) -> None:
    x = np.full((1, *shape), 0.5, np.float32)
    rows, columns = shape[:2] if shape == (7, 5, 3) else shape[-2:]
    x_adv = x.copy()
    for row, column in places:
        at = (row % rows, column % columns)
        x_adv[(0, *at, 1) if shape == (7, 5, 3) else (0, *[0] * (len(shape) - 2), *at)] = 0.75
    axes = [[r % rows for r, _ in places], [c % columns for _, c in places]]
    spans = [np.ptp(axis) + 1 for axis in axes]
    fits = spans[0] <= size[0] and spans[1] <= size[1]
    (reason,) = _core.check_constraint(x, x_adv, constraint=Patch(*size).constraint)
    assert (reason == "") == fits
    if not fits:
        assert f"spans {spans[0]}x{spans[1]} pixels" in reason
    (reason,) = _core.check_constraint(x, x_adv, constraint=Frame(1).constraint)
    inner = any(0 < r % rows < rows - 1 and 0 < c % columns < columns - 1 for r, c in places)
    assert ("not in the frame" in reason) == inner


def test_evidence_outside_the_patch_is_refused() -> None:
    model, x, _ = linear(0.01)
    graph = model.graph
    assert graph is not None
    x_adv = np.where(model.affine[0][0][0].reshape(SHAPE) > 0, 0, 1).astype(np.float32)[None]
    options = {"norm": "box", "eps": 0.0, "lower": 0.0, "upper": 1.0}
    zero = np.zeros(1, np.int64)
    for threat, good in [(Patch(4, 3), True), (Patch(3, 3), False), (Frame(2), True)]:
        ok, _, _, (reason,) = _core.check_adversarial(
            graph, x, x_adv, zero, **options, constraint=threat.constraint
        )
        assert bool(ok[0]) is good
        assert (reason == "") is good


def test_batches_order_and_threads_change_nothing() -> None:
    model = random_model(11, (2, 6, 7))
    x = np.random.default_rng(5).uniform(0.2, 0.8, (17, 2, 6, 7)).astype(np.float32)
    y, ids = model.labels(x), np.arange(17) * 3
    for threat in (Patch(1, 2), Frame(1)):
        method = SparseRS(queries=200)
        expected = attack(model, x, y, threat, method=method, sample_ids=ids, batch_size=1)
        assert ae.VERDICTS.index(ae.BROKEN) in expected.verdict
        assert (ae.VERDICTS.index(ae.OPEN) in expected.verdict) == isinstance(threat, Patch)
        order = np.random.default_rng(1).permutation(17)
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


def test_evidence_on_the_lattice_stays_in_the_patch() -> None:
    model = random_model(3, SHAPE)
    x = (np.random.default_rng(2).integers(0, 256, (12, *SHAPE)) / np.float32(255)).astype("f4")
    y = model.labels(x)
    found = attack(model, x, y, Patch(2, 2), lattice="1/255")
    broken = found.verdict == ae.VERDICTS.index(ae.BROKEN)
    assert broken.any()
    reasons = _core.check_constraint(x, found.x_adv, constraint=Patch(2, 2).constraint)
    assert not any(reasons)
    assert {found.evidence[i] for i in np.flatnonzero(broken)} == {"lattice"}


def test_evaluate_attacks_and_says_what_certifiers_do_not_cover() -> None:
    model, x, _ = linear(0.01)
    evaluation = ae.evaluate(model, x, [0], Patch(1))
    assert evaluation.threat == "Patch 1x1"
    assert parse(evaluation.info["threat"]) == Patch(1)
    assert any("certifiers do not cover patch" in line for line in evaluation.flags)
    with pytest.raises(CapabilityError, match="certifiers do not cover patch threat models"):
        ae.certify(model, x, [0], Patch(1))


def test_refusals() -> None:
    model, x, _ = linear(1.0)
    for threat, message in [
        (Patch(5, 1), "a patch of 5x1 pixels does not fit an image of 4x3"),
        (Patch(1, 4), "does not fit"),
    ]:
        with pytest.raises(InputError, match=message):
            attack(model, x, [0], threat)
    flat = LayeredModel(model.affine, (24,))
    for threat in (Patch(1), Frame(1)):
        with pytest.raises(InputError, match="is for images"):
            attack(flat, x.reshape(1, 24), [0], threat)
    for method in ("apgd-ce", "fab", "fmn", "hop-skip-jump", "square", "evolution"):
        with pytest.raises(CapabilityError, match="not patch"):
            attack(model, x, [0], Patch(1), method=method)
    with pytest.raises(CapabilityError, match="not linf"):
        attack(model, x, [0], ae.Linf("0.1"), method="sparse-rs")
    for wrong in (0, -1, 1.5, True, "3"):
        with pytest.raises(InputError, match="whole number of pixels"):
            Patch(wrong)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="whole number of pixels"):
            Frame(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bounds"):
        Patch(1, bounds=(1, 0))
    for bad in ({"norm": "patch", "height": 1}, {"norm": "frame", "width": "x", "bounds": [0, 1]}):
        with pytest.raises(InputError):
            parse(bad)
    with pytest.raises(ValueError, match="goes with norm"):
        _core.search(
            model.graph,
            x,
            np.zeros(1, np.int64),
            np.zeros(1, np.int64),
            attack="sparse-rs",
            options="{}",
            norm="linf",
            eps=0.1,
            lower=0.0,
            upper=1.0,
            seed=0,
            restart=0,
            batch=1,
            constraint=Patch(1).constraint,
        )


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "factor"), [("mnist_conv_small_nat", 1.25), ("cifar_cnn_a_adv", 1.4)]
)
def test_search_beats_random_patches(name: str, factor: float, reference: Path) -> None:
    """Sparse-RS against as many patches drawn at random, on real models."""
    if name.startswith("mnist"):
        images = np.load(reference / "images" / "mnist_test.npz")
        pictures = images["x"][:40, None]
    else:
        images = np.load(reference / "images" / "cifar10_sdp200.npz")
        pictures = images["x"][:40].transpose(0, 3, 1, 2)
    x = np.ascontiguousarray(pictures.astype(np.float32) / 255)
    y = images["y"][:40].astype(np.int64)
    model = ae.load_model(reference / "models" / f"{name}.onnx")
    found = attack(model, x, y, Patch(5), method=SparseRS(queries=1000))
    searched = found.verdict == ae.VERDICTS.index(ae.BROKEN)
    clean = model.labels(x) == y
    rng, drawn = np.random.default_rng(0), ~clean
    for _ in range(1000):
        rows = np.flatnonzero(~drawn)
        points = x[rows]
        for point in points:
            r, c = rng.integers(0, [s - 4 for s in x.shape[2:]])
            point[:, r : r + 5, c : c + 5] = rng.integers(0, 2, (x.shape[1], 5, 5))
        drawn[rows] = model.labels(points) != y[rows]
    assert searched.sum() >= factor * (drawn & clean).sum()
