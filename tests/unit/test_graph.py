"""The native graph against oracles in numpy and JAX, and its refusals."""

from __future__ import annotations

import json
import threading

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisec_eval import _core
from helpers.graph_oracle import evaluate
from helpers.random_graphs import OPERATORS, RandomGraph, random_graph


def single(op: str, shape: tuple[int, ...], tensors: dict | None = None, /, **attrs) -> RandomGraph:
    """Return the graph of one operator on one input."""
    roles = {role: index for index, role in enumerate(tensors or {})}
    nodes = [
        {"name": "x", "op": "input", "inputs": [], "tensors": {}, "attrs": {"shape": list(shape)}},
        {"name": op, "op": op, "inputs": [0], "tensors": roles, "attrs": attrs},
    ]
    arrays = [np.ascontiguousarray(value) for value in (tensors or {}).values()]
    return RandomGraph(nodes, arrays, [shape])


def ramp(*shape: int) -> np.ndarray:
    """Return distinct values of both signs, exact in float32."""
    values = np.arange(int(np.prod(shape)), dtype=np.float64)
    return (((values * 7) % 31 - 15) / 8).reshape(shape)


def cases() -> dict[str, RandomGraph]:
    """Return hand-made graphs: every operator, the corners of its attributes."""
    conv = {"weight": ramp(4, 1, 3, 2), "bias": ramp(4)}
    full = {"weight": ramp(3, 2, 2, 3), "bias": ramp(3)}
    return {
        "affine": single("affine", (5,), {"weight": ramp(3, 5), "bias": ramp(3)}),
        "affine on a matrix": single("affine", (4, 5), {"weight": ramp(3, 5), "bias": ramp(3)}),
        "conv": single(
            "conv2d", (2, 5, 6), full, stride=[1, 1], padding=[0] * 4, dilation=[1, 1], groups=1
        ),
        "conv strided, padded unevenly": single(
            "conv2d",
            (2, 5, 6),
            full,
            stride=[2, 3],
            padding=[1, 0, 2, 3],
            dilation=[1, 1],
            groups=1,
        ),
        "conv dilated, in groups": single(
            "conv2d",
            (2, 6, 5),
            conv,
            stride=[1, 2],
            padding=[2, 1, 0, 2],
            dilation=[2, 3],
            groups=2,
        ),
        "add a channel": single("add_const", (3, 2, 2), {"value": ramp(3, 1, 1)}),
        "multiply by a row": single("mul_const", (3, 2, 4), {"value": ramp(4)}),
        "divide by a scalar": single("div_const", (3, 2), {"value": np.float64(0.3).reshape(())}),
        "divide by a column": single(
            "div_const", (3, 2), {"value": np.array([[0.5], [-3.0], [7.0]])}
        ),
        "reshape": single("reshape", (2, 3, 4), shape=[4, 6]),
        "transpose": single("transpose", (2, 3, 4), perm=[2, 0, 1]),
        "pad": single("pad", (2, 3), before=[1, 0], after=[0, 2], value=-0.5),
        "average": single(
            "avg_pool2d",
            (2, 5, 5),
            kernel=[3, 2],
            stride=[2, 1],
            padding=[1, 1, 0, 1],
            count_include_pad=False,
        ),
        "average with padding": single(
            "avg_pool2d",
            (2, 5, 5),
            kernel=[3, 2],
            stride=[2, 1],
            padding=[1, 1, 0, 1],
            count_include_pad=True,
        ),
        "maximum": single(
            "max_pool2d",
            (2, 6, 5),
            kernel=[2, 3],
            stride=[2, 2],
            padding=[1, 0, 0, 2],
            dilation=[1, 1],
        ),
        "maximum dilated": single(
            "max_pool2d", (2, 7, 7), kernel=[3, 2], stride=[1, 2], padding=[0] * 4, dilation=[2, 3]
        ),
        "slice backwards": single("slice", (4, 5), starts=[3, 0], counts=[2, 3], steps=[-2, 2]),
        "relu": single("relu", (7,)),
        "leaky relu": single("leaky_relu", (7,), slope=0.1),
        "sigmoid": single("sigmoid", (7,)),
        "tanh": single("tanh", (7,)),
    }


CASES = cases()


def check_values(graph: RandomGraph, x: np.ndarray) -> None:
    """Compare every node's value, in both precisions, with the oracle."""
    native = graph.build()
    wide = x.astype(np.float64)
    for node, value in enumerate(evaluate(graph, wide)):
        assert native.node_shape(node) == value.shape[1:]
        scale = 1 + np.abs(value).max(initial=0)
        exact = native.forward64(wide, node)
        np.testing.assert_allclose(exact, value, rtol=0, atol=1e-12 * scale)
        np.testing.assert_allclose(native.forward(x, node=node), value, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("name", CASES)
def test_operator_matches_its_definition(name: str) -> None:
    check_values(CASES[name], CASES[name].inputs(1, 3))


@pytest.mark.parametrize("name", CASES)
def test_vjp_matches_jax(name: str) -> None:
    graph = CASES[name]
    native, x = graph.build(), graph.inputs(1, 3)
    cotangent = np.random.default_rng(1).normal(size=(3, *native.output_shape))
    output, gradient = native.value_and_vjp(x, cotangent.astype(np.float32))
    np.testing.assert_array_equal(output, native.forward(x))
    with jax.enable_x64(True):
        value = lambda x: evaluate(graph, x, jax.numpy)[-1]  # noqa: E731
        pullback = jax.jit(lambda x, cotangent: jax.vjp(value, x)[1](cotangent)[0])
        expected = np.asarray(pullback(x.astype(np.float64), cotangent))
    scale = 1 + np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * scale)


@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(0, 14))
def test_random_graph_matches_its_definition(seed: int, nodes: int) -> None:
    graph = random_graph(seed, nodes=nodes)
    check_values(graph, graph.inputs(seed, 2))


@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(0, 14))
def test_vjp_of_random_graph_is_the_derivative(seed: int, nodes: int) -> None:
    graph = random_graph(seed, nodes=nodes)
    native, x, rng = graph.build(), graph.inputs(seed, 4), np.random.default_rng(seed)
    cotangent = rng.normal(size=(4, 3)).astype(np.float32)
    direction = rng.uniform(-1, 1, x.shape)
    _, gradient = native.value_and_vjp(x, cotangent)
    step = 1e-6
    before, here, after = (
        (native.forward64(x + t * direction) * cotangent).sum(1) for t in (-step, 0.0, step)
    )
    left, right = (here - before) / step, (after - here) / step
    exact = (gradient * direction).reshape(4, -1).sum(1)
    tolerance = 1e-3 * (1 + np.abs(gradient).reshape(4, -1).sum(1))
    # At a kink (ReLU at 0, a tie in a maximum) the one-sided derivatives differ.
    smooth = np.abs(left - right) < tolerance / 10
    assert (np.abs(exact - (left + right) / 2) < tolerance)[smooth].all()


def test_random_graphs_use_every_operator() -> None:
    seen = {node["op"] for seed in range(40) for node in random_graph(seed).nodes}
    assert seen == {"input", *OPERATORS}


def test_convolution_by_hand() -> None:
    graph = single(
        "conv2d",
        (1, 3, 3),
        {"weight": np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), "bias": np.array([10.0])},
        stride=[1, 1],
        padding=[0, 0, 1, 1],
        dilation=[1, 1],
        groups=1,
    ).build()
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    expected = [[37, 47, 27], [67, 77, 39], [30, 33, 18]]
    np.testing.assert_array_equal(graph.forward(x)[0, 0], expected)
    _, gradient = graph.value_and_vjp(x, np.ones((1, 1, 3, 3), np.float32))
    np.testing.assert_array_equal(gradient[0, 0], [[1, 3, 3], [4, 10, 10], [4, 10, 10]])


def test_ties_of_a_maximum_send_the_gradient_to_the_first() -> None:
    graph = CASES["maximum dilated"].build()
    x = np.zeros((1, 2, 7, 7), np.float32)
    _, gradient = graph.value_and_vjp(x, np.ones((1, *graph.output_shape), np.float32))
    rows, columns = np.nonzero(gradient[0, 0])
    assert rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert columns.tolist() == [0, 2, 0, 2, 0, 2]


def test_gradient_of_relu_at_zero_is_zero() -> None:
    graph = CASES["relu"].build()
    _, gradient = graph.value_and_vjp(np.zeros((1, 7), np.float32), np.ones((1, 7), np.float32))
    assert not gradient.any()


@pytest.mark.parametrize("name", ["relu", "leaky relu", "sigmoid", "tanh", "maximum", "average"])
def test_nan_is_never_hidden(name: str) -> None:
    native = CASES[name].build()
    x = np.full((1, *native.input_shape), np.nan, np.float32)
    assert np.isnan(native.forward(x)).all()


def test_non_finite_samples_do_not_touch_their_neighbours() -> None:
    graph = random_graph(5, input_shape=(2, 4, 4))
    native, x = graph.build(), graph.inputs(0, 3)
    clean = native.forward(x)
    x[1] = np.inf
    np.testing.assert_array_equal(native.forward(x)[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_samples_are_bit_identical_in_any_batch_and_threads(threads: int) -> None:
    graph = random_graph(11, nodes=14, input_shape=(3, 6, 6))
    native, x = graph.build(), graph.inputs(0, 700)
    cotangent = np.random.default_rng(0).normal(size=(700, 3)).astype(np.float32)
    before = _core.get_threads()
    try:
        _core.set_threads(threads)
        output, gradient = native.value_and_vjp(x, cotangent)
        np.testing.assert_array_equal(native.forward(x), output)
    finally:
        _core.set_threads(before)
    for part in (slice(0, 1), slice(3, 10), slice(650, 700)):
        one, grad = native.value_and_vjp(x[part], cotangent[part])
        np.testing.assert_array_equal(one, output[part])
        np.testing.assert_array_equal(grad, gradient[part])


@pytest.mark.parametrize("seed", range(10))
def test_interval_holds_every_sampled_value(seed: int) -> None:
    graph = random_graph(seed)
    native, rng = graph.build(), np.random.default_rng(seed)
    center = graph.inputs(seed, 2).astype(np.float64)
    radius = np.abs(rng.normal(size=center.shape)) * 0.3
    for node in range(native.num_nodes):
        lower, upper = native.interval(center - radius, center + radius, node)
        assert lower.shape == upper.shape == (2, *native.node_shape(node))
        for _ in range(10):
            x = center + radius * rng.choice([-1.0, -0.3, 0.0, 1.0], center.shape)
            value = native.forward64(x, node)
            slack = 1e-12 * (1 + np.abs(value))
            assert (lower <= value + slack).all()
            assert (value - slack <= upper).all()


def test_interval_of_a_point_is_narrow() -> None:
    graph = random_graph(4, nodes=10)
    native, x = graph.build(), graph.inputs(0, 4).astype(np.float64)
    lower, upper = native.interval(x, x)
    value = native.forward64(x)
    assert (lower <= value).all()
    assert (value <= upper).all()
    assert np.max(upper - lower) < 1e-10


def test_interval_refuses_crossed_and_nan_boxes() -> None:
    native = CASES["relu"].build()
    zeros, ones = np.zeros((2, 7)), np.ones((2, 7))
    ones[1, 3] = -1.0
    with pytest.raises(ValueError, match=r"lower 0 is not <= upper -1 at sample 1, flat index 3"):
        native.interval(zeros, ones)
    ones[1, 3] = np.nan
    with pytest.raises(ValueError, match="sample 1, flat index 3"):
        native.interval(zeros, ones)


def test_empty_batch() -> None:
    native = CASES["conv"].build()
    output, gradient = native.value_and_vjp(
        np.zeros((0, 2, 5, 6), np.float32), np.zeros((0, *native.output_shape), np.float32)
    )
    assert output.shape == (0, *native.output_shape)
    assert gradient.shape == (0, 2, 5, 6)
    assert native.forward64(np.zeros((0, 2, 5, 6)), 0).shape == (0, 2, 5, 6)


def test_properties() -> None:
    native = CASES["conv"].build()
    assert native.input_shape == (2, 5, 6)
    assert native.output_shape == native.node_shape(1) == (3, 4, 4)
    assert (native.num_nodes, native.node_name(1), native.node_op(1)) == (2, "conv2d", "conv2d")
    assert len(native.digest) == 64
    assert native.digest == CASES["conv"].build().digest
    assert native.digest != CASES["conv strided, padded unevenly"].build().digest
    assert repr(native).startswith("Graph(2 nodes, [2, 5, 6] -> [3, 4, 4], digest ")


def test_float32_and_float64_tensors_give_one_digest() -> None:
    narrow = single("add_const", (2,), {"value": np.array([0.5, 0.25], np.float32)})
    wide = single("add_const", (2,), {"value": np.array([0.5, 0.25])})
    assert narrow.build().digest == wide.build().digest


def test_constants_are_float64() -> None:
    native = single("add_const", (1,), {"value": np.array([0.1])}).build()
    assert native.forward64(np.zeros((1, 1)))[0, 0] == 0.1
    assert native.forward(np.zeros((1, 1), np.float32))[0, 0] == np.float32(0.1)


WRONG_ARRAYS = {
    "dtype": (np.zeros((2, 7)), "got float64 of shape"),
    "byte order": (np.zeros((2, 7), ">f4"), "got >f4 of shape"),
    "shape": (np.zeros((2, 6), np.float32), r"shape \[n, 7\], got float32 of shape \[2, 6\]"),
    "rank": (np.zeros(7, np.float32), r"got float32 of shape \[7\]"),
    "layout": (np.zeros((7, 2), np.float32).T, "got non-contiguous float32"),
    "strides": (np.zeros((4, 7), np.float32)[::2], "got non-contiguous float32"),
    "type": ([[0.0] * 7], "got list"),
}


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_wrong_arrays_get_one_line(name: str) -> None:
    native = CASES["relu"].build()
    array, message = WRONG_ARRAYS[name]
    with pytest.raises(ValueError, match=message) as caught:
        native.forward(array)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("x: expected a C-contiguous float32 array of shape [n, 7]")


def test_cotangent_must_match_the_batch() -> None:
    native = CASES["relu"].build()
    with pytest.raises(ValueError, match=r"cotangent: expected .* shape \[2, 7\], got .* \[3, 7\]"):
        native.value_and_vjp(np.zeros((2, 7), np.float32), np.zeros((3, 7), np.float32))


@pytest.mark.parametrize("node", [-1, 2, 10**9])
def test_unknown_nodes_are_refused(node: int) -> None:
    native = CASES["relu"].build()
    message = f"node {node}: expected 0 to 1"
    for call in (native.node_name, native.node_shape, native.node_op):
        with pytest.raises(ValueError, match=message):
            call(node)
    with pytest.raises(ValueError, match=message):
        native.forward(np.zeros((1, 7), np.float32), node)


def spec(**changes) -> str:
    """Return an affine graph's description with the second node changed."""
    node = {"name": "fc", "op": "affine", "inputs": [0], "tensors": {"weight": 0, "bias": 1}}
    return json.dumps(
        {
            "nodes": [
                {"name": "x", "op": "input", "attrs": {"shape": [3]}},
                {**node, "attrs": {}, **changes},
            ],
            "output": 1,
        }
    )


WEIGHT, BIAS = np.ones((2, 3)), np.zeros(2)
NAN_WEIGHT = np.array([[0, 1, 2], [3, np.nan, 5.0]])
REFUSALS = {
    "not JSON": ("{", [], "graph description: EOF"),
    "unknown operator": (spec(op="mish"), [WEIGHT, BIAS], r"node 1 \(fc\): operator mish is not"),
    "forward reference": (spec(inputs=[1]), [WEIGHT, BIAS], "input 1 is not one of the 1 earlier"),
    "missing tensor": (spec(tensors={"weight": 0}), [WEIGHT], "tensor `bias` is missing"),
    "tensor number": (spec(), [WEIGHT], "tensor `bias` is number 1, only 1 were given"),
    "NaN": (spec(), [NAN_WEIGHT, BIAS], "tensor `weight` has NaN at flat index 4"),
    "too large for float32": (spec(), [WEIGHT * 1e200, BIAS], "has 1e200 at flat index 0"),
    "tensor shape": (spec(), [WEIGHT.T.copy(), BIAS], r"weight has shape \[3, 2\] and bias \[2\]"),
    "input shape": (spec(), [np.ones((2, 4)), BIAS], "last axis must be 4"),
    "tensor dtype": (spec(), [WEIGHT.astype(int), BIAS], "tensor 0: expected .* got int64"),
    "tensor layout": (spec(), [np.ones((3, 2)).T, BIAS], "got non-contiguous float64"),
    "tensor type": (spec(), [WEIGHT, None], "tensor 1: expected .* got NoneType"),
    "unknown attribute": (spec(attrs={"axis": 1}), [WEIGHT, BIAS], "unknown field `axis`"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_graphs_get_one_line(name: str) -> None:
    text, tensors, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message) as caught:
        _core.Graph(text, tensors)
    assert "\n" not in str(caught.value)


def test_huge_shapes_are_refused_before_allocation() -> None:
    for shape in ([10**13], [2**40, 2**40], [2**63, 2], [1] * 100):
        text = json.dumps(
            {"nodes": [{"name": "x", "op": "input", "attrs": {"shape": shape}}], "output": 0}
        )
        with pytest.raises(ValueError, match=r"node 0 \(x\): .*(elements|axes)"):
            _core.Graph(text, [])


def test_results_that_do_not_fit_in_memory_are_refused() -> None:
    pad = single("pad", (1,), before=[0], after=[2**27 - 1], value=0.0).build()
    with pytest.raises(ValueError, match="do not fit in memory; use smaller batches"):
        pad.forward(np.zeros((2**22, 1), np.float32))


def test_threads_may_share_a_graph() -> None:
    graph = random_graph(11, nodes=14, input_shape=(3, 6, 6))
    native, x = graph.build(), graph.inputs(0, 300)
    expected = native.forward(x)
    results: list[np.ndarray] = []
    workers = [threading.Thread(target=lambda: results.append(native.forward(x))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, expected)
