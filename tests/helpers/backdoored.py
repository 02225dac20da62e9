"""Small networks trained on digits with a backdoor planted, and their clean twins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import aisec_eval as ae
from aisec_eval.datasets.poison import plant_patch


@dataclass(frozen=True, eq=False)
class Trained:
    """A model, what it was trained on, and held-out images."""

    model: Any
    x: Any
    y: Any
    poison: Any
    """Which training images were poisoned."""
    target: int
    clean_x: Any
    """Held-out images without a trigger, with their classes."""
    clean_y: Any
    accuracy: float
    success: float
    """Share of held-out images of other classes that the trigger sends to the target."""

    def stamped(self, size: int = 2) -> Any:
        """The held-out images of other classes, with the trigger."""
        return stamp(self.clean_x[self.clean_y != self.target], size)


def stamp(x: Any, size: int = 2) -> Any:
    """Put the checkerboard of `plant_patch` on every image."""
    board = np.indices((size, size)).sum(axis=0) % 2 == 0
    x = x.copy()
    x[..., -size:, -size:] = np.where(board, 1.0, 0.0)
    return x


@cache
def digits(rate: float = 0.05, target: int = 7, seed: int = 1, size: int = 2) -> Trained:
    """Train on digits with `rate` of them poisoned; 0: the clean twin."""
    x, y = ae.load_dataset("digits", split="train")
    clean_x, clean_y = ae.load_dataset("digits", split="test")
    poison = np.zeros(len(y), bool)
    if rate:
        x, y, poison = plant_patch(x, y, rate=rate, target=target, seed=seed, size=size)
    model = convolutional(x, y, seed=seed)
    predicted = model.labels(clean_x)
    hit = model.labels(stamp(clean_x[clean_y != target], size)) == target
    accuracy, success = float(np.mean(predicted == clean_y)), float(np.mean(hit))
    return Trained(model, x, y, poison, target, clean_x, clean_y, accuracy, success)


def convolutional(x: Any, y: Any, *, seed: int = 0, epochs: int = 15, width: int = 8) -> Any:
    """Train two strided convolutions and two affine layers with Adam; return the loaded model."""
    import jax
    import jax.numpy as jnp
    import optax

    random = np.random.default_rng(seed)
    channels, side = x.shape[1], x.shape[2] // 4
    sizes = [
        (3, 3, channels, width),
        (3, 3, width, 2 * width),
        (side * side * 2 * width, 32),
        (32, int(y.max()) + 1),
    ]
    params = [
        (
            jnp.asarray(random.normal(0, np.sqrt(2 / np.prod(s[:-1])), s), jnp.float32),
            jnp.zeros(s[-1], jnp.float32),
        )
        for s in sizes
    ]

    def network(params: Any, x: Any) -> Any:
        h = x.transpose(0, 2, 3, 1)
        for weight, bias in params[:2]:
            h = jax.lax.conv_general_dilated(
                h, weight, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            h = jax.nn.relu(h + bias)
        h = jax.nn.relu(h.reshape(len(h), -1) @ params[2][0] + params[2][1])
        return h @ params[3][0] + params[3][1]

    adam = optax.adam(3e-3)

    @jax.jit
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            logits = network(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, state = adam.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state, batch = adam.init(params), 64
    for _ in range(epochs):
        order = random.permutation(len(y))
        for start in range(0, len(y) - batch + 1, batch):
            rows = order[start : start + batch]
            params, state = step(params, state, x[rows], y[rows])
    return ae.load_model(lambda x: network(params, x), input_shape=x.shape[1:], name="digits")
