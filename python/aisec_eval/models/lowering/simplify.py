"""Folds a lowered graph: constants into their neighbours, layout changes into each other.

Every rule keeps the function the graph computes in real arithmetic, up to the float64 rounding
of the constants it combines; the graph that results is the one that is run and certified.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from . import shapes
from .ir import GraphSpec, Node
from .whole import whole

_ELEMENTWISE = frozenset(
    (
        *("relu", "leaky_relu", "sigmoid", "tanh", "elu", "softplus", "exp", "log", "sqrt", "erf"),
        *("reciprocal", "square", "cube", "sin", "cos", "silu", "gelu", "sign", "add", "sub"),
    )
)
_CONSTANT = frozenset(("add_const", "mul_const", "div_const"))


def simplify(spec: GraphSpec) -> GraphSpec:
    """Return an equivalent graph with fewer nodes; names stay those of the values computed."""
    spec = _prune(spec)
    uses = [0] * len(spec.nodes)
    for node in spec.nodes:
        for i in node.inputs:
            uses[i] += 1
    uses[spec.output] += 1
    rebuilt = _Rebuilder(spec.nodes[0], uses[0])
    place = {0: 0}
    for index, node in enumerate(spec.nodes[1:], start=1):
        moved = replace(node, inputs=tuple(place[i] for i in node.inputs))
        place[index] = rebuilt.put(moved, uses[index])
    return _prune(GraphSpec(tuple(rebuilt.nodes), place[spec.output]))


def _prune(spec: GraphSpec) -> GraphSpec:
    """Drop what the output does not depend on (the input always stays)."""
    live, stack = {0, spec.output}, [spec.output]
    while stack:
        for i in spec.nodes[stack.pop()].inputs:
            if i not in live:
                live.add(i)
                stack.append(i)
    place = {old: new for new, old in enumerate(sorted(live))}
    nodes = tuple(
        replace(spec.nodes[i], inputs=tuple(place[j] for j in spec.nodes[i].inputs))
        for i in sorted(live)
    )
    return GraphSpec(nodes, place[spec.output])


class _Rebuilder:
    """Re-adds nodes one by one, rewriting each with the nodes it reads."""

    def __init__(self, first: Node, uses: int) -> None:
        self.nodes = [first]
        self.uses = [uses]

    def put(self, node: Node, uses: int) -> int:
        """Add a node that `uses` later nodes read; return where its value now is."""
        found = self._rewrite(node, uses)
        if found is None:
            shape = shapes.infer(
                node.op, [self.nodes[i].shape for i in node.inputs], node.attrs, node.tensors
            )
            self.nodes.append(replace(node, shape=tuple(int(d) for d in shape)))
            self.uses.append(uses)
            return len(self.nodes) - 1
        if self.nodes[found].name.startswith("~") and not node.name.startswith("~"):
            self.nodes[found] = replace(self.nodes[found], name=node.name)
        return found

    def _rewrite(self, node: Node, uses: int) -> int | None:
        if not node.inputs:
            return None
        if node.op in _CONSTANT:
            return self._constant(node, uses)
        if node.op == "sign" and (found := self._binary_sign(node, uses)) is not None:
            return found
        if node.op in _ELEMENTWISE or node.op == "concat":
            return self._through_transpose(node, uses)
        match node.op:
            case "reshape":
                return self._reshape(node, uses)
            case "transpose":
                return self._transpose(node, uses)
            case "pad":
                return self._pad(node, uses)
            case "conv2d":
                return self._conv2d(node, uses)
            case "affine":
                return self._affine(node, uses)
            case "avg_pool2d":
                return self._avg_pool2d(node, uses)
        return None

    def _alias(self, index: int, uses: int) -> int:
        self.uses[index] += uses - 1
        return index

    # Signs

    def _binary_sign(self, node: Node, uses: int) -> int | None:
        """Take `sign(sign(z) + c)`, as larq writes a sign that is 1 at zero, for `sign(z + 1/2)`.

        That is the same for whole numbers z, which sums of signs are, and no rounding error can
        move them across the step.
        """
        shifted = self.nodes[node.inputs[0]]
        if shifted.op != "add_const":
            return None
        value = _wide(shifted, "value")
        first = self.nodes[shifted.inputs[0]]
        if first.op != "sign" or not ((value > 0) & (value < 1)).all():
            return None
        if not whole(self.nodes, first.inputs[0]):
            return None
        half = Node(
            f"~{node.name}.z", "add_const", (), first.inputs, {}, {"value": np.full(1, 0.5)}
        )
        return self.put(replace(node, inputs=(self.put(half, 1),)), uses)

    # Layout

    def _reshape(self, node: Node, uses: int) -> int | None:
        source = self.nodes[node.inputs[0]]
        if source.shape == tuple(node.attrs["shape"]):
            return self._alias(node.inputs[0], uses)
        if source.op == "reshape":
            return self.put(replace(node, inputs=source.inputs), uses)
        return None

    def _transpose(self, node: Node, uses: int) -> int | None:
        perm, source = node.attrs["perm"], self.nodes[node.inputs[0]]
        moved = [p for p in perm if source.shape[p] != 1]
        if moved == sorted(moved):
            attrs = {"shape": tuple(source.shape[p] for p in perm)}
            return self.put(replace(node, op="reshape", attrs=attrs), uses)
        if source.op == "transpose":
            perm = [source.attrs["perm"][p] for p in perm]
            return self.put(replace(node, inputs=source.inputs, attrs={"perm": perm}), uses)
        if source.op == "reshape":
            return self._transpose_first(node, source, uses)
        return None

    def _transpose_first(self, node: Node, source: Node, uses: int) -> int | None:
        """Transpose before a reshape that only adds or drops axes of size 1."""
        base = self.nodes[source.inputs[0]]
        axes = [a for a, d in enumerate(base.shape) if d != 1]
        if [base.shape[a] for a in axes] != [d for d in source.shape if d != 1]:
            return None
        long = [a for a, d in enumerate(source.shape) if d != 1]
        units = [a for a, d in enumerate(base.shape) if d == 1]
        moved = [axes[long.index(p)] for p in node.attrs["perm"] if p in long]
        self.uses[source.inputs[0]] = max(self.uses[source.inputs[0]], self.uses[node.inputs[0]])
        inner = replace(
            node, inputs=source.inputs, attrs={"perm": units + moved}, name=f"~{node.name}"
        )
        shape = tuple(source.shape[p] for p in node.attrs["perm"])
        index = self.put(inner, 1)
        return self.put(Node(node.name, "reshape", (), (index,), {"shape": shape}), uses)

    def _through_transpose(self, node: Node, uses: int, inner: Node | None = None) -> int | None:
        """Move an operator that treats axes alike before the transposes it reads.

        `inner` is the operator in the axes order before the transpose, where that differs.
        """
        sources = [self.nodes[i] for i in node.inputs]
        if any(s.op != "transpose" or s.attrs != sources[0].attrs for s in sources):
            return None
        perm = sources[0].attrs["perm"]
        if node.op == "concat":
            inner = replace(node, attrs={"axis": perm[node.attrs["axis"]]})
        for index, source in zip(node.inputs, sources, strict=True):
            base = source.inputs[0]
            self.uses[base] = max(self.uses[base], self.uses[index])
        inner = replace(
            inner or node, inputs=tuple(s.inputs[0] for s in sources), name=f"~{node.name}"
        )
        moved = self.put(inner, 1)
        outer = Node(node.name, "transpose", (), (moved,), {"perm": perm}, {}, node.source)
        return self.put(outer, uses)

    def _pad(self, node: Node, uses: int) -> int | None:
        before, after = node.attrs["before"], node.attrs["after"]
        source = self.nodes[node.inputs[0]]
        if not any(before) and not any(after):
            return self._alias(node.inputs[0], uses)
        if source.op != "transpose":
            return None
        order = np.argsort(source.attrs["perm"])
        attrs = {
            "before": [before[k] for k in order],
            "after": [after[k] for k in order],
            "value": node.attrs["value"],
        }
        return self._through_transpose(node, uses, replace(node, attrs=attrs))

    # Constants

    def _constant(self, node: Node, uses: int) -> int | None:
        index = node.inputs[0]
        source = self.nodes[index]
        value = _aligned(node, len(source.shape))
        if np.all(value == (0 if node.op == "add_const" else 1)):
            return self._alias(index, uses)
        if source.op == "transpose":
            turned = np.transpose(value, np.argsort(source.attrs["perm"]))
            inner = replace(node, tensors={"value": turned})
            return self._through_transpose(node, uses, inner)
        if self.uses[index] != 1:
            return None
        if source.op in _CONSTANT:
            joined = _join(source, node, len(source.shape))
            return None if joined is None else self.put(replace(joined, inputs=source.inputs), uses)
        if source.op == "conv2d" and value.shape[1:] == (1, 1):
            return self.put(_after(source, node, value.reshape(-1)), uses)
        if source.op == "affine" and value.size == value.shape[-1]:
            return self.put(_after(source, node, value.reshape(-1)), uses)
        return None

    def _affine(self, node: Node, uses: int) -> int | None:
        index = node.inputs[0]
        source = self.nodes[index]
        if source.op == "reshape" and len(source.shape) == 1:
            return self._permuted(node, source, uses)
        if source.op not in _CONSTANT or self.uses[index] != 1:
            return None
        value = _aligned(source, len(source.shape))
        if value.size != value.shape[-1]:
            return None
        weight, bias = _wide(node, "weight"), _wide(node, "bias")
        value = np.broadcast_to(value.reshape(-1), weight.shape[1:])
        if source.op == "add_const":
            bias = bias + weight @ value
        else:
            weight = weight * (value if source.op == "mul_const" else 1.0 / value)
        tensors = {"weight": weight, "bias": bias}
        return self.put(replace(node, inputs=source.inputs, tensors=tensors), uses)

    def _permuted(self, node: Node, flat: Node, uses: int) -> int | None:
        """Take a transpose before flattening into the columns of the weight."""
        source = self.nodes[flat.inputs[0]]
        if source.op != "transpose":
            return None
        weight = np.asarray(node.tensors["weight"])
        order = np.argsort(source.attrs["perm"]) + 1
        columns = weight.reshape(-1, *source.shape).transpose(0, *order).reshape(weight.shape)
        index = self.put(replace(flat, inputs=source.inputs, name=f"~{flat.name}"), 1)
        tensors = {"weight": columns, "bias": node.tensors["bias"]}
        return self.put(replace(node, inputs=(index,), tensors=tensors), uses)

    def _conv2d(self, node: Node, uses: int) -> int | None:
        index = node.inputs[0]
        source = self.nodes[index]
        padding = node.attrs["padding"]
        if source.op == "pad" and source.attrs["value"] == 0:
            (c0, top, left), (c1, bottom, right) = source.attrs["before"], source.attrs["after"]
            if c0 or c1:
                return None
            extra = (top, left, bottom, right)
            attrs = {
                **node.attrs,
                "padding": [p + e for p, e in zip(padding, extra, strict=True)],
            }
            return self.put(replace(node, inputs=source.inputs, attrs=attrs), uses)
        if source.op not in _CONSTANT or self.uses[index] != 1:
            return None
        value = _aligned(source, 3)
        if value.shape[1:] != (1, 1) or (source.op == "add_const" and any(padding)):
            return None
        weight, bias = _wide(node, "weight"), _wide(node, "bias")
        outputs, per_group = weight.shape[:2]
        channels = np.broadcast_to(value.reshape(-1), (source.shape[0],))
        # Output channel o reads the input channels of its group.
        group = np.arange(outputs) // (outputs // node.attrs["groups"])
        seen = channels.reshape(-1, per_group)[group][:, :, None, None]
        if source.op == "add_const":
            bias = bias + (weight * seen).sum(axis=(1, 2, 3))
        else:
            weight = weight * (seen if source.op == "mul_const" else 1.0 / seen)
        tensors = {"weight": weight, "bias": bias}
        return self.put(replace(node, inputs=source.inputs, tensors=tensors), uses)

    def _avg_pool2d(self, node: Node, uses: int) -> int | None:
        source = self.nodes[node.inputs[0]]
        if source.op != "pad" or source.attrs["value"] != 0 or any(node.attrs["padding"]):
            return None
        (c0, top, left), (c1, bottom, right) = source.attrs["before"], source.attrs["after"]
        kh, kw = node.attrs["kernel"]
        if c0 or c1 or max(top, bottom) >= kh or max(left, right) >= kw:
            return None
        attrs = {
            **node.attrs,
            "padding": [top, left, bottom, right],
            "count_include_pad": True,
        }
        return self.put(replace(node, inputs=source.inputs, attrs=attrs), uses)


def _wide(node: Node, key: str) -> Any:
    return np.asarray(node.tensors[key], dtype=np.float64)


def _aligned(node: Node, rank: int) -> Any:
    value = _wide(node, "value")
    return value.reshape((1,) * (rank - value.ndim) + value.shape)


def _after(linear: Node, node: Node, value: Any) -> Node:
    """Return convolution or affine map `linear` followed by the per-channel constant of `node`."""
    weight, bias = _wide(linear, "weight"), _wide(linear, "bias")
    if node.op == "add_const":
        bias = bias + value
    else:
        scale = value if node.op == "mul_const" else 1.0 / value
        scale = np.broadcast_to(scale, bias.shape)
        weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
        bias = bias * scale
    return replace(
        linear, name=node.name, source=node.source, tensors={"weight": weight, "bias": bias}
    )


def _join(first: Node, second: Node, rank: int) -> Node | None:
    """Return one constant operator for two in a row, or None where that is no smaller."""
    a, b = _aligned(first, rank), _aligned(second, rank)
    if (first.op == "add_const") != (second.op == "add_const"):
        return None
    if np.broadcast_shapes(a.shape, b.shape) not in (a.shape, b.shape):
        return None
    if first.op == "add_const":
        return replace(second, tensors={"value": a + b})
    if first.op == second.op:
        return replace(second, tensors={"value": a * b})
    ratio = a / b if first.op == "mul_const" else b / a
    return replace(second, op="mul_const", tensors={"value": ratio})
