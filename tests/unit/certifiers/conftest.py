"""A small convolutional classifier and its samples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aisec_eval import _core
from aisec_eval.models.base import Capabilities, LoadReport, Model

if TYPE_CHECKING:
    from numpy.typing import NDArray


class GraphModel(Model):
    """A model that is nothing but a graph; `graph=None` leaves it without one."""

    def __init__(self, graph: _core.Graph, *, certifiable: bool = True) -> None:
        self.name = "small"
        self.digest = graph.digest
        self.input_shape = graph.input_shape
        self.num_classes = graph.output_shape[0]
        self.capabilities = Capabilities(gradient=True, graph=certifiable)
        reason = None if certifiable else 'operator Softmax (node "probs")'
        self.report = LoadReport(not_certifiable=reason)
        self._graph, self._certifiable = graph, certifiable

    @property
    def graph(self) -> _core.Graph | None:
        return self._graph if self._certifiable else None

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._graph.forward(np.ascontiguousarray(x, dtype=np.float32))


def node(name: str, op: str, inputs: list[int], **attrs: Any) -> dict[str, Any]:
    tensors = attrs.pop("tensors", {})
    return {"name": name, "op": op, "inputs": inputs, "tensors": tensors, "attrs": attrs}


@pytest.fixture(scope="session")
def small_graph() -> _core.Graph:
    """Convolution, residual block, pooling, dense layers; 1 x 8 x 8 inputs, 4 classes."""
    random = np.random.default_rng(0)

    def tensor(*shape: int) -> NDArray[np.float64]:
        return random.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:])))

    conv = {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1}
    pool = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0], "dilation": [1, 1]}
    nodes = [
        node("x", "input", [], shape=[1, 8, 8]),
        node("c1", "conv2d", [0], tensors={"weight": 0, "bias": 1}, **conv),
        node("r1", "relu", [1]),
        node("c2", "conv2d", [2], tensors={"weight": 2, "bias": 3}, **conv),
        node("s", "add", [2, 3]),
        node("t", "tanh", [4]),
        node("p", "max_pool2d", [5], **pool),
        node("f", "reshape", [6], shape=[64]),
        node("a1", "affine", [7], tensors={"weight": 4, "bias": 5}),
        node("r2", "leaky_relu", [8], slope=0.1),
        node("a2", "affine", [9], tensors={"weight": 6, "bias": 7}),
    ]
    shapes = [(4, 1, 3, 3), (4,), (4, 4, 3, 3), (4,), (10, 64), (10,), (4, 10), (4,)]
    tensors = [tensor(*shape) for shape in shapes]
    return _core.Graph(json.dumps({"nodes": nodes, "output": 10}), tensors)


@pytest.fixture(scope="session")
def small_model(small_graph: _core.Graph) -> GraphModel:
    return GraphModel(small_graph)


@pytest.fixture(scope="session")
def uncertifiable(small_graph: _core.Graph) -> GraphModel:
    return GraphModel(small_graph, certifiable=False)


@pytest.fixture(scope="session")
def small_samples(small_model: GraphModel) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Twelve inputs and the labels the model gives them."""
    x = np.random.default_rng(1).random((12, 1, 8, 8), dtype=np.float32)
    return x, small_model.logits(x).argmax(axis=1).astype(np.int64)
