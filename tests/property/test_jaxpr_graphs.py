"""Random JAX networks, channels last and first: the lowered graph computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from aisec_eval.models.lowering import jaxpr

if TYPE_CHECKING:
    from collections.abc import Callable


def layer(rng: np.random.Generator, shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """One random layer for images of `shape` [H, W, C]."""
    h, w, c = shape

    def normal(*sizes: int) -> Any:
        return jnp.asarray(rng.standard_normal(sizes) / np.sqrt(np.prod(sizes[:-1])), jnp.float32)

    kernel, out = normal(3, 2, c, 2 * c), normal(c, 3)
    gain, shift = normal(c), normal(c)
    row, keep = int(rng.integers(h)), int(rng.integers(1, w + 1))
    last = ("NHWC", "HWIO", "NHWC")
    layers: list[Callable[[Any], Any]] = [
        lambda x: lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=last),
        lambda x: lax.conv_general_dilated(
            x, kernel, (2, 1), ((1, 1), (0, 2)), dimension_numbers=last, rhs_dilation=(1, 2)
        ),
        lambda x: gain * x + shift,
        lambda x: (x - x.mean(axis=(1, 2), keepdims=True)) / (1 + gain**2),
        lambda x: jax.nn.relu(x) - 0.5 * jnp.abs(x),
        lambda x: jax.nn.leaky_relu(jnp.clip(x, -2, 1.5), 0.2),
        lambda x: x + jnp.tanh(x @ out @ out.T),
        lambda x: lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 2, 1), ((0, 0), (1, 0), (0, 1), (0, 0))
        ),
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 1, 1), (1, 1, 1, 1), "SAME") / 2,
        lambda x: jnp.concatenate([x, jax.nn.sigmoid(x[:, ::-1])], axis=3),
        lambda x: x[:, :, :keep] - x[:, row, None, :keep],
        lambda x: x.transpose(0, 2, 1, 3),
        lambda x: x.transpose(0, 3, 1, 2),
        lambda x: jnp.maximum(x, x.max(axis=3, keepdims=True) - 1),
        lambda x: jnp.where(x > 0.1, x, 0.3 * x + 0.07),
    ]
    return layers[int(rng.integers(len(layers)))]


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(d) for d in rng.integers(2, 6, 3))
    chain: list[Callable[[Any], Any]] = []
    current = shape
    for _ in range(5):
        step = layer(rng, current)
        after = jax.eval_shape(step, jax.ShapeDtypeStruct((1, *current), np.float32)).shape[1:]
        if min(after) >= 1 and np.prod(after) <= 512:
            chain.append(step)
            current = after
    head = jnp.asarray(rng.standard_normal((int(np.prod(current)), 3)), jnp.float32)

    def network(x: Any) -> Any:
        for step in chain:
            x = step(x)
        return x.reshape(x.shape[0], -1) @ head

    graph = jaxpr.lower(jaxpr.trace(network, (1, *shape), "net")).to_core()
    x = 2 * rng.standard_normal((3, *shape)).astype(np.float32)
    expected = np.asarray(jax.jit(network)(x))
    assert np.abs(graph.forward(x) - expected).max() <= 1e-4 * np.abs(expected).max()
