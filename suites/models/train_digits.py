"""Train the two quickstart classifiers on scikit-learn's digits and write them as ONNX.

    python suites/models/train_digits.py            # writes both files beside this script
    python suites/models/train_digits.py --check    # trains again, compares with the files

Both have one architecture (two strided 3x3 convolutions, one hidden layer, ReLU) and one budget
of steps. `digits_normal` minimises cross-entropy on shifted digits. `digits_adversarial` minimises
a mix of two upper estimates of the worst loss in an Linf ball: the loss at a PGD point (Madry et
al. 2018, arXiv:1706.06083) and the loss of interval bounds (Gowal et al. 2018, arXiv:1810.12715);
the first keeps attacks out, the second lets a certifier see that they are out.

Every random number comes from `SEED` and the number of steps is fixed, so the same machine with the
same package versions writes the same bytes. Another processor adds in another order: there the
accuracies agree, not the bytes. Takes about a minute.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, random

import aisec_eval as ae

SEED = 7
STEPS = 2400
BATCH = 128
WIDTHS = (24, 48, 96)
EPS = 0.12
"""Linf radius the adversarial model is trained for, in input units (pixels are in [0, 1])."""
PGD_STEPS = 7
INTERVAL_WEIGHT = 0.15
"""Share of the interval loss once the radius has grown to EPS."""
OPTIMISER = optax.adamw(optax.cosine_decay_schedule(3e-3, STEPS), weight_decay=1e-4)
HERE = Path(__file__).resolve().parent

Params = dict[str, jax.Array]


def initial(key: jax.Array) -> Params:
    """He-normal weights and zero biases for conv-conv-dense-dense."""
    c1, c2, hidden = WIDTHS
    shapes = {
        "conv1": (c1, 1, 3, 3),
        "conv2": (c2, c1, 3, 3),
        "dense1": (hidden, c2 * 4),
        "dense2": (10, hidden),
    }
    params: Params = {}
    for name, shape in shapes.items():
        key, sub = random.split(key)
        scale = np.sqrt(2 / np.prod(shape[1:]))
        params[f"{name}.weight"] = scale * random.normal(sub, shape)
        params[f"{name}.bias"] = jnp.zeros(shape[0])
    return params


def conv(x: jax.Array, weight: jax.Array) -> jax.Array:
    """3x3 convolution, stride 2, one pixel of padding; NCHW."""
    return lax.conv_general_dilated(
        x, weight, (2, 2), [(1, 1), (1, 1)], dimension_numbers=("NCHW", "OIHW", "NCHW")
    )


def layers(params: Params) -> list[tuple[Any, jax.Array, jax.Array]]:
    """Return each layer's linear map, weight and broadcastable bias, in order."""

    def dense(x: jax.Array, weight: jax.Array) -> jax.Array:
        return x.reshape(len(x), -1) @ weight.T

    return [
        (
            conv if name.startswith("conv") else dense,
            params[f"{name}.weight"],
            params[f"{name}.bias"].reshape((-1, 1, 1) if name.startswith("conv") else (-1,)),
        )
        for name in ("conv1", "conv2", "dense1", "dense2")
    ]


def logits(params: Params, x: jax.Array) -> jax.Array:
    """Logits [n, 10] of images [n, 1, 8, 8]."""
    *hidden, (apply, weight, bias) = layers(params)
    for f, w, b in hidden:
        x = jax.nn.relu(f(x, w) + b)
    return apply(x, weight) + bias


def worst_logits(params: Params, lower: jax.Array, upper: jax.Array, y: jax.Array) -> jax.Array:
    """Interval bounds: lower for the true class, upper for the others [n, 10]."""
    centre, radius = (upper + lower) / 2, (upper - lower) / 2
    *hidden, (apply, weight, bias) = layers(params)
    for f, w, b in hidden:
        centre, radius = f(centre, w) + b, f(radius, jnp.abs(w))
        low, high = jax.nn.relu(centre - radius), jax.nn.relu(centre + radius)
        centre, radius = (high + low) / 2, (high - low) / 2
    true = jax.nn.one_hot(y, 10, dtype=bool)
    centre, radius = apply(centre, weight) + bias, apply(radius, jnp.abs(weight))
    return jnp.where(true, centre - radius, centre + radius)


def cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()


def pgd(params: Params, x: jax.Array, y: jax.Array, key: jax.Array, eps: jax.Array) -> jax.Array:
    """Projected gradient ascent on the loss, random start, step eps * 2.5 / PGD_STEPS."""
    lower, upper = jnp.maximum(x - eps, 0), jnp.minimum(x + eps, 1)
    adv = random.uniform(key, x.shape, minval=lower, maxval=upper)
    for _ in range(PGD_STEPS):
        gradient = jax.grad(lambda a: cross_entropy(logits(params, a), y))(adv)
        adv = jnp.clip(adv + eps * (2.5 / PGD_STEPS) * jnp.sign(gradient), lower, upper)
    return adv


def shifted(x: jax.Array, key: jax.Array) -> jax.Array:
    """Move each image by up to one pixel in each direction, filling with background."""
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    offsets = random.randint(key, (len(x), 2), 0, 3)
    return jax.vmap(lambda image, o: lax.dynamic_slice(image, (0, o[0], o[1]), (1, 8, 8)))(
        padded, offsets
    )


@partial(jax.jit, static_argnames="adversarial")
def step(
    params: Params,
    state: Any,
    x: jax.Array,
    y: jax.Array,
    key: jax.Array,
    progress: jax.Array,
    *,
    adversarial: bool,
) -> tuple[Params, Any, jax.Array]:
    """One optimiser step on a batch; `progress` in [0, 1] sets the radius and the mix."""
    shift_key, start_key = random.split(key)
    x = shifted(x, shift_key)
    ramp = jnp.clip(progress / 0.6, 0, 1)
    eps = EPS * ramp
    adv = pgd(params, x, y, start_key, eps) if adversarial else x

    def loss(p: Params) -> jax.Array:
        attacked = cross_entropy(logits(p, adv), y)
        if not adversarial:
            return attacked
        bounds = worst_logits(p, jnp.maximum(x - eps, 0), jnp.minimum(x + eps, 1), y)
        share = INTERVAL_WEIGHT * ramp
        return (1 - share) * attacked + share * cross_entropy(bounds, y)

    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = OPTIMISER.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value


def train(x: np.ndarray, y: np.ndarray, *, adversarial: bool) -> Params:
    """Train from SEED for STEPS steps; the same arguments give the same parameters."""
    rng = np.random.default_rng(SEED)
    key = random.key(SEED)
    params = initial(random.fold_in(key, STEPS))
    state = OPTIMISER.init(params)
    order = np.concatenate([rng.permutation(len(x)) for _ in range(1 + STEPS * BATCH // len(x))])
    for i in range(STEPS):
        rows = order[i * BATCH : (i + 1) * BATCH]
        params, state, _ = step(
            params,
            state,
            x[rows],
            y[rows],
            random.fold_in(key, i),
            jnp.float32(i / STEPS),
            adversarial=adversarial,
        )
    return params


def to_onnx(params: Params, name: str) -> bytes:
    """Serialise as ONNX opset 17: `input` [N, 1, 8, 8] in [0, 1] to `logits` [N, 10]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    def conv_node(source: str, layer: str) -> Any:
        inputs = [source, f"{layer}.weight", f"{layer}.bias"]
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        return helper.make_node("Conv", inputs, [layer], layer, **window)

    def dense_node(source: str, layer: str, output: str) -> Any:
        inputs = [source, f"{layer}.weight", f"{layer}.bias"]
        return helper.make_node("Gemm", inputs, [output], layer, transB=1)

    nodes = [
        conv_node("input", "conv1"),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        conv_node("relu1", "conv2"),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("Flatten", ["relu2"], ["flat"], "flat", axis=1),
        dense_node("flat", "dense1", "dense1"),
        helper.make_node("Relu", ["dense1"], ["relu3"], "relu3"),
        dense_node("relu3", "dense2", "logits"),
    ]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 8, 8])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    weights = [
        numpy_helper.from_array(np.asarray(value, dtype=np.float32), key)
        for key, value in sorted(params.items())
    ]
    graph = helper.make_graph(nodes, name, [image], [output], weights)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="aisec_eval suites/models/train_digits.py",
    )
    checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def main() -> int:
    """Train both models; write them, or with --check compare them with the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    if hasattr(os, "sched_setaffinity"):
        # XLA splits sums by the number of threads; on one core the bytes depend on no such number.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    train_data, test_data = (ae.load_dataset("digits", split=s) for s in ("train", "test"))
    (x, y), (x_test, y_test) = train_data, test_data
    different = 0
    for name, adversarial in (("digits_normal", False), ("digits_adversarial", True)):
        start = time.perf_counter()
        params = train(np.asarray(x), np.asarray(y), adversarial=adversarial)
        accuracy = float(np.mean(np.argmax(logits(params, x_test), axis=1) == y_test))
        took = time.perf_counter() - start
        data, path = to_onnx(params, name), HERE / f"{name}.onnx"
        if check:
            same = path.is_file() and path.read_bytes() == data
            different += not same
            outcome = "identical to" if same else "differs from"
        else:
            path.write_bytes(data)
            outcome = "written to"
        print(f"{name}: test accuracy {accuracy:.1%}, {took:.0f} s, {outcome} {path.name}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
