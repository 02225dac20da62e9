"""Lowering of JAX functions: what each layer traces to, and that the graph computes the same."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax import numpy as jnp

from aisec_eval.errors import ModelImportError, UnsupportedOperationError
from aisec_eval.models import load_model
from aisec_eval.models.lowering import jaxpr
from aisec_eval.models.lowering.to_jax import to_jax

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "jaxpr_primitives.json"
KEY = jax.random.key(0)
IMAGE = (6, 6, 4)
FIRST = (4, 6, 6)


def module(build: Callable[[nnx.Rngs], Any]) -> Callable[[Any], Any]:
    """A flax layer in evaluation mode with parameters that are not their neutral initial values."""
    layer = build(nnx.Rngs(0))
    layer.eval()
    graphdef, state = nnx.split(layer)
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(KEY, len(leaves))
    noise = [
        leaf + 0.3 * jax.random.uniform(key, leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
        else leaf
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    state = jax.tree.unflatten(tree, noise)
    return lambda x: nnx.merge(graphdef, state)(x)


def vmapped(layer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return jax.vmap(layer)


W = np.asarray(np.random.default_rng(0).standard_normal((6, 5)), np.float32)
KERNEL = W.T[:, :4].reshape(5, 4, 1, 1)

# Layer: the function, one sample's shape.
LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "nnx.Linear": (module(lambda r: nnx.Linear(6, 5, rngs=r)), (6,)),
    "nnx.Conv": (module(lambda r: nnx.Conv(4, 3, (3, 3), rngs=r)), IMAGE),
    "nnx.Conv strided": (
        module(lambda r: nnx.Conv(4, 6, (3, 2), strides=2, padding="VALID", rngs=r)),
        IMAGE,
    ),
    "nnx.Conv grouped, dilated": (
        module(lambda r: nnx.Conv(4, 6, (2, 2), feature_group_count=2, kernel_dilation=2, rngs=r)),
        IMAGE,
    ),
    "nnx.BatchNorm": (module(lambda r: nnx.BatchNorm(4, rngs=r)), IMAGE),
    "nnx.Dropout": (module(lambda r: nnx.Sequential(nnx.Dropout(0.5, rngs=r))), (6,)),
    "nnx.relu": (nnx.relu, IMAGE),
    "nnx.leaky_relu": (nnx.leaky_relu, IMAGE),
    "nnx.sigmoid": (nnx.sigmoid, IMAGE),
    "nnx.tanh": (nnx.tanh, IMAGE),
    "nnx.hard_tanh by clip": (lambda x: jnp.clip(x, -1, 1), IMAGE),
    "nnx.relu6": (jax.nn.relu6, IMAGE),
    "nnx.avg_pool": (lambda x: nnx.avg_pool(x, (2, 2), strides=(2, 2)), IMAGE),
    "nnx.avg_pool same": (
        lambda x: nnx.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False),
        IMAGE,
    ),
    "nnx.max_pool": (lambda x: nnx.max_pool(x, (3, 3), strides=(2, 2), padding="SAME"), IMAGE),
    "eqx.Linear": (vmapped(eqx.nn.Linear(6, 5, key=KEY)), (6,)),
    "eqx.Conv2d": (vmapped(eqx.nn.Conv2d(4, 3, 3, stride=2, padding=1, key=KEY)), FIRST),
    "eqx.Conv1d": (vmapped(eqx.nn.Conv1d(4, 3, 3, key=KEY)), (4, 9)),
    "eqx.MaxPool2d": (vmapped(eqx.nn.MaxPool2d(2, 2)), FIRST),
    "eqx.AvgPool2d": (vmapped(eqx.nn.AvgPool2d(2, 2)), FIRST),
    "eqx.AdaptiveAvgPool2d": (vmapped(eqx.nn.AdaptiveAvgPool2d(1)), FIRST),
    "eqx.PReLU": (vmapped(eqx.nn.PReLU(0.3)), FIRST),
    "eqx.MLP": (vmapped(eqx.nn.MLP(6, 5, 8, 2, key=KEY)), (6,)),
    "flatten": (lambda x: x.reshape(x.shape[0], -1), IMAGE),
    "global mean": (lambda x: x.mean(axis=(1, 2)), IMAGE),
    "global max": (lambda x: x.max(axis=(1, 2)), IMAGE),
    "minimum over channels": (lambda x: x.min(axis=3), IMAGE),
    "normalise": (lambda x: (x - jnp.arange(4.0)) / jnp.array([0.5, 2, 1, 3]), IMAGE),
    "residual": (lambda x: x - nnx.relu(x[:, :1]), IMAGE),
    "maximum of two": (lambda x: jnp.maximum(x, -2 * x) + jnp.minimum(x, 0.3), IMAGE),
    "abs": (jnp.abs, IMAGE),
    "where": (lambda x: jnp.where(x < 0.5, 2 * x, 0.5 + x), IMAGE),
    "where by mask": (lambda x: jnp.where(jnp.arange(4) % 2 == 0, x, -x), IMAGE),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.25), IMAGE),
    "pad and crop": (lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)))[:, 1:, ::2], IMAGE),
    "negative padding": (
        lambda x: lax.pad(x, 0.0, ((0, 0, 0), (-1, 2, 0), (0, -2, 0), (0, 0, 0))),
        IMAGE,
    ),
    "flip": (lambda x: jnp.flip(x, (1, 2)), IMAGE),
    "split and concatenate": (
        lambda x: jnp.concatenate(jnp.split(x, 2, axis=3)[::-1], axis=1),
        IMAGE,
    ),
    "gather": (lambda x: x[:, :, jnp.array([3, 0, 4])], IMAGE),
    "index": (lambda x: x[:, 2, :, -1], IMAGE),
    "transpose": (lambda x: x.transpose(0, 3, 1, 2), IMAGE),
    "broadcast": (lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], 3, 6)), (6,)),
    "einsum": (lambda x: jnp.einsum("bhwc,cd->bdhw", x, W[:4]), IMAGE),
    "matrix on the left": (lambda x: jnp.einsum("io,bi->bo", W, x), (6,)),
    "contraction of two axes": (
        lambda x: jnp.tensordot(x, W[:, :4], axes=((1, 3), (0, 1))),
        IMAGE,
    ),
    "jit and remat": (jax.jit(jax.checkpoint(lambda x: nnx.relu(x @ W))), (6,)),
    "custom_vjp": (None, (6,)),  # type: ignore[dict-item]
    "stop_gradient": (lambda x: lax.stop_gradient(x) @ W, (6,)),
    "constants": (lambda x: x @ (jnp.exp(W) / jnp.sqrt(1 + W**2)), (6,)),
    "channels-first convolution": (
        lambda x: lax.conv_general_dilated(
            x, KERNEL, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NHWC")
        ),
        FIRST,
    ),
}


@jax.custom_vjp
def rounded(x: Any) -> Any:
    return nnx.relu(x)


rounded.defvjp(lambda x: (nnx.relu(x), None), lambda _, g: (g,))
LAYERS["custom_vjp"] = (rounded, (6,))


@cache
def traced(layer: str) -> jaxpr.Traced:
    function, shape = LAYERS[layer]
    return jaxpr.trace(function, (1, *shape), layer)


def golden() -> dict[str, list[str]]:
    return dict(json.loads(GOLDEN.read_text()))


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_computes_the_same(layer: str) -> None:
    function, shape = LAYERS[layer]
    graph = jaxpr.lower(traced(layer)).to_core()
    x = 2 * np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    expected = np.asarray(jax.jit(function)(x))
    assert graph.output_shape == expected.shape[1:]
    scale = np.abs(expected).max()
    assert np.abs(graph.forward(x) - expected).max() <= 1e-5 * scale + 1e-6


@pytest.mark.parametrize("wrong", ["tanh", "reduce_window_max", "dot_general"])
def test_wrong_lowering_names_the_first_node(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the layout of the network (channels last) is not that of the graph."""
    layers = [LAYERS[k][0] for k in ("nnx.Conv", "nnx.tanh", "nnx.max_pool", "flatten")]

    def network(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x @ jnp.ones((27, 3))

    right = jaxpr.OPERATORS[wrong]
    monkeypatch.setitem(
        jaxpr.OPERATORS, wrong, lambda e, p, *x: e.binary("mul", right(e, p, *x), 1.001)
    )
    with pytest.raises(ModelImportError, match=rf'first at node "{wrong}\.\d+"'):
        load_model(network, input_shape=IMAGE)


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_traces_to_the_primitives_it_did(layer: str) -> None:
    """Fails when a JAX upgrade changes what a layer is made of.

    If `test_layer_computes_the_same` still passes for it, regenerate with
    AISEC_EVAL_REGENERATE=1 pytest tests/unit/models/test_jaxpr_lowering.py
    """
    primitives = traced(layer).primitives
    if os.environ.get("AISEC_EVAL_REGENERATE"):
        known = golden() if GOLDEN.exists() else {}
        known[layer] = primitives
        text = json.dumps({k: known[k] for k in LAYERS if k in known}, indent=1)
        GOLDEN.write_text(text.replace('\n  "', ' "').replace("\n ]", " ]") + "\n")
    assert primitives == golden()[layer]


def _attention(x: Any) -> Any:
    q, k, v = (jnp.tanh(x.reshape(-1, 3, 2) + c) for c in (0.0, 0.5, 1.0))
    return jax.nn.softmax(jnp.einsum("bid,bjd->bij", q, k), axis=-1) @ v


def _norm(x: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-3)


BENT: dict[str, Callable[[Any], Any]] = {
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu by tanh": jax.nn.gelu,
    "softplus": jax.nn.softplus,
    "product": lambda x: jnp.einsum("bi,bj->bij", x, jnp.sin(x)),
    "powers": lambda x: x**3 + (x**2 + 1) ** -2 + jnp.sqrt(x**2 + 0.1),
    "sign": lambda x: jnp.sign(x) * jnp.cos(x),
    "attention": _attention,
    "layer norm": _norm,
}


@pytest.mark.parametrize("case", BENT)
def test_functions_that_bend_are_lowered(case: str) -> None:
    function = BENT[case]
    spec = jaxpr.lower(jaxpr.trace(function, (1, 6), case))
    assert spec.not_native is None
    apply, params = to_jax(spec)
    x = np.asarray(jax.random.normal(KEY, (5, 6)), np.float32)
    expected = np.asarray(function(x)).reshape(5, -1)
    assert np.allclose(np.asarray(apply(params, x)).reshape(5, -1), expected, rtol=1e-4, atol=1e-5)


NOT_LOWERED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "step": (lambda x: jnp.where(x > 0, x + 1, x), "two sides do not meet"),
    "other": (lambda x: jnp.where(x > 0, x, x[:, ::-1]), "functions of different values"),
    "equal": (lambda x: jnp.where(x != x[:, ::-1], x, 0.0), "a comparison for equality"),
    "power": (lambda x: jnp.abs(x) ** 0.3, "operator pow"),
    "loop": (lambda x: lax.fori_loop(0, 3, lambda _, v: v + x, x), "operator scan"),
    "half": (lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), "to bfloat16"),
    "argmax": (lambda x: x + x.argmax(), "operator argmax"),
    "constant": (lambda x: jnp.zeros((x.shape[0], 3)), "does not depend on the input"),
}


@pytest.mark.parametrize("case", NOT_LOWERED)
def test_what_is_not_lowered_is_named(case: str) -> None:
    function, part = NOT_LOWERED[case]
    program = jaxpr.trace(function, (1, 6), case)
    with pytest.raises(UnsupportedOperationError) as caught:
        jaxpr.lower(program)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_message_points_at_the_users_line() -> None:
    def network(x: Any) -> Any:
        return jnp.floor(x)

    with pytest.raises(UnsupportedOperationError, match=r"floor \(test_jaxpr_lowering\.py:\d+"):
        jaxpr.lower(jaxpr.trace(network, (1, 6), "network"))


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda x: x @ np.zeros((3, 2)), "JAX cannot trace it on float32 [1, 6]"),
        (lambda x: (x, x), "expected one float array"),
        (lambda x: x.argmax(axis=1), "expected one float array"),
    ],
)
def test_functions_that_are_not_models(function: Any, part: str) -> None:
    with pytest.raises(ModelImportError) as caught:
        jaxpr.trace(function, (1, 6), "net")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_digest_depends_on_program_and_constants() -> None:
    def digest(scale: float, function: Callable[[Any], Any]) -> str:
        w = jnp.asarray(scale * W)
        return jaxpr.trace(lambda x: function(x @ w), (1, 6), "net").digest

    assert digest(1.0, jax.nn.silu) == digest(1.0, jax.nn.silu)
    assert digest(1.0, jax.nn.silu) != digest(2.0, jax.nn.silu)
    assert digest(1.0, jax.nn.silu) != digest(1.0, jax.nn.softmax)
