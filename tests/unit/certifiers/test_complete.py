"""certify(method="complete"): decides what bounds alone leave open, and nothing wrongly."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.certifiers import Complete
from aisec_eval.certifiers.certificate import Certificate, case_of, check_certificate
from aisec_eval.certifiers.complete import decide
from aisec_eval.certifiers.property import Case, Clause
from helpers.networks import LayeredModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .conftest import GraphModel


def network(seed: int, sizes: tuple[int, ...] = (6, 24, 24, 3)) -> LayeredModel:
    random = np.random.default_rng(seed)
    layers = [
        (1.5 * random.normal(size=(n, m)) / np.sqrt(m), random.normal(size=n) / 2)
        for m, n in itertools.pairwise(sizes)
    ]
    return LayeredModel(layers, (sizes[0],))


def samples(model: LayeredModel) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    x = np.random.default_rng(5).uniform(0.2, 0.8, (12, *model.input_shape)).astype(np.float32)
    return x, model.logits(x).argmax(axis=1).astype(np.int64)


def corners(x: NDArray[np.float32], eps: float) -> NDArray[np.float64]:
    """Every corner of the box around a sample, and points between."""
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * len(x))).reshape(len(x), -1).T
    inner = np.random.default_rng(0).uniform(-1, 1, (2000, len(x)))
    return np.asarray(np.clip(x + eps * np.concatenate([signs, inner]), 0, 1))


@pytest.mark.parametrize("threat", [ae.Linf("1/5"), ae.L2("1/4"), ae.L1("1/2")], ids=str)
def test_it_certifies_more_and_only_what_holds(threat: ae.ThreatModel) -> None:
    model = network(4)
    x, y = samples(model)
    tuned = ae.certify(model, x, y, threat, method="alpha-crown")
    complete = ae.certify(model, x, y, threat, method=Complete(timeout=20))
    assert (complete.certified >= tuned.certified).all()
    assert complete.certified.sum() > tuned.certified.sum() or threat.norm != "linf"
    assert (complete.margins_lower >= tuned.margins_lower).all()
    broken = ae.attack(model, x, y, threat, method="fast").verdict == 1
    assert not (broken & complete.certified).any()
    if threat.norm == "linf":
        for point, label, margins in zip(x, y, complete.margins_lower, strict=True):
            logits = model.graph.forward64(corners(point, threat.eps_lower))
            others = np.delete(logits, label, axis=1)
            assert ((logits[:, [label]] - others).min(axis=0) >= margins - 1e-12).all()
        # A box is decided either way: nothing stays open.
        assert (broken | complete.certified).all()
        reasons = [
            why for why, sure in zip(complete.reason, complete.certified, strict=True) if not sure
        ]
        assert set(reasons) <= {"counterexample"}


def test_time_that_is_up_leaves_the_bound_of_optimised_slopes(
    small_model: GraphModel, small_samples: Any
) -> None:
    x, y = small_samples
    result = ae.certify(small_model, x, y, ae.Linf("1/2"), method=Complete(timeout=1e-6))
    tuned = ae.certify(small_model, x, y, ae.Linf("1/2"), method="alpha-crown")
    np.testing.assert_array_equal(result.margins_lower, tuned.margins_lower)
    # What the attack breaks needs no time.
    assert "timeout" in result.reason
    assert set(result.reason) <= {"", "timeout", "counterexample"}


def test_what_an_attack_breaks_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(4)
    x, y = samples(model)
    threats = [ae.Linf("1/5")] * 6 + [ae.Linf("1/4")] * 6
    split = []

    def watched(graph: Any, case: Case, **options: Any) -> Any:
        split.append(case.lower)
        return decide(graph, case, **options)

    monkeypatch.setattr("aisec_eval.certifiers.complete.decide", watched)
    done: list[int] = []
    result = ae.certify(
        model, x, y, threats, method="complete", progress=lambda at, *_: done.append(at)
    )
    falls = [
        ae.attack(model, x[[i]], y[[i]], threat, method="fast").verdict[0] == 1
        for i, threat in enumerate(threats)
    ]
    falsified = np.array(result.reason) == "counterexample"
    assert 0 < falsified.sum() < len(x)
    np.testing.assert_array_equal(falsified, falls)
    tuned = ae.certify(model, x, y, threats, method="alpha-crown").certified
    assert len(split) == (~falsified & ~tuned).sum() > 0
    assert done == sorted(done)
    assert done[-1] == len(x)


def test_memory_and_threads_change_no_verdict() -> None:
    model = network(4)
    x, y = samples(model)
    whole = ae.certify(model, x, y, ae.Linf("1/5"), method="complete")
    threads = _core.get_threads()
    try:
        _core.set_threads(1)
        again = ae.certify(model, x, y, ae.Linf("1/5"), method="complete", memory_limit=4 << 20)
    finally:
        _core.set_threads(threads)
    assert (whole.certified == again.certified).all()
    assert 0 < whole.certified.sum() < len(x)


def test_a_queue_that_does_not_fit_ends_the_search() -> None:
    model = network(2, (20, 60, 60, 2))
    case = one_clause(model, [1.0, -1.0], -3.0, radius=1.0)
    found = decide(model.graph, case, timeout=30, memory_limit=2_000)
    assert (found.answer, found.proof) == ("memory", None)
    assert found.bound < 0


def one_clause(model: LayeredModel, row: list[float], rhs: float, radius: float) -> Case:
    size = model.input_shape[0]
    low, high = np.full(size, -radius), np.full(size, radius)
    ends = np.array([rhs])
    return Case(low, high, low, high, (Clause(np.array([row]), ends, ends),))


@pytest.mark.parametrize("big", [2.0**24, 2.0**40, 2.0**53, 2.0**90])
def test_what_float32_does_not_see_is_never_refuted(big: float) -> None:
    """`(big·x + 1) - big·x`: nothing is left of the one in float32."""
    size = 24
    first = np.zeros((2, size))
    first[:, 0] = big
    layers = [(first, np.array([1.0, 0.0])), (np.array([[-1.0, 1.0], [0.0, 0.0]]), np.zeros(2))]
    model = LayeredModel(layers, (size,))
    low, high = np.full(size, 0.5), np.full(size, 1.0)
    # y0 = -1 exactly, but -big·x + big·x - 1 in any float arithmetic that loses the one.
    for rhs, met in ((-0.999, True), (-1.0, True), (-1.001, False)):
        ends = np.array([rhs])
        case = Case(low, high, low, high, (Clause(np.array([[1.0, 0.0]]), ends, ends),))
        answer = decide(model.graph, case, timeout=5, most_domains=100).answer
        if met:
            assert answer != "refuted"
        elif big == 2.0**24:  # further up even float64 cannot tell
            assert answer == "refuted"


def deep_case(model: LayeredModel, eps: float) -> Case:
    """Two clauses that no sampled point comes near, but plain bounds do."""
    (inputs,), random = model.input_shape, np.random.default_rng(102)
    x = random.uniform(0.2, 0.8, inputs)
    low, high = np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1)
    at = np.where(random.uniform(size=(4000, inputs)) < 0.5, low, high)
    y = model.graph.forward64(at)
    clauses = []
    for row in (np.array([1.0, -1, 0]), np.array([1.0, 0, -1])):
        value = y @ row
        end = np.array([value.min() - 0.35 * (value.max() - value.min())])
        clauses.append(Clause(row[None], end, end))
    return Case(low, high, low, high, tuple(clauses))


def proven(model: LayeredModel, case: Case, proof: Any) -> Any:
    entries = proof.write(model.graph, case.lower, case.upper, clauses=len(case.clauses))
    return check_certificate(
        model.graph, Certificate({}, model.graph.digest, (case_of(case, entries),))
    )


def test_recording_changes_nothing_and_the_checker_accepts_the_proof() -> None:
    model = network(4)
    x, y = samples(model)
    split = 0
    for point, label in zip(x, y, strict=True):
        rows = [np.eye(3)[label] - np.eye(3)[i] for i in range(3) if i != label]
        low, high = (np.clip(point + step, 0, 1).astype(float) for step in (-0.2, 0.2))
        zero = np.zeros(1)
        clauses = tuple(Clause(row[None], zero, zero) for row in rows)
        case = Case(low, high, low, high, clauses)
        plain = decide(model.graph, case, timeout=20)
        found = decide(model.graph, case, timeout=20, record=True)
        assert (plain.answer, plain.domains) == (found.answer, found.domains)
        assert (found.proof is not None) == (found.answer == "refuted")
        if found.proof is None:
            continue
        for clause in range(2):
            depths = [depth for at, depth in found.proof.ends if at == clause]
            split += len(depths) > 1
            assert sum(0.5**depth for depth in depths) == 1.0
        assert proven(model, case, found.proof).holds
    assert split


def test_trees_over_bounds_found_anew_are_recorded_too() -> None:
    model = network(3, (12, 40, 40, 3))
    case = deep_case(model, 0.35)
    plain = decide(model.graph, case, timeout=60)
    found = decide(model.graph, case, timeout=60, record=True)
    assert (plain.answer, plain.domains) == (found.answer, found.domains)
    # After 512 parts the whole is bounded anew, its intermediate bounds by parts.
    assert found.answer == "refuted"
    assert found.domains > 512
    written = found.proof.write(model.graph, case.lower, case.upper, clauses=len(case.clauses))
    assert '"tree"' in written
    for clause in range(2):
        assert sum(0.5**depth for at, depth in found.proof.ends if at == clause) == 1.0
    checked = proven(model, case, found.proof)
    assert checked.holds, checked.reason
    # Of another case it is no proof.
    nearer = tuple(
        Clause(clause.rows, clause.rhs_lower + 9, clause.rhs_upper + 9) for clause in case.clauses
    )
    wrong = Case(case.lower, case.upper, case.lower, case.upper, nearer)
    assert not proven(model, wrong, found.proof).holds


def test_a_search_goes_on_from_a_smaller_region() -> None:
    model = network(3, (12, 40, 40, 3))
    case = deep_case(model, 0.35)
    middle, half = (case.lower + case.upper) / 2, (case.upper - case.lower) / 2
    low, high = middle - 0.97 * half, middle + 0.97 * half
    smaller = decide(model.graph, Case(low, high, low, high, case.clauses), timeout=60, record=True)
    again = decide(model.graph, case, timeout=60)
    warm = decide(model.graph, case, timeout=60, record=True, start=smaller.proof)
    assert smaller.answer == again.answer == warm.answer == "refuted"
    assert warm.domains < 0.8 * again.domains
    checked = proven(model, case, warm.proof)
    assert checked.holds, checked.reason


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timeout_is_a_time(timeout: float) -> None:
    with pytest.raises(ae.InputError, match="timeout"):
        Complete(timeout=timeout)
