"""Runs the IR under JAX: one rule an operator, parameters as arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from aisec_eval.errors import UnsupportedOperationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ir import GraphSpec

Params = tuple[dict[str, Any], ...]


@overload
def to_jax(spec: GraphSpec) -> tuple[Callable[[Params, Any], Any], Params]: ...


@overload
def to_jax(
    spec: GraphSpec, wanted: tuple[int, ...]
) -> tuple[Callable[[Params, Any], tuple[Any, ...]], Params]: ...


def to_jax(
    spec: GraphSpec, wanted: tuple[int, ...] | None = None
) -> tuple[Callable[[Params, Any], Any], Params]:
    """Return `(apply, params)`: `apply(params, x)` maps x [batch, *input] to [batch, *output].

    `apply` is pure and traceable. `params` holds one dict of float32 tensors a node, so that
    networks of the same architecture share one compilation. Where nodes are `wanted`, it gives a
    tuple of their values instead of the output.
    """
    import jax

    rules = _rules()
    for node in spec.nodes:
        if node.op != "input" and node.op not in rules:
            raise UnsupportedOperationError(f"{node.source or node.op}: no JAX rule for {node.op}")

    nodes, kept = spec.nodes, (spec.output,) if wanted is None else wanted
    last_use = {i: index for index, node in enumerate(nodes) for i in node.inputs}
    last_use |= dict.fromkeys(kept, len(nodes))

    def apply(params: Params, x: Any) -> Any:
        values: dict[int, Any] = {0: x}
        for index, node in enumerate(nodes[1:], start=1):
            inputs = [values[i] for i in node.inputs]
            values[index] = rules[node.op](node, params[index], x.shape[0], *inputs)
            for used in set(node.inputs):
                if last_use[used] == index:
                    del values[used]
        return values[spec.output] if wanted is None else tuple(values[i] for i in wanted)

    params = tuple(
        {key: jax.numpy.asarray(np.asarray(t, dtype=np.float32)) for key, t in node.tensors.items()}
        for node in spec.nodes
    )
    return apply, params


def _rules() -> dict[str, Callable[..., Any]]:
    """Return `rule(node, params, batch, *inputs)` for each operator; imports JAX."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    exact = lax.Precision.HIGHEST

    def pairs(node: Any) -> list[tuple[int, int]]:
        top, left, bottom, right = node.attrs["padding"]
        return [(top, bottom), (left, right)]

    def constant(node: Any, p: Any, batch: int) -> Any:
        return jnp.broadcast_to(p["value"], (batch, *node.shape))

    def affine(_n: Any, p: Any, _b: int, x: Any) -> Any:
        return jnp.matmul(x, p["weight"].T, precision=exact) + p["bias"]

    def conv2d(node: Any, p: Any, _b: int, x: Any) -> Any:
        y = lax.conv_general_dilated(
            x,
            p["weight"],
            window_strides=tuple(node.attrs["stride"]),
            padding=pairs(node),
            rhs_dilation=tuple(node.attrs["dilation"]),
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
            feature_group_count=node.attrs["groups"],
            precision=exact,
        )
        return y + p["bias"][:, None, None]

    def window_sum(x: Any, node: Any) -> Any:
        kernel, stride = (1, 1, *node.attrs["kernel"]), (1, 1, *node.attrs["stride"])
        return lax.reduce_window(x, 0.0, lax.add, kernel, stride, [(0, 0), (0, 0), *pairs(node)])

    def avg_pool2d(node: Any, _p: Any, _b: int, x: Any) -> Any:
        if node.attrs["count_include_pad"]:
            return window_sum(x, node) / float(np.prod(node.attrs["kernel"]))
        return window_sum(x, node) / window_sum(jnp.ones((1, 1, *x.shape[2:]), x.dtype), node)

    def max_pool2d(node: Any, _p: Any, _b: int, x: Any) -> Any:
        return lax.reduce_window(
            x,
            -jnp.inf,
            lax.max,
            (1, 1, *node.attrs["kernel"]),
            (1, 1, *node.attrs["stride"]),
            [(0, 0), (0, 0), *pairs(node)],
            window_dilation=(1, 1, *node.attrs["dilation"]),
        )

    def pad(node: Any, _p: Any, _b: int, x: Any) -> Any:
        widths = zip(node.attrs["before"], node.attrs["after"], strict=True)
        value = jnp.asarray(node.attrs["value"], x.dtype)
        return lax.pad(x, value, [(0, 0, 0), *((b, a, 0) for b, a in widths)])

    def slice_(node: Any, _p: Any, _b: int, x: Any) -> Any:
        spans = zip(node.attrs["starts"], node.attrs["counts"], node.attrs["steps"], strict=True)
        index: list[slice] = [slice(None)]
        for start, count, step in spans:
            stop = start + step * count
            index.append(slice(start, stop if stop >= 0 else None, step))
        return x[tuple(index)]

    def mul(node: Any, _p: Any, _b: int, x: Any, y: Any) -> Any:
        rank = len(node.shape) + 1
        x, y = (v.reshape((v.shape[0], *(1,) * (rank - v.ndim), *v.shape[1:])) for v in (x, y))
        return x * y

    def unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda _n, _p, _b, x: function(x)

    def binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        return lambda _n, _p, _b, x, y: function(x, y)

    return {
        "constant": constant,
        "affine": affine,
        "conv2d": conv2d,
        "add_const": lambda _n, p, _b, x: x + p["value"],
        "mul_const": lambda _n, p, _b, x: x * p["value"],
        "div_const": lambda _n, p, _b, x: x / p["value"],
        "add": binary(jnp.add),
        "sub": binary(jnp.subtract),
        "reshape": lambda n, _p, b, x: x.reshape((b, *n.shape)),
        "transpose": lambda n, _p, _b, x: x.transpose((0, *(a + 1 for a in n.attrs["perm"]))),
        "pad": pad,
        "avg_pool2d": avg_pool2d,
        "max_pool2d": max_pool2d,
        "concat": lambda n, _p, _b, *xs: jnp.concatenate(xs, axis=n.attrs["axis"] + 1),
        "slice": slice_,
        "relu": unary(jax.nn.relu),
        "leaky_relu": lambda n, _p, _b, x: jnp.where(x >= 0, x, x * n.attrs["slope"]),
        "sigmoid": unary(jax.nn.sigmoid),
        "tanh": unary(jnp.tanh),
        "exp": unary(jnp.exp),
        "log": unary(jnp.log),
        "sqrt": unary(jnp.sqrt),
        "reciprocal": unary(lambda x: 1.0 / x),
        "square": unary(jnp.square),
        "cube": unary(lambda x: x * x * x),
        "sin": unary(jnp.sin),
        "cos": unary(jnp.cos),
        "erf": unary(lax.erf),
        "softplus": unary(jax.nn.softplus),
        "elu": unary(jax.nn.elu),
        "silu": unary(jax.nn.silu),
        "gelu": unary(lambda x: jax.nn.gelu(x, approximate=False)),
        "mul": mul,
        "sign": unary(jnp.sign),
        "softmax": lambda n, _p, _b, x: jax.nn.softmax(x, axis=n.attrs["axis"] + 1),
        "log_softmax": lambda n, _p, _b, x: jax.nn.log_softmax(x, axis=n.attrs["axis"] + 1),
    }
