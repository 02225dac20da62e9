"""What attacks and measurements train: any JAX classifier, and a small reference trainer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import CapabilityError, InputError
from ..images import image_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Params = Any
    Apply = Callable[[Params, Any], Any]

_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier with its weights apart, so that gradients can be taken by either.

    Any JAX model can be given as one: `apply(params, x)` takes inputs [n, *input] to logits
    [n, classes], is differentiable, and treats each input by itself.
    """

    apply: Apply
    params: Params

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits [n, classes]."""
        import jax

        run = _jitted(self.apply)
        blocks = []
        for first in range(0, len(x), _BLOCK):
            part = np.asarray(x[first : first + _BLOCK], dtype=np.float32)
            # One shape, one compilation.
            padded = np.zeros((_BLOCK, *part.shape[1:]), np.float32)
            padded[: len(part)] = part
            blocks.append(np.asarray(run(self.params, padded))[: len(part)])
        if not blocks:
            one = np.zeros((1, *x.shape[1:]), np.float32)
            logits = jax.eval_shape(self.apply, self.params, one)
            return np.zeros((0, *logits.shape[1:]), np.float32)
        return np.concatenate(blocks)


@dataclass(frozen=True)
class ReferenceTrainer:
    """Trains a small network from scratch: Adam on the cross-entropy, one shuffle an epoch.

    Meant for data that a laptop learns in seconds; a trainer of one's own is any function
    `(x, y, seed) -> model`. The result depends on the data, their order and the seed alone.
    """

    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers, ReLU between."""
    channels: tuple[int, ...] = ()
    """Of 3x3 convolutions with stride 2 before them, for images; none by default."""
    epochs: int = 30
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not self.learning_rate > 0:
            raise InputError("epochs, batch and learning_rate must be positive")

    def __call__(self, x: NDArray[np.float32], y: NDArray[np.int64], seed: int = 0) -> Network:
        """Train on inputs [n, *input] and labels 0, 1, ... [n].

        Raises:
            InputError: labels are negative, or convolutions are asked for and x holds no images.
            CapabilityError: optax is not installed.
        """
        import jax

        if len(x) != len(y) or len(y) == 0 or y.min() < 0:
            raise InputError("the trainer needs inputs [n, ...] and a label 0, 1, ... for each")
        if self.channels and image_shape(x.shape[1:]) is None:
            raise InputError(f"inputs of shape {list(x.shape[1:])} are no images to convolve")
        x, classes = np.asarray(x, dtype=np.float32), int(y.max()) + 1
        apply = _architecture(len(self.channels), len(self.hidden) + 1)
        start, key = jax.random.split(jax.random.key(seed))
        params = self._start(start, x.shape[1:], classes)
        initial, step = _optimiser(apply, self.learning_rate, self.weight_decay)
        state = initial(params)
        batch = min(self.batch, len(y))
        for epoch in range(self.epochs):
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), len(y)))
            for first in range(0, len(y) - batch + 1, batch):
                rows = order[first : first + batch]
                params, state = step(params, state, x[rows], y[rows])
        return Network(apply, params)

    def _start(self, key: Any, shape: tuple[int, ...], classes: int) -> Params:
        """He initialisation."""
        import jax
        import jax.numpy as jnp

        sizes: list[tuple[int, ...]] = []
        width = int(np.prod(shape))
        if self.channels:
            image = image_shape(shape)
            assert image is not None  # noqa: S101 - checked by the caller
            deep, height, wide = image
            for channels in self.channels:
                sizes.append((3, 3, deep, channels))
                deep, height, wide = channels, -(-height // 2), -(-wide // 2)
            width = deep * height * wide
        for out in (*self.hidden, classes):
            sizes.append((width, out))
            width = out
        keys = jax.random.split(key, len(sizes))
        return [
            (
                jax.random.normal(k, size) * np.sqrt(2 / np.prod(size[:-1])).astype(np.float32),
                jnp.zeros(size[-1]),
            )
            for k, size in zip(keys, sizes, strict=True)
        ]


@lru_cache
def _architecture(convolutions: int, dense: int) -> Apply:
    def apply(params: Params, x: Any) -> Any:
        import jax

        if convolutions:
            x = _channels_last(x)
            for weight, bias in params[:convolutions]:
                x = jax.lax.conv_general_dilated(
                    x, weight, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                x = jax.nn.relu(x + bias)
        x = x.reshape(len(x), -1)
        for number, (weight, bias) in enumerate(params[convolutions:], start=1):
            x = x @ weight + bias
            if number < dense:
                x = jax.nn.relu(x)
        return x

    return apply


def _channels_last(x: Any) -> Any:
    shape = image_shape(x.shape[1:])
    if x.ndim == 3:
        return x[..., None]
    return x if shape == (x.shape[3], *x.shape[1:3]) else x.transpose(0, 2, 3, 1)


@lru_cache
def _jitted(apply: Apply) -> Any:
    import jax

    return jax.jit(apply)


@lru_cache
def _optimiser(apply: Apply, learning_rate: float, weight_decay: float) -> tuple[Any, Any]:
    import jax

    optax = import_optax()
    rule = optax.adamw(learning_rate, weight_decay=weight_decay)

    def loss(params: Params, x: Any, y: Any) -> Any:
        return cross_entropy(apply(params, x), y).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Params, state: Any, x: Any, y: Any) -> tuple[Params, Any]:
        gradient = jax.grad(loss)(params, x, y)
        update, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, update), state

    return rule.init, step


def cross_entropy(logits: Any, y: Any) -> Any:
    """Return the loss of each sample [n], of logits [n, classes] and labels [n]."""
    import jax
    import jax.numpy as jnp

    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]


def import_optax() -> Any:
    """Return the module optax.

    Raises:
        CapabilityError: it is not installed.
    """
    try:
        import optax
    except ImportError:
        raise CapabilityError(
            'the reference trainer needs optax, which is missing: pip install "aisec-eval[train]"'
        ) from None
    return optax
