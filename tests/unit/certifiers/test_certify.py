"""certify(): verdicts, margins, certificates, and what it refuses."""

from __future__ import annotations

import pickle
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.certifiers import CROWN, IBP, METHODS, AlphaCROWN, Regions
from aisec_eval.certifiers.certify import margin_spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .conftest import GraphModel

    Data = tuple[NDArray[np.float32], NDArray[np.int64]]

THREATS = [ae.Linf("1/100"), ae.L2("1/20"), ae.L1("1/10"), ae.Linf(0), ae.L2(0)]


def perturbed(x: NDArray[np.float32], threat: ae.ThreatModel) -> NDArray[np.float64]:
    """Random float64 points of the threat model around each sample, some at its corners."""
    random = np.random.default_rng(7)
    steps = random.normal(size=(40, *x.shape))
    steps[::2] = np.sign(steps[::2])
    flat = steps.reshape(40, len(x), -1)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[threat.norm]
    lengths = np.linalg.norm(flat, ord=order, axis=2)[:, :, None, None, None]
    points = x.astype(np.float64) + steps / lengths * threat.eps_lower * (1 - 1e-12)
    return np.clip(points, *threat.bounds)


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("method", list(METHODS))
def test_no_perturbation_is_below_the_margin(
    small_model: GraphModel, small_samples: Data, threat: ae.ThreatModel, method: str
) -> None:
    x, y = small_samples
    result = ae.certify(small_model, x, y, threat, method=method)
    points = perturbed(x, threat).reshape(-1, *x.shape[1:])
    logits = small_model.graph.forward64(points).reshape(40, len(x), -1)
    spec = margin_spec(y, small_model.num_classes)
    margins = np.einsum("nmk,snk->snm", spec, logits)
    assert (margins.min(axis=0) >= result.margins_lower - 1e-13).all()
    assert (result.margins_lower.min(axis=1) == result.margin_lower).all()
    assert (result.certified == (result.margin_lower > 0)).all()
    if threat.eps == 0:
        assert result.certified.all()
        np.testing.assert_allclose(result.margins_lower, margins[0], atol=1e-9)


def test_crown_proves_more_than_ibp_and_smaller_radii_more(
    small_model: GraphModel, small_samples: Data
) -> None:
    x, y = small_samples
    ibp = ae.certify(small_model, x, y, ae.Linf(0.01), method="ibp")
    crown = ae.certify(small_model, x, y, ae.Linf(0.01))
    closer = ae.certify(small_model, x, y, ae.Linf(0.005))
    assert (crown.margins_lower >= ibp.margins_lower).all()
    assert (closer.margins_lower > crown.margins_lower).all()
    assert crown.certified.sum() > 0
    assert crown.certified_accuracy == crown.certified.mean()


def test_optimised_slopes_prove_more_than_crown(
    small_model: GraphModel, small_samples: Data
) -> None:
    x, y = small_samples
    for threat in (ae.Linf(0.02), ae.L2("1/10"), ae.L1("1/2")):
        crown = ae.certify(small_model, x, y, threat, method="crown")
        tuned = ae.certify(small_model, x, y, threat, method=AlphaCROWN(stop=False))
        quick = ae.certify(small_model, x, y, threat, method="alpha-crown")
        judged = np.isfinite(crown.margin_lower)
        assert (tuned.margins_lower >= crown.margins_lower).all()
        assert (tuned.margins_lower > crown.margins_lower)[judged].mean() > 0.5
        # A row that is above zero is left alone; the others get as far.
        assert (quick.certified == tuned.certified).all()
        proven = crown.margins_lower > 0
        assert (quick.margins_lower == crown.margins_lower)[proven].all()


def test_each_sample_may_have_its_own_radius(small_model: GraphModel, small_samples: Data) -> None:
    x, y = small_samples
    threat = ae.L2("1/20")
    regions = Regions.around(x, threat)
    radii = np.linspace(0.0, threat.eps_upper, len(x))
    spec = margin_spec(y, small_model.num_classes)
    for certifier in METHODS.values():
        mixed = replace(regions, radius=radii)
        bounds = certifier.lower_bounds(small_model.graph, mixed, spec)
        for i in (0, len(x) // 2, len(x) - 1):
            alone = Regions(
                regions.lower[i : i + 1],
                regions.upper[i : i + 1],
                x[i : i + 1].astype(np.float64),
                float(radii[i]),
                "l2",
            )
            one = certifier.lower_bounds(small_model.graph, alone, spec[i : i + 1])
            np.testing.assert_array_equal(one[0], bounds[i])


@pytest.mark.parametrize("method", ["crown", "alpha-crown"])
@pytest.mark.parametrize("kind", [ae.Linf, ae.L2, ae.L1])
def test_a_threat_model_for_each_sample(
    small_model: GraphModel, small_samples: Data, kind: type[ae.ThreatModel], method: str
) -> None:
    x, y = small_samples
    threats = [kind(Fraction(row, 300)) for row in range(len(x))]
    mixed = ae.certify(small_model, x, y, threats, method=method, sample_ids=np.arange(12) + 5)
    for row in (0, 3, 11):
        alone = ae.certify(small_model, x[[row]], y[[row]], threats[row], method=method)
        np.testing.assert_array_equal(mixed.margins_lower[row], alone.margins_lower[0])
        assert mixed.certified[row] == alone.certified[0]
        said, own = mixed.certificate[row], alone.certificate[0]
        assert (said and dict(said)) == (own and dict(own))
    assert {mixed.certificate[row]["region"]["eps"] for row in (0, 1)} == {"0", "1/300"}


def test_a_box_for_each_sample(small_model: GraphModel, small_samples: Data) -> None:
    x, y = small_samples
    boxes = [ae.Box(one - 0.01, one + 0.02) for one in x.astype(np.float64)]
    mixed = ae.certify(small_model, x, y, boxes)
    alone = ae.certify(small_model, x[3:4], y[3:4], boxes[3])
    np.testing.assert_array_equal(mixed.margins_lower[3], alone.margins_lower[0])


@pytest.mark.parametrize(
    ("threats", "message"),
    [
        ([], "one kind"),
        ([ae.Linf(0.1)] * 11, "11 threat models for 12 samples"),
        ([ae.Linf(0.1)] * 11 + [ae.L2(0.1)], r"\['L2', 'Linf'\]"),
        ([ae.Linf(0.1)] * 11 + [ae.Linf(0.1, bounds=(2, 3))], "outside"),
    ],
)
def test_threat_models_that_do_not_fit_are_refused(
    small_model: GraphModel, small_samples: Data, threats: list[ae.ThreatModel], message: str
) -> None:
    with pytest.raises(ae.InputError, match=message):
        ae.certify(small_model, *small_samples, threats)


@pytest.mark.parametrize(
    "options", [{"iterations": 0}, {"rate": 0.0}, {"rate": float("nan")}, {"decay": 1.5}]
)
def test_alpha_crown_refuses_what_makes_no_step(options: dict[str, Any]) -> None:
    with pytest.raises(ae.InputError, match=next(iter(options))):
        AlphaCROWN(**options)


def test_a_ball_is_bounded_better_than_its_box(
    small_model: GraphModel, small_samples: Data
) -> None:
    x, y = small_samples
    for method in METHODS:
        l2 = ae.certify(small_model, x, y, ae.L2("1/20"), method=method)
        l1 = ae.certify(small_model, x, y, ae.L1("1/20"), method=method)
        boxed = ae.certify(small_model, x, y, ae.Linf("1/20"), method=method)
        assert np.isfinite(boxed.margins_lower).all()
        assert (l2.margins_lower > boxed.margins_lower).all()
        assert (l1.margins_lower > boxed.margins_lower).all()


def test_a_box_threat_is_the_same_for_all(small_model: GraphModel, small_samples: Data) -> None:
    x, y = small_samples
    low = np.clip(x[0].astype(np.float64) - 0.01, 0, 1)
    high = np.clip(x[0].astype(np.float64) + 0.01, 0, 1)
    result = ae.certify(small_model, x[:1], y[:1], ae.Box(low, high))
    same = ae.certify(small_model, x[:1], y[:1], ae.Linf(0.01))
    np.testing.assert_allclose(result.margins_lower, same.margins_lower, rtol=1e-9)
    assert result.certificate[0] is None or result.certificate[0]["region"]["norm"] == "box"


def test_misclassified_samples_are_not_certified(
    small_model: GraphModel, small_samples: Data
) -> None:
    x, y = small_samples
    result = ae.certify(small_model, x, (y + 1) % 4, ae.Linf(0))
    assert not result.certified.any()
    assert set(result.reason) == {"misclassified"}
    assert (result.margin_lower == -np.inf).all()
    assert result.certificate == (None,) * len(x)


def test_certificates_say_what_was_proven(small_model: GraphModel, small_samples: Data) -> None:
    x, y = small_samples
    result = ae.certify(small_model, x, y, ae.Linf("1/255"), sample_ids=np.arange(100, 112))
    assert result.sample.tolist() == list(range(100, 112))
    for proven, certificate, bounds in zip(
        result.certified, result.certificate, result.margins_lower, strict=True
    ):
        assert (certificate is not None) == proven
        if certificate is not None:
            assert certificate["graph"] == small_model.graph.digest
            assert Fraction(certificate["region"]["eps"]) == Fraction(1, 255)
            assert [float.fromhex(b) for b in certificate["margins_lower"]] == bounds.tolist()
    assert all(
        (reason == "") == ok for reason, ok in zip(result.reason, result.certified, strict=True)
    )
    assert pickle.loads(pickle.dumps(result)).certificate == result.certificate


@pytest.mark.parametrize("method", list(METHODS))
def test_bounds_do_not_depend_on_batch_memory_or_threads(
    small_model: GraphModel, small_samples: Data, method: str
) -> None:
    x, y = small_samples
    whole = ae.certify(small_model, x, y, ae.L2(0.05), method=method).margins_lower
    threads = _core.get_threads()
    try:
        for limit, count in [(1, 1), (100_000, 2), (None, 3)]:
            _core.set_threads(count)
            again = ae.certify(small_model, x, y, ae.L2(0.05), method=method, memory_limit=limit)
            np.testing.assert_array_equal(again.margins_lower, whole)
    finally:
        _core.set_threads(threads)
    for i in range(len(x)):
        alone = ae.certify(small_model, x[i : i + 1], y[i : i + 1], ae.L2(0.05), method=method)
        np.testing.assert_array_equal(alone.margins_lower[0], whole[i])


def test_specification_is_label_minus_each_other_class() -> None:
    spec = margin_spec(np.array([0, 2, 1]), 3)
    assert spec.tolist() == [
        [[1, -1, 0], [1, 0, -1]],
        [[-1, 0, 1], [0, -1, 1]],
        [[-1, 1, 0], [0, 1, -1]],
    ]


def test_progress_counts_samples(small_model: GraphModel, small_samples: Data) -> None:
    calls: list[tuple[int, int, str]] = []
    ae.certify(
        small_model,
        *small_samples,
        ae.Linf(0.01),
        memory_limit=1,
        progress=lambda *c: calls.append(c),
    )
    assert calls == [(i + 1, 12, "crown") for i in range(12)]


def test_a_certifier_can_be_passed(small_model: GraphModel, small_samples: Data) -> None:
    x, y = small_samples
    for certifier in (IBP(), CROWN()):
        result = ae.certify(small_model, x, y, ae.Linf(0.01), method=certifier)
        named = ae.certify(small_model, x, y, ae.Linf(0.01), method=certifier.name)
        np.testing.assert_array_equal(result.margins_lower, named.margins_lower)
        assert result.method == certifier.name


def test_regions_are_rounded_outward() -> None:
    x = np.full((1, 2), 0.1, dtype=np.float32)
    regions = Regions.around(x, ae.Linf("1/3"))
    assert Fraction(regions.radius) >= Fraction(1, 3)
    assert Fraction(np.nextafter(regions.radius, 0.0)) < Fraction(1, 3)
    assert regions.center is not None
    assert regions.center.dtype == np.float64
    assert (regions.center == x).all()


def test_a_model_without_a_graph_names_the_operator(
    uncertifiable: GraphModel, small_samples: Data
) -> None:
    with pytest.raises(
        ae.CapabilityError, match=r'not certifiable: operator Softmax \(node "probs"\)'
    ):
        ae.certify(uncertifiable, *small_samples, ae.Linf(0.1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, r"method='magic' is not known; there are ibp, crown"),
        ({"method": 3}, r"method=3 is neither a name nor a certifier"),
        ({"memory_limit": 0}, r"memory_limit=0 must be an integer of at least 1"),
        ({"x": np.zeros((12, 8, 8), np.float32)}, r"x has shape \[12, 8, 8\]"),
        ({"x": np.full((12, 1, 8, 8), np.nan, np.float32)}, r"x\[0\] is nan"),
        ({"x": np.full((12, 1, 8, 8), 2, np.float32)}, r"outside \[0.0, 1.0\]"),
        ({"y": np.full(12, 4)}, r"y\[0\] is 4, the model has classes 0..3"),
        ({"y": np.zeros(3, np.int64)}, r"y has shape \[3\]"),
        ({"sample_ids": np.zeros(12, np.int64)}, r"more than once"),
        ({"threat": ae.Box([0.0], [1.0])}, r"the box has shape \[1\]"),
    ],
)
def test_refusals_are_one_line(
    small_model: GraphModel, small_samples: Data, change: dict[str, Any], message: str
) -> None:
    x, y = small_samples
    given = {"x": x, "y": y, "threat": ae.Linf(0.1)} | change
    with pytest.raises(ae.InputError, match=message) as caught:
        ae.certify(small_model, given.pop("x"), given.pop("y"), given.pop("threat"), **given)
    assert "\n" not in str(caught.value)


def margin_call(graph: _core.Graph, **change: Any) -> NDArray[np.float64]:
    box = np.zeros((1, 1, 8, 8))
    given = {"spec": np.eye(4)[None], "method": "ibp"} | change
    lower, upper = given.pop("lower", box), given.pop("upper", box + 1)
    return _core.margin_bounds(graph, lower, upper, **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "x"}, r'method "x" is not one of "ibp", "crown-ibp", "crown", "alpha-crown"'),
        ({"norm": "l7"}, r'norm "l7" is not one of'),
        ({"lower": np.ones((1, 1, 8, 8)) * 2}, r"sample 0: lower exceeds upper"),
        ({"lower": np.full((1, 1, 8, 8), np.nan)}, r"sample 0: lower exceeds upper \(or is not"),
        ({"upper": np.zeros((2, 1, 8, 8))}, r"upper: expected"),
        ({"spec": np.zeros((1, 2, 3))}, r"spec: expected"),
        ({"center": np.zeros((1, 1, 8, 8)), "radius": -1.0}, r"radius must be finite"),
        ({"center": np.full((1, 1, 8, 8), 9.0), "radius": 1.0}, r"the ball does not meet the box"),
        ({"center": np.full((1, 1, 8, 8), np.inf), "radius": 1.0}, r"center is not finite"),
    ],
)
def test_native_refusals_are_one_line(
    small_graph: _core.Graph, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        margin_call(small_graph, **change)
    assert "\n" not in str(caught.value)


def test_empty_batches_and_specifications(small_graph: _core.Graph) -> None:
    none = np.zeros((0, 1, 8, 8))
    assert margin_call(small_graph, lower=none, upper=none, spec=np.zeros((0, 3, 4))).shape == (
        0,
        3,
    )
    for method in METHODS.keys() - {"complete"}:  # bounds a sample at a time, in its own call
        empty = margin_call(small_graph, spec=np.zeros((1, 0, 4)), method=method)
        assert empty.shape == (1, 0)


def test_l0_is_refused() -> None:
    model, x = ae.load_model(lambda x: x, input_shape=(2,)), np.zeros((1, 2), np.float32)
    with pytest.raises(ae.CapabilityError, match="do not cover L0") as caught:
        ae.certify(model, x, [0], ae.L0(1))
    assert "\n" not in str(caught.value)
