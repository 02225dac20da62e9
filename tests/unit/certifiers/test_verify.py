"""verify(): right on networks small enough to decide exactly, and never sure without a proof."""

from __future__ import annotations

import _thread
import itertools
import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers import input_split
from aisec_eval.certifiers.property import Case, Clause, Property, below
from aisec_eval.certifiers.replay import replay
from helpers.networks import LayeredModel
from helpers.onnx_models import OnnxBuilder, run_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence


def half_spaces(*conditions: tuple[Sequence[float], float]) -> Clause:
    rows = np.array([row for row, _ in conditions], dtype=np.float64)
    rhs = np.array([value for _, value in conditions], dtype=np.float64)
    return Clause(rows, rhs, rhs)


def box(lower: Sequence[float], upper: Sequence[float], *clauses: Clause) -> Case:
    low, high = np.array(lower, dtype=np.float64), np.array(upper, dtype=np.float64)
    return Case(low, high, low, high, clauses)


def question(*cases: Case) -> Property:
    outputs = cases[0].clauses[0].rows.shape[1]
    return Property(len(cases[0].lower), outputs, cases)


def small_network(seed: int) -> LayeredModel:
    """Two inputs, five hidden units, two outputs; weights are small multiples of 1/4."""
    rng = np.random.default_rng(seed)
    return LayeredModel(
        [
            (rng.integers(-8, 9, (5, 2)) / 4, rng.integers(-4, 5, 5) / 4),
            (rng.integers(-8, 9, (2, 5)) / 4, rng.integers(-4, 5, 2) / 4),
        ],
        (2,),
    )


def exact_maximum(model: LayeredModel) -> Fraction:
    """Return the largest `y_0 - y_1` over the square [-1, 1]^2.

    It is linear between the lines where a unit turns on or the square ends, so it is largest
    where two of them meet.
    """
    (w1, b1), (w2, b2) = (
        ([[Fraction(float(v)) for v in row] for row in w], [Fraction(float(v)) for v in b])
        for w, b in model.affine
    )
    lines = [(*row, -bias) for row, bias in zip(w1, b1, strict=True)]
    one, zero = Fraction(1), Fraction(0)
    lines += [(one, zero, one), (one, zero, -one), (zero, one, one), (zero, one, -one)]
    best = None
    for (a, b, c), (d, e, f) in itertools.combinations(lines, 2):
        det = a * e - b * d
        if det == 0:
            continue
        x = ((c * e - b * f) / det, (a * f - c * d) / det)
        if max(map(abs, x)) > 1:
            continue
        hidden = [
            max(zero, row[0] * x[0] + row[1] * x[1] + bias)
            for row, bias in zip(w1, b1, strict=True)
        ]
        outputs = [
            sum(w * h for w, h in zip(row, hidden, strict=True)) + bias
            for row, bias in zip(w2, b2, strict=True)
        ]
        value = outputs[0] - outputs[1]
        best = value if best is None else max(best, value)
    assert best is not None
    return best


@pytest.mark.parametrize("seed", range(12))
def test_decides_as_exact_enumeration_does(seed):
    model = small_network(seed)
    most = exact_maximum(model)

    def at_least(value: float):
        case = box([-1, -1], [1, 1], half_spaces(([-1, 1], -value)))
        return ae.verify(model, question(case), timeout=20)

    above = at_least(float(most) + 1 / 64)
    assert (above.status, above.counterexample) == ("unsat", None)
    under = at_least(float(most) - 1 / 64)
    assert under.status == "sat"
    (y,) = model.graph.forward64(under.counterexample.input[None])
    assert y[0] - y[1] >= float(most) - 1 / 64
    assert (np.abs(under.counterexample.input) <= 1).all()


def test_what_is_met_in_a_single_point_is_never_unsat(monkeypatch):
    monkeypatch.setattr(input_split, "MEMORY", 40_000)
    for seed in range(8):
        model = small_network(seed)
        # The largest float that some input reaches.
        case = box([-1, -1], [1, 1], half_spaces(([-1, 1], -below(exact_maximum(model)))))
        assert ae.verify(model, question(case), timeout=20).status != "unsat"


@pytest.mark.parametrize("seed", range(8))
def test_clauses_and_boxes_agree_with_a_fine_grid(seed):
    model = small_network(seed)
    rng = np.random.default_rng(seed)
    near = model.graph.forward64(rng.uniform(-1, 1, (1, 2)))[0]

    def clause() -> Clause:
        signs = rng.choice([-1.0, 1.0], 2)
        return half_spaces(
            ([signs[0], 0.0], float(signs[0] * near[0]) + rng.normal() / 2),
            ([0.0, signs[1]], float(signs[1] * near[1]) + rng.normal() / 2),
        )

    cases = [box([-1, -1], [-0.25, 1], clause(), clause()), box([0.25, -1], [1, 1], clause())]
    result = ae.verify(model, question(*cases), timeout=20)
    axis = np.linspace(-1, 1, 201)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    outputs = model.graph.forward64(np.ascontiguousarray(grid))
    hit = False
    for case in cases:
        inside = ((grid >= case.lower) & (grid <= case.upper)).all(axis=1)
        for c in case.clauses:
            hit |= bool((inside & (outputs @ c.rows.T < c.rhs_lower - 1e-9).all(axis=1)).any())
    assert result.status in ("sat", "unsat")
    if hit:
        assert result.status == "sat"
    if result.status == "sat":
        assert any(replay(model.graph, case, result.counterexample.input[None]) for case in cases)


def test_the_same_call_gives_the_same_answer():
    model = small_network(3)
    value = float(exact_maximum(model)) - 1 / 512
    case = box([-1, -1], [1, 1], half_spaces(([-1, 1], -value)))
    first, second = (ae.verify(model, question(case), seed=5) for _ in range(2))
    assert first.status == second.status == "sat"
    assert first.counterexample.input.tobytes() == second.counterexample.input.tobytes()
    assert first.domains == second.domains


def test_no_case_is_unsat_and_no_condition_is_sat():
    model = small_network(0)
    assert ae.verify(model, Property(2, 2, ())).status == "unsat"
    anything = Clause(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    assert ae.verify(model, question(box([0, 0], [1, 1], anything))).status == "sat"


def test_between_two_floats_only_what_holds_all_the_way_is_a_counterexample():
    model = small_network(0)
    low, high = np.nextafter(0.1, 0), 0.1

    def between(clause: Clause) -> Case:
        # The input is one real number strictly between two neighbouring floats.
        return Case(*np.array([[low] * 2, [high] * 2, [high] * 2, [low] * 2]), (clause,))

    result = ae.verify(model, question(between(half_spaces(([1, 0], 1e6)))), timeout=5)
    assert result.status == "sat"
    assert (result.counterexample.input == low).all()
    ends = [model.graph.forward64(np.full((1, 2), end))[0, 0] for end in (low, high)]
    split = between(half_spaces(([1, 0], (ends[0] + ends[1]) / 2)))
    for end in (low, high):
        assert replay(model.graph, split, np.full((1, 2), end)) is None
    result = ae.verify(model, question(split), timeout=5)
    assert result.status == "unknown"
    assert result.reason.startswith("precision")


def test_replay_takes_nothing_from_outside_or_short_of_the_clause():
    model = small_network(1)
    x = np.array([[0.5, 0.5]])
    value = model.graph.forward64(x)[0, 0]
    for slack, counts in ((1e-9, True), (-1e-9, False)):
        clause = half_spaces(([1, 0], value + slack))
        assert (replay(model.graph, box([0, 0], [1, 1], clause), x) is not None) == counts
    out = box([0, 0], [0.5, np.nextafter(0.5, 0)], half_spaces(([1, 0], value + 1)))
    assert replay(model.graph, out, x) is None
    assert replay(model.graph, out, np.array([[np.nan, 0.1]])) is None


def test_with_many_inputs_signs_are_split_until_time_is_up():
    rng = np.random.default_rng(0)

    def at_most(value: float, model: LayeredModel, timeout: float):
        clause = half_spaces(([1, 0], value))
        case = box([-1] * 40, [1] * 40, clause)
        return ae.verify(model, question(case), timeout=timeout)

    def network(*sizes: int) -> LayeredModel:
        pairs = itertools.pairwise(sizes)
        return LayeredModel([(rng.normal(size=(n, m)) / 4, [0] * n) for m, n in pairs], (40,))

    small = network(40, 30, 2)
    assert at_most(-30.0, small, 20).status == "unsat"
    assert at_most(-5.0, small, 20).status == "sat"
    # The bounds over the whole box are far from this: only splitting shows it.
    split = at_most(-10.0, small, 20)
    assert (split.status, split.reason) == ("unsat", "")
    assert split.domains > 100
    start = time.monotonic()
    open_ = at_most(-60.0, network(40, 80, 80, 2), 0.4)
    assert (open_.status, open_.reason) == ("unknown", "timeout")
    assert time.monotonic() - start < 3
    assert -200 < open_.bound < 0


def test_a_gap_that_float32_does_not_see_is_not_closed():
    # |1e8 x + 1| - |1e8 x| is 1 for x >= 0, and 0 in float32 wherever 1e8 x is above 2^24.
    big = 1e8
    layers = [([[big, 0.0], [big, 0.0]], [1.0, 0.0]), ([[1.0, -1.0], [0.0, 0.0]], [0.0, 0.0])]
    model = LayeredModel([(np.array(w), np.array(b)) for w, b in layers], (2,))
    x = np.array([[0.75, 0.0]], dtype=np.float32)
    assert model.graph.forward(x)[0, 0] == 0

    def at_least(value: float):
        case = box([0.5, -1], [1, 1], half_spaces(([-1, 0], -value)))
        return ae.verify(model, question(case), timeout=20).status

    assert at_least(0.999) != "unsat"
    assert at_least(1.001) == "unsat"


def test_little_memory_is_enough_or_said():
    model = small_network(2)
    most = float(exact_maximum(model))
    case = box([-1, -1], [1, 1], half_spaces(([-1, 1], -most - 1 / 512)))
    assert ae.verify(model, question(case), memory_limit=30_000).status == "unsat"
    result = ae.verify(model, question(case), memory_limit=100)
    assert result.status == "unknown"
    assert result.reason.startswith("memory")


def test_ctrl_c_stops_the_search():
    rng = np.random.default_rng(1)
    layers = [(rng.normal(size=(64, 8)), rng.normal(size=64))]
    layers += [(rng.normal(size=(64, 64)) / 8, rng.normal(size=64)) for _ in range(3)]
    layers += [(rng.normal(size=(2, 64)) / 8, np.zeros(2))]
    model = LayeredModel(layers, (8,))
    case = box([-9] * 8, [9] * 8, half_spaces(([1, 0], -16.0)))
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ae.verify(model, question(case), timeout=100)
    assert time.monotonic() - started < 20
    timer.join()


def test_the_deadline_holds():
    rng = np.random.default_rng(1)
    layers = [(rng.normal(size=(64, 8)), rng.normal(size=64))]
    layers += [(rng.normal(size=(64, 64)) / 8, rng.normal(size=64)) for _ in range(3)]
    layers += [(rng.normal(size=(2, 64)) / 8, np.zeros(2))]
    model = LayeredModel(layers, (8,))
    clause = half_spaces(([1, 0], -16.0))
    started = time.monotonic()
    result = ae.verify(model, question(box([-9] * 8, [9] * 8, clause)), timeout=0.5)
    assert result.status == "unknown"
    assert result.reason == "timeout"
    assert result.domains > 0
    assert time.monotonic() - started < 5  # hours without a deadline


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "60"])
def test_bad_timeouts_are_refused(timeout):
    with pytest.raises(ae.InputError, match="timeout"):
        ae.verify(small_network(0), Property(2, 2, ()), timeout=timeout)


def test_a_property_of_another_network_is_refused():
    with pytest.raises(ae.InputError, match="declares 3 inputs, 'layered' has 2"):
        ae.verify(small_network(0), Property(3, 2, ()))
    with pytest.raises(ae.InputError, match="declares 5 outputs, 'layered' has 2"):
        ae.verify(small_network(0), Property(2, 5, ()))


def test_what_is_not_supported_is_unknown_with_its_reason(uncertifiable):
    result = ae.verify(small_network(0), Property(2, 2, (), "line 3: strange"))
    assert (result.status, result.reason) == ("unknown", "unsupported property: line 3: strange")
    result = ae.verify(uncertifiable, Property(64, 4, ()))
    assert (result.status, result.counterexample) == ("unknown", None)
    assert "operator Softmax" in result.reason


def test_outputs_of_any_shape_are_numbered_row_by_row(tmp_path):
    b = OnnxBuilder((1, 2, 4, 4))
    path = b.save(
        tmp_path / "net.onnx", b.op("Conv", "input", b.weights(2, 2, 3, 3)), tuple("abcd")
    )
    x = np.full((1, 2, 4, 4), 0.5, np.float32)
    outputs = run_onnxruntime(path.read_bytes(), x).ravel()
    for index in (0, 3, 7):
        row = np.zeros(8)
        row[index] = 1.0
        near = np.full(32, 0.5)
        for slack, status in ((1e-3, "sat"), (-1e-3, "unsat")):
            clause = half_spaces((row.tolist(), float(outputs[index]) + slack))
            case = box(near - 1e-6, near + 1e-6, clause)
            assert ae.verify(path, question(case), timeout=20).status == status


def test_several_inputs_are_unknown_with_their_reason(tmp_path):
    b = OnnxBuilder((1, 2))
    proto = b.proto(b.op("MatMul", "input", b.weights(2, 2)))
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "second"
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    result = ae.verify(path, Property(2, 2, (box([0, 0], [1, 1], half_spaces(([1, 0], 0))),)))
    assert result.status == "unknown"
    assert "one input and one output" in result.reason


def test_many_cases_are_decided_each(monkeypatch):
    model = small_network(4)
    edges = np.linspace(-1, 1, 301)
    searched = []
    monkeypatch.setattr(
        "aisec_eval.certifiers.falsify.Search.scattered", lambda self, _: searched.append(self)
    )

    def within(slack: float) -> Property:
        cases = []
        for low, high in itertools.pairwise(edges):
            x = np.stack([np.linspace(low, high, 50), np.zeros(50)], axis=1)
            most = model.graph.forward64(x)[:, 0].max()
            clause = half_spaces(([-1, 0], -(most + slack)))
            cases.append(box([low, 0], [high, 0], clause))
        return question(*cases)

    result = ae.verify(model, within(0.1), timeout=60)
    assert (result.status, result.domains) == ("unsat", 300)
    # What one look at the bounds decides is not searched.
    assert searched == []
    assert ae.verify(model, within(-1e-3), timeout=60).status == "sat"


def hard_network() -> LayeredModel:
    rng = np.random.default_rng(1)
    layers = [(rng.normal(size=(64, 8)), rng.normal(size=64))]
    layers += [(rng.normal(size=(64, 64)) / 8, rng.normal(size=64)) for _ in range(3)]
    layers += [(rng.normal(size=(2, 64)) / 8, np.zeros(2))]
    return LayeredModel(layers, (8,))


def wide_network() -> LayeredModel:
    rng = np.random.default_rng(0)
    pairs = itertools.pairwise((40, 80, 80, 2))
    return LayeredModel([(rng.normal(size=(n, m)) / 4, [0] * n) for m, n in pairs], (40,))


@pytest.mark.parametrize(
    ("model", "wide", "far"),
    [(hard_network(), 9.0, -16.0), (wide_network(), 1.0, -60.0)],
    ids=["input split", "sign split"],
)
def test_a_hard_case_leaves_time_for_the_others(model, wide, far, monkeypatch):
    inputs = model.input_shape[0]
    hard = box([-wide] * inputs, [wide] * inputs, half_spaces(([1, 0], far)))
    point = np.full(inputs, 0.25)
    value = float(model.graph.forward64(point[None])[0, 0])
    met = box(point - 1e-3, point + 1e-3, half_spaces(([1, 0], value)))
    # Found by the first search, and where that finds nothing in a turn of its own.
    assert ae.verify(model, question(hard, hard, met), timeout=30).status == "sat"
    for search in ("scattered", "descend"):
        monkeypatch.setattr(f"aisec_eval.certifiers.falsify.Search.{search}", lambda *_: None)
    started = time.monotonic()
    assert ae.verify(model, question(hard, hard, met), timeout=60).status == "sat"
    assert time.monotonic() - started < 30
    # What no case decides has a bound and a reason.
    result = ae.verify(model, question(hard, hard), timeout=0.5)
    assert (result.status, result.reason) == ("unknown", "timeout")
    assert -np.inf < result.bound < 0


def test_reading_the_network_counts(monkeypatch, tmp_path):
    ended = threading.Event()
    monkeypatch.setattr("aisec_eval.certifiers.verify._load", lambda *_: ended.wait(60))
    started = time.monotonic()
    result = ae.verify(tmp_path / "net.onnx", Property(2, 2, ()), timeout=0.2)
    assert time.monotonic() - started < 10
    assert (result.status, result.reason) == (
        "unknown",
        "timeout: the network was still being read",
    )
    ended.set()


def test_networks_of_steps_are_searched_without_gradients(tmp_path):
    """The corner that all signs agree with is one of 2^24: no random point and no gradient."""
    b = OnnxBuilder((1, 24))
    corner = b.rng.choice([-1.0, 1.0], (24, 1))
    votes = b.op("Sign", b.op("Mul", "input", b.constant(corner.T, np.float32)))
    count = b.op("MatMul", votes, b.constant(np.ones((24, 1)), np.float32))
    path = b.save(tmp_path / "net.onnx", count)
    agreeing = Clause(np.array([[-1.0]]), np.array([-23.5]), np.array([-23.5]))
    result = ae.verify(path, Property(24, 1, (box([-1] * 24, [1] * 24, agreeing),)), timeout=20)
    assert result.status == "sat"
    np.testing.assert_array_equal(np.sign(result.counterexample.input.ravel()), corner.ravel())
