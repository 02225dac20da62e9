"""Evidence on the integer lattice: inside the threat model, exact levels, nothing lost."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aisec_eval as ae
from aisec_eval.attacks import APGD
from aisec_eval.attacks.base import Problem
from aisec_eval.attacks.lattice import settle, spacing_of
from aisec_eval.attacks.replay import distances
from aisec_eval.attacks.target import Target
from aisec_eval.errors import InputError
from aisec_eval.lattice import Lattice
from aisec_eval.threats import L0, L1, L2, Box, Linf, ThreatModel
from helpers.networks import random_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = Path(__file__).resolve().parents[3] / "suites" / "models"
BROKEN = ae.VERDICTS.index(ae.BROKEN)
THREATS = [Linf("2/16"), Linf("0.14"), L2("0.7"), L1("2"), L0(12)]


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    return ae.load_model(MODELS / "digits_adversarial.onnx"), ae.load_dataset("digits", ids=(0, 60))


def attack(digits: Any, threat: ThreatModel, **options: Any) -> Any:
    model, data = digits
    method: Any = "sigma-zero" if threat.norm == "l0" else [APGD(steps=20)]
    return ae.attack(model, *data, threat, method=method, sample_ids=data.ids, **options)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_evidence_lies_on_the_lattice_inside_the_threat_model(
    digits: Any, threat: ThreatModel
) -> None:
    _, data = digits
    plain, result = attack(digits, threat), attack(digits, threat, lattice=data.lattice)
    np.testing.assert_array_equal(result.verdict, plain.verdict)
    kinds = np.array(result.evidence)
    on = kinds == "lattice"
    np.testing.assert_array_equal(kinds != "", result.verdict == BROKEN)
    assert on.sum() > 0.8 * (result.verdict == BROKEN).sum() > 4
    level = np.rint(result.x_adv[on].astype(np.float64) * 16)
    np.testing.assert_array_equal(result.x_adv[on], (level / 16).astype(np.float32))
    away = distances(data.x[on], result.x_adv[on], threat.norm)
    assert (away <= float(threat.eps)).all()
    np.testing.assert_array_equal(away, result.distance[on])
    model = digits[0]
    assert (model.logits(result.x_adv[on]).argmax(1) != data.y[on]).all()
    assert (result.margin[on] < 0).all()
    np.testing.assert_array_equal(result.x_adv[~on], plain.x_adv[~on])
    assert result.frame["evidence"].to_list() == list(result.evidence)


def test_without_a_lattice_evidence_is_float32(digits: Any) -> None:
    result = attack(digits, Linf("0.1"))
    assert set(result.evidence) == {"", "float32"}


@pytest.mark.parametrize("threat", [Linf("0.1"), L2("0.7")], ids=str)
def test_a_sample_alone_gets_the_same_evidence(digits: Any, threat: ThreatModel) -> None:
    model, data = digits
    whole = attack(digits, threat, lattice=data.lattice)
    part = np.array([41, 3, 17, 8])
    method = [APGD(steps=20)]
    some = ae.attack(
        model,
        data.x[part],
        data.y[part],
        threat,
        method=method,
        sample_ids=data.ids[part],
        batch_size=1,
        lattice=data.lattice,
    )
    np.testing.assert_array_equal(some.x_adv, whole.x_adv[part])
    np.testing.assert_array_equal(some.margin, whole.margin[part])
    assert some.evidence == tuple(whole.evidence[i] for i in part)


def test_jax_settles_too(digits: Any) -> None:
    model, data = digits
    result = ae.attack(
        model, data.x[:8], data.y[:8], Linf("0.2"), method=[APGD(steps=20)], backend="jax",
        lattice="1/16",
    )  # fmt: skip
    assert "lattice" in result.evidence


def test_evaluation_keeps_it_in_its_run_folder(digits: Any, tmp_path: Path) -> None:
    model, data = digits
    e = ae.evaluate(
        model, *data, Linf("0.1"), attacks=APGD(steps=20), certify=None, lattice=data.lattice
    )
    assert e.info["lattice"] == "1/16"
    e.save(tmp_path / "run")
    again = ae.load_run(tmp_path / "run").evaluations[0]
    assert again.evidence == e.evidence
    assert "lattice" in e.evidence


def small_model() -> Any:
    return random_model(4, (2,))


@given(
    levels=st.lists(st.integers(0, 8), min_size=2, max_size=2),
    push=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=2),
    kind=st.sampled_from(["linf", "l2", "l1", "box"]),
    eps=st.fractions(Fraction(1, 10), 1, max_denominator=16),
)
def test_on_two_inputs_against_every_lattice_point(
    levels: list[int], push: list[float], kind: str, eps: Fraction
) -> None:
    """What survives is a lattice point that enumeration finds adversarial too."""
    model = small_model()
    x = (np.array([levels], np.float32) / np.float32(8)).astype(np.float32)
    y = model.logits(x).argmax(1).astype(np.int64)
    low, high = np.maximum(x[0] - 0.3, 0.0), np.minimum(x[0] + 0.3, 1.0)
    threat: ThreatModel = {
        "linf": Linf(eps), "l2": L2(eps), "l1": L1(eps), "box": Box(low, high),
    }[kind]  # fmt: skip
    grid = np.array(list(product(range(9), repeat=2)), np.float32) / np.float32(8)
    inside = (
        ((grid >= low) & (grid <= high)).all(axis=1)
        if kind == "box"
        else distances(np.repeat(x, len(grid), 0), grid, kind) <= float(eps)
    )
    adversarial = inside & (model.logits(grid).argmax(1) != y[0])
    start = np.clip(x + np.array([push], np.float32), 0, 1).astype(np.float32)
    problem = Problem(x, y, np.zeros(1, np.int64), threat, 0)
    settled = settle(Target.of(model, "auto"), problem, start, Lattice.of("1/8"))
    found = (grid == settled.x[0]).all(axis=1)
    assert found.sum() == 1
    assert inside[found].all()
    assert settled.survived[0] == adversarial[found][0]


def test_the_largest_level_inside_the_ball_is_reachable() -> None:
    """At 2/255 the float32 numbers two levels apart are sometimes farther apart than 2/255."""
    level = np.arange(254)
    lattice = Lattice.of("1/255")
    x: NDArray[np.float32] = lattice.values(level[None])
    from aisec_eval.attacks.lattice import _Region

    threat = Linf("2/255")
    region = _Region.of(Problem(x, np.zeros(1, np.int64), level[:1], threat, 0), lattice)
    for k in range(254):
        distance = [Fraction(float(lattice.values(np.array([k + d]))[0])) for d in (0, 1, 2)]
        within = [d for d in (1, 2) if k + d <= 255 and distance[d] - distance[0] <= threat.eps]
        assert region.high[0, k] - k == max(within)
    assert set(np.unique(region.high[0] - level)) == {1, 2}


@pytest.mark.parametrize(
    ("lattice", "line"),
    [
        (0, "must be positive"),
        ("-1/255", "must be positive"),
        (Fraction(1, 1 << 24), "ratio of small integers"),
        (0.1, "ratio of small integers"),
        ("one", "not a finite number"),
        ("1/17", "not a multiple of lattice=1/17"),
    ],
)
def test_refusals_are_one_line(digits: Any, lattice: Any, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        attack(digits, Linf("0.1"), lattice=lattice)
    assert "\n" not in str(caught.value)


def test_data_that_float32_cannot_tell_apart_has_no_lattice(tmp_path: Path) -> None:
    x = np.array([[0, 1 << 25], [1, 3]], np.int32)
    np.savez(tmp_path / "wide.npz", x=x, y=np.array([0, 1]))
    data = ae.load_dataset(tmp_path / "wide.npz", scale=1 << 25)
    assert data.lattice == Fraction(1, 1 << 25)
    assert spacing_of(data) is None
    assert spacing_of(ae.load_dataset("digits")) == Fraction(1, 16)


@pytest.mark.reference
def test_on_mnist_almost_all_survive(reference: Path) -> None:
    images = np.load(reference / "images" / "mnist_test.npz")
    x = (images["x"][:200].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    y = images["y"][:200].astype(np.int64)
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    result = ae.attack(model, x, y, Linf("0.3"), method=APGD(steps=50), lattice="1/255")
    broken = int((result.verdict == BROKEN).sum())
    assert result.evidence.count("lattice") >= 0.9 * broken > 30
    delta = np.rint((result.x_adv.astype(np.float64) - x) * 255)
    on = np.array(result.evidence) == "lattice"
    assert np.abs(delta[on]).max() <= 76
