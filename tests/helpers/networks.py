"""Small models made by hand: a native graph, and the same function in JAX."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from aisec_eval._core import Graph
from aisec_eval.models.base import Capabilities, LoadReport, Model


class LayeredModel(Model):
    """Affine layers with ReLU between them, acting on the flattened sample.

    `native` and `jax` say what the model offers; the function is the same.
    """

    def __init__(
        self,
        layers: list[tuple[Any, Any]],
        input_shape: tuple[int, ...],
        *,
        native: bool = True,
        jax: bool = True,
    ) -> None:
        self.affine = [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in layers]
        self.name, self.digest = "layered", "0"
        self.input_shape = input_shape
        self.num_classes = len(self.affine[-1][1])
        self.capabilities = Capabilities(gradient=native or jax, graph=native)
        self.report = LoadReport()
        self.calls: list[int] = []
        self._jax = jax
        self._built = self._build()
        self._graph = self._built if native else None

    def _build(self) -> Graph:
        flat = int(np.prod(self.input_shape))
        nodes = [
            {"name": "x", "op": "input", "attrs": {"shape": list(self.input_shape)}},
            {"name": "flat", "op": "reshape", "inputs": [0], "attrs": {"shape": [flat]}},
        ]
        tensors = []
        for i, (weight, bias) in enumerate(self.affine):
            if i:
                nodes.append({"name": f"relu{i}", "op": "relu", "inputs": [len(nodes) - 1]})
            where = {"weight": len(tensors), "bias": len(tensors) + 1}
            tensors += [weight, bias]
            nodes.append(
                {"name": f"fc{i}", "op": "affine", "inputs": [len(nodes) - 1], "tensors": where}
            )
        return Graph(json.dumps({"nodes": nodes, "output": len(nodes) - 1}), tensors)

    @property
    def graph(self) -> Graph | None:
        return self._graph

    def logits(self, x: Any) -> Any:
        self.calls.append(len(x))
        return self._built.forward(np.ascontiguousarray(x))

    def jax_function(self) -> Any:
        return (_apply, self.affine) if self._jax else None


def _apply(layers: Any, x: Any) -> Any:
    import jax.numpy as jnp

    x = x.reshape(len(x), -1)
    for i, (weight, bias) in enumerate(layers):
        x = jnp.maximum(x, 0) if i else x
        x = x @ weight.T + bias
    return x


def random_model(
    seed: int, input_shape: tuple[int, ...], classes: int = 3, **options: Any
) -> LayeredModel:
    """Return a network of one hidden layer with weights of order one."""
    rng = np.random.default_rng(seed)
    n, hidden = int(np.prod(input_shape)), 16
    layers = [
        (rng.normal(size=(hidden, n)) / np.sqrt(n) * 2, rng.normal(size=hidden) * 0.3),
        (rng.normal(size=(classes, hidden)) / np.sqrt(hidden), rng.normal(size=classes) * 0.1),
    ]
    return LayeredModel(layers, input_shape, **options)


def random_samples(model: Model, n: int, seed: int = 0) -> tuple[Any, Any]:
    """Return inputs in [0, 1] and the labels the model gives them."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, *model.input_shape), dtype=np.float32)
    return x, np.argmax(model.logits(x), axis=1).astype(np.int64)
