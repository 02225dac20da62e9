"""A sample is bit for bit the same in any batch, position and number of threads."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from aisec_eval import _core

SHAPE = (3, 24, 24)


@pytest.fixture(scope="module")
def graph() -> _core.Graph:
    """A strided convolution, a wide one and an affine layer: 4.6 million operations a sample."""
    rng = np.random.default_rng(0)
    tensors: list[np.ndarray] = []

    def layer(op: str, shape: tuple[int, ...], attrs: dict[str, object]) -> dict[str, object]:
        first = len(tensors)
        tensors.append(rng.standard_normal(shape) * 0.1)
        tensors.append(rng.standard_normal(shape[0]))
        indices = {"weight": first, "bias": first + 1}
        return {"op": op, "inputs": [], "tensors": indices, "attrs": attrs}

    def conv(out: int, channels: int, kernel: int, stride: int) -> dict[str, object]:
        attrs = {"stride": [stride] * 2, "padding": [1] * 4, "dilation": [1, 1], "groups": 1}
        return layer("conv2d", (out, channels, kernel, kernel), attrs)

    nodes = [
        {"op": "input", "inputs": [], "tensors": {}, "attrs": {"shape": SHAPE}},
        conv(8, 3, 4, 2),
        {"op": "relu", "inputs": [], "tensors": {}, "attrs": {}},
        conv(96, 8, 5, 1),
        {"op": "relu", "inputs": [], "tensors": {}, "attrs": {}},
        {"op": "reshape", "inputs": [], "tensors": {}, "attrs": {"shape": [9600]}},
        layer("affine", (40, 9600), {}),
    ]
    for index, node in enumerate(nodes):
        node |= {"name": str(index), "inputs": [index - 1] if index else []}
    return _core.Graph(json.dumps({"nodes": nodes, "output": len(nodes) - 1}), tensors)


@pytest.fixture
def threads() -> Iterator[None]:
    before = _core.get_threads()
    yield
    _core.set_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_positions_and_threads(graph: _core.Graph, count: int) -> None:
    _core.set_threads(count)
    rng = np.random.default_rng(1)
    x = rng.random((37, *SHAPE), dtype=np.float32)
    cotangent = rng.standard_normal((37, 40), dtype=np.float32)
    together = (graph.forward(x), *graph.value_and_vjp(x, cotangent))
    order = rng.permutation(37)
    shuffled = (
        graph.forward(x[order]),
        *graph.value_and_vjp(x[order], cotangent[order]),
    )
    for one, other in zip(together, shuffled, strict=True):
        np.testing.assert_array_equal(one[order], other)
    np.testing.assert_array_equal(together[0], together[1])
    for i in (0, 17, 36):
        alone = (
            graph.forward(x[i : i + 1]),
            *graph.value_and_vjp(x[i : i + 1], cotangent[i : i + 1]),
        )
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_array_equal(one[i], other[0])
    exact = graph.forward64(x.astype(np.float64))
    np.testing.assert_array_equal(graph.forward64(x[order].astype(np.float64)), exact[order])
    np.testing.assert_allclose(together[0], exact, rtol=1e-3, atol=1e-3)
