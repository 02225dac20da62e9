"""Rotations and translations: the kernel against scipy, the attacks against brute force."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

import aisec_eval as ae
from aisec_eval._core import warp
from aisec_eval.attacks import APGD, SpatialGrid, WorstOfK
from aisec_eval.attacks.replay import refuse_transform
from aisec_eval.attacks.spatial import _spaced
from aisec_eval.attacks.spatial_check import TOLERANCE, read, recompute, spell
from aisec_eval.errors import CapabilityError, InputError


def moved(x: Any, rotation: float, right: float, down: float, fill: float = 0.0) -> Any:
    n = len(x)
    shift = np.tile(np.array([right, down], np.float64), (n, 1))
    return warp(x, np.full(n, rotation, np.float64), shift, fill)


@pytest.fixture(scope="module")
def digits() -> Any:
    x, y = ae.load_dataset("digits", split="test", ids=(0, 40))
    return ae.load_model("suites/models/digits_normal.onnx"), x, y


def test_nothing_moves_nothing_and_quarter_turns_are_exact() -> None:
    x = np.random.default_rng(0).random((3, 2, 9, 9), dtype=np.float32)
    np.testing.assert_array_equal(moved(x, 0, 0, 0), x)
    for turns in (-2, -1, 1, 2, 3, 5):
        np.testing.assert_array_equal(moved(x, 90.0 * turns, 0, 0), np.rot90(x, turns, (2, 3)))
    right_down = np.pad(x, ((0, 0), (0, 0), (3, 0), (2, 0)))[:, :, :9, :9]
    np.testing.assert_array_equal(moved(x, 0, 2, 3), right_down)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-180, 180),
    st.floats(-6, 6),
    st.floats(-6, 6),
    st.floats(0, 1),
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.integers(0, 99),
)
def test_warp_is_scipys_and_the_recheck_agrees(
    rotation: float, right: float, down: float, fill: float, shape: Any, seed: int
) -> None:
    x = np.random.default_rng(seed).random((1, *shape), dtype=np.float32)
    got = moved(x, rotation, right, down, fill)
    assert got.min() >= min(x.min(), np.float32(fill))
    assert got.max() <= max(x.max(), np.float32(fill))
    angle = np.deg2rad(rotation)
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = (np.array(shape[1:]) - 1) / 2
    for plane, expected in zip(x[0].astype(float), got[0], strict=True):
        offset = middle - back @ (middle + np.array([down, right]))
        by_scipy = affine_transform(
            plane, back, offset, order=1, mode="grid-constant", cval=np.float64(np.float32(fill))
        )
        np.testing.assert_allclose(expected, by_scipy, atol=TOLERANCE)
    again = recompute(x[0].astype(np.float64), rotation, right, down, np.float64(np.float32(fill)))
    np.testing.assert_allclose(got[0], again, atol=TOLERANCE)


def test_kernel_refuses_what_it_cannot_do() -> None:
    x = np.zeros((2, 1, 4, 4), np.float32)
    for arguments, message in (
        ((x[0], np.zeros(2), np.zeros((2, 2)), 0.0), "channels, height, width"),
        ((x, np.zeros(3), np.zeros((2, 2)), 0.0), r"\[2\] and \[2, 2\]"),
        ((x, np.array([0, np.nan]), np.zeros((2, 2)), 0.0), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            warp(*arguments)


def test_grid_is_brute_force(digits: Any) -> None:
    model, x, y = digits
    threat, attack = ae.Spatial(20, 1), SpatialGrid(rotations=5, translations=3)
    found = ae.attack(model, x, y, threat, method=attack)
    lowest = np.full(len(x), np.inf)
    grid = list(product(np.linspace(-20, 20, 5), np.linspace(-1, 1, 3), np.linspace(-1, 1, 3)))
    for rotation, right, down in grid:
        logits = model.logits(moved(x, rotation, right, down)).astype(float)
        own = logits[np.arange(len(y)), y].copy()
        logits[np.arange(len(y)), y] = -np.inf
        lowest = np.minimum(lowest, own - logits.max(axis=1))
    clean = model.labels(x) == y
    np.testing.assert_array_equal(
        found.verdict == ae.VERDICTS.index("broken"), clean & (lowest < 0)
    )
    assert 0 < found.robust_accuracy < found.clean_accuracy
    open_ = found.verdict == ae.VERDICTS.index("open")
    np.testing.assert_allclose(found.margin[open_], lowest[open_], atol=1e-5)
    assert (found.spent.queries[open_] == len(grid)).all()


def test_evidence_holds_and_anything_else_is_refused(digits: Any) -> None:
    model, x, y = digits
    threat = ae.Spatial("30", 1)
    found = ae.attack(model, x, y, threat, seed=3)
    broken = np.flatnonzero(found.verdict == ae.VERDICTS.index("broken"))
    assert len(broken) > 10
    assert set(found.found_by) <= {"worst-of-k", "spatial-grid", ""}
    for row in broken:
        text = found.transform[row]
        about = {"seed": 3, "sample": int(row)}
        assert refuse_transform(threat, x[row], found.x_adv[row], text, **about) == ""
        parameters = read(text)
        assert parameters is not None
        assert spell(np.array(parameters)) == text
        shifted = found.x_adv[row] + np.float32(2e-6)
        assert refuse_transform(threat, x[row], shifted, text, **about) == (
            "not the transformed image"
        )
    row = broken[0]
    for text, why in (
        ("", "no parameters"),
        ("rotation=nan right=0.0 down=0.0", "no parameters"),
        ("rotation=1e999 right=0.0 down=0.0", "no parameters"),
        ("rotation=30.000000000000004 right=0.0 down=0.0", "outside the limits"),
        ("rotation=0.0 right=0.0 down=-1.0000000000000002", "outside the limits"),
        ("rotation=0.0 right=0.0 down=0.0", "not the transformed"),
    ):
        assert why in refuse_transform(threat, x[row], found.x_adv[row], text, seed=3, sample=0)


def test_results_do_not_depend_on_batches_or_order(digits: Any) -> None:
    model, x, y = digits
    threat = ae.Spatial(15, 1)
    whole = ae.attack(model, x, y, threat, seed=5)
    small = ae.attack(model, x, y, threat, seed=5, batch_size=3)
    order = np.random.default_rng(1).permutation(len(x))
    mixed = ae.attack(model, x[order], y[order], threat, seed=5, sample_ids=order)
    for other, rows in ((small, np.arange(len(x))), (mixed, np.argsort(order))):
        np.testing.assert_array_equal(whole.x_adv, other.x_adv[rows])
        np.testing.assert_array_equal(whole.spent.queries, other.spent.queries[rows])
        assert whole.transform == tuple(other.transform[row] for row in rows)
    assert whole.transform != ae.attack(model, x, y, threat, seed=6).transform


def test_any_layout_and_any_model_of_images() -> None:
    weight = np.random.default_rng(0).normal(size=(75, 3)).astype(np.float32)
    x = np.random.default_rng(1).random((4, 3, 5, 5), dtype=np.float32)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    first = ae.load_model(lambda x: x.reshape(len(x), -1) @ weight, input_shape=(3, 5, 5))
    other = ae.load_model(
        lambda x: x.transpose(0, 3, 1, 2).reshape(len(x), -1) @ weight, input_shape=(5, 5, 3)
    )
    y = first.labels(x)
    a = ae.attack(first, x, y, ae.Spatial(40, 2))
    b = ae.attack(other, last, y, ae.Spatial(40, 2))
    assert a.transform == b.transform
    assert (a.verdict == ae.VERDICTS.index("broken")).any()
    np.testing.assert_array_equal(a.x_adv.transpose(0, 2, 3, 1), b.x_adv)
    flat = ae.load_model(lambda x: x @ weight, input_shape=(75,))
    with pytest.raises(CapabilityError, match=r"inputs of shape \[75\] are no images"):
        ae.attack(flat, x.reshape(4, 75), y, ae.Spatial())


def test_what_does_not_fit_is_one_line(digits: Any) -> None:
    model, x, y = digits
    with pytest.raises(CapabilityError, match="certifiers do not cover spatial"):
        ae.certify(model, x, y, ae.Spatial())
    with pytest.raises(InputError, match="AutoAttack's and for norm balls"):
        ae.attack(model, x, y, ae.Spatial(), method="standard")
    with pytest.raises(CapabilityError, match="apgd-ce cannot attack"):
        ae.attack(model, x, y, ae.Spatial(), method=APGD())
    with pytest.raises(CapabilityError, match="it is for rotations and translations, not linf"):
        ae.attack(model, x, y, ae.Linf(0.1), method=WorstOfK())
    for wrong in ({"max_rotation": 181}, {"max_translation": -1}, {"fill": 2}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ae.Spatial(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="k=0"):
        WorstOfK(k=0)


def test_evaluations_keep_what_moved_each_sample(digits: Any, tmp_path: Any) -> None:
    model, x, y = digits
    e = ae.evaluate(model, x, y, ae.Spatial(30, "1/2"), lattice="1/16")
    assert "not certified: certifiers do not cover spatial; attacked only" in e.flags
    assert e.info["threat"]["max_translation"] == "1/2"
    assert "transform" in e.frame.columns
    assert e.bracket.certified == 0
    again = ae.load_run(e.save(tmp_path / "run")).evaluations[0]
    assert again.transform == e.transform
    assert again.frame.equals(e.frame)
    assert "transform" not in ae.evaluate(model, x[:4], y[:4], ae.Linf(0.01)).frame.columns


@pytest.mark.parametrize("limit", ["1/3", 0.1, 30, 0])
@pytest.mark.parametrize("count", [1, 2, 5, 31])
def test_grids_stay_within_exact_limits(limit: Any, count: int) -> None:
    exact = Fraction(limit)
    values = _spaced(exact, count)
    assert all(abs(Fraction(value)) <= exact for value in values)
    np.testing.assert_allclose(values, np.linspace(-1, 1, count) * float(exact) * (count > 1))
