"""Traces JAX functions and lowers their jaxprs.

The only file that touches jaxpr internals. Primitives are matched by name, calls are inlined,
and what does not depend on the input is computed on the way. Operators are in `jaxpr_ops`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import ModelImportError, UnsafeArtifactError, UnsupportedOperationError

from ..layers import Function, Layer, Layers, inherited
from .builder import NotLowerable, Value, sample_shape
from .emit import Emitter
from .jaxpr_ops import OPERATORS, Comparison
from .simplify import simplify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from .ir import GraphSpec

# Calls that are inlined, under all the names JAX has given them, and where their body is.
_CALLS = frozenset(
    (
        *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
        *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
    )
)
_BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr")


@dataclass(frozen=True, eq=False)
class Traced:
    """A function traced on a batch of one sample."""

    name: str
    input_shape: tuple[int, ...]
    """With the batch axis of size 1."""
    output_shape: tuple[int, ...]
    closed: Any

    @property
    def digest(self) -> str:
        """SHA-256 of the program and of every constant in it."""
        text = re.sub(r"0x[0-9a-f]+", "", str(self.closed))
        state = hashlib.sha256(text.encode())
        for constant in _constants(self.closed):
            array = np.asarray(constant)
            state.update(f"{array.dtype.str}{array.shape}".encode())
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    @property
    def primitives(self) -> list[str]:
        """Names of the primitives that depend on the input, in order, calls inlined."""
        names: list[str] = []

        def record(equations: Sequence[Any], _name: str, _inputs: list[Any]) -> list[Any]:
            names.append(equations[-1].primitive.name)
            return [Value(0, tuple(v.aval.shape)) for v in equations[-1].outvars]

        self._run(Value(0, self.input_shape), record, lambda _name, _outputs: None)
        return names

    def values(self, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Run on one sample and return every value by the name its node would have."""
        import jax

        found: dict[str, NDArray[Any]] = {}

        def see(name: str, outputs: list[Any]) -> None:
            for k, output in enumerate(outputs):
                found[_numbered(name, k)] = np.asarray(output)

        self._run(jax.numpy.asarray(x.reshape(self.input_shape)), _no_rule, see)
        return found

    def layers(self) -> Layers:
        """Every value that depends on the input, by the name its node would have."""
        table = [Layer("input", "input", self.input_shape[1:])]

        def record(equations: Sequence[Any], name: str, inputs: list[Any]) -> list[Any]:
            equation = equations[-1]
            used = tuple(v.node for v in inputs if isinstance(v, Value))
            primitive = equation.primitive.name
            found = []
            for k, variable in enumerate(equation.outvars):
                found.append(Value(len(table), tuple(variable.aval.shape)))
                shape = sample_shape(found[-1].shape)
                if primitive == "conv_general_dilated" and len(shape) == 3:
                    axis = equation.params["dimension_numbers"].out_spec[1] - 1
                else:
                    axis = inherited(table, primitive, shape, used)
                table.append(Layer(_numbered(name, k), primitive, shape, used, axis))
            return found

        output = self._run(Value(0, self.input_shape), record, lambda _name, _outputs: None)
        if not isinstance(output, Value):
            raise UnsupportedOperationError(f"{self.name}: the output does not depend on the input")
        names = [layer.name for layer in table]

        def function(wanted: tuple[int, ...]) -> Function:
            return self._select([names[i] for i in wanted], [table[i].shape for i in wanted])

        return Layers(self.name, table, output.node, function)

    def _select(self, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> Function:
        """Return the function of a batch that gives the values of these names."""
        import jax

        def one(consts: Any, x: Any) -> tuple[Any, ...]:
            found = {"input": x}

            def see(name: str, outputs: list[Any]) -> None:
                found.update((_numbered(name, k), output) for k, output in enumerate(outputs))

            _Walk(_no_rule, see).run(self.closed.jaxpr, consts, [x.reshape(self.input_shape)])
            return tuple(found[n].reshape(s) for n, s in zip(names, shapes, strict=True))

        # Traced on one sample: its own batch axis of size 1 stays inside.
        return jax.vmap(one, in_axes=(None, 0)), tuple(self.closed.consts)

    def _run(
        self, x: Any, rule: Callable[..., list[Any]], see: Callable[[str, list[Any]], None]
    ) -> Any:
        return _Walk(rule, see).run(self.closed.jaxpr, self.closed.consts, [x])[0]


def trace(function: Callable[[Any], Any], shape: tuple[int, ...], name: str) -> Traced:
    """Trace `function` on float32 inputs of `shape` (batch axis of size 1).

    Raises:
        ModelImportError: JAX cannot trace it, or it does not return one float array.
    """
    import jax

    shown = f"[{', '.join(map(str, shape))}]"
    try:
        sample = jax.ShapeDtypeStruct(shape, np.float32)  # type: ignore[no-untyped-call]
        closed = jax.make_jaxpr(function)(sample)
    except Exception as error:  # whatever the user's function raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelImportError(
            f"{name}: JAX cannot trace it on float32 {shown}: {reason:.300}; "
            "check input_shape and layout"
        ) from None
    outputs = closed.out_avals
    if len(outputs) != 1 or not np.issubdtype(outputs[0].dtype, np.floating):
        kinds = ", ".join(str(o) for o in outputs)
        raise ModelImportError(f"{name}: returns ({kinds}); expected one float array of logits")
    return Traced(name, shape, tuple(int(d) for d in outputs[0].shape), closed)


def lower(traced: Traced) -> GraphSpec:
    """Lower a traced function to the IR; all its operators are native.

    Raises:
        UnsupportedOperationError: names the primitive without a rule, and the user's line.
    """
    emitter = Emitter(traced.input_shape[1:], "input")

    def apply(equations: Sequence[Any], name: str, inputs: list[Any]) -> list[Any]:
        equation = equations[-1]
        primitive = equation.primitive.name
        emitter.source = f"{primitive} ({_place(equations) or name})"
        try:
            if primitive not in OPERATORS:
                raise NotLowerable("it")
            result = OPERATORS[primitive](emitter, equation.params, *inputs)
        except NotLowerable as error:
            detail = "" if str(error) == "it" else f": {error}"
            raise UnsupportedOperationError(f"operator {emitter.source}{detail}") from None
        except (ValueError, UnsafeArtifactError) as error:
            raise UnsupportedOperationError(f"operator {emitter.source}: {error}") from None
        results = result if isinstance(result, list) else [result]
        for variable, output in zip(equation.outvars, results, strict=True):
            expected = tuple(variable.aval.shape)
            if isinstance(output, Value) and output.shape != expected:
                raise ModelImportError(
                    f"{traced.name}: operator {emitter.source} was lowered to shape "
                    f"{list(output.shape)}, JAX gives {list(expected)}; please report this model"
                )
        return results

    def label(name: str, outputs: list[Any]) -> None:
        for k, output in enumerate(outputs):
            if isinstance(output, Value):
                emitter.label(output, _numbered(name, k))

    output = traced._run(Value(0, traced.input_shape), apply, label)
    if not isinstance(output, Value):
        raise UnsupportedOperationError("the output does not depend on the input")
    spec = simplify(emitter.finish(output, traced.output_shape[1:]))
    foreign = spec.not_native
    if foreign is not None:
        raise UnsupportedOperationError(f"operator {foreign.source}")
    return spec


class _Walk:
    """Goes through a jaxpr equation by equation, inlining calls and folding constants."""

    def __init__(
        self, rule: Callable[..., list[Any]], see: Callable[[str, list[Any]], None]
    ) -> None:
        self._rule = rule
        self._see = see
        self._count = 0
        self._calls: list[Any] = []

    def run(self, jaxpr: Any, consts: Any, inputs: list[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if hasattr(atom, "val") else values[atom]

        for equation in jaxpr.eqns:
            arguments = [read(atom) for atom in equation.invars]
            values.update(zip(equation.outvars, self._equation(equation, arguments), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[Any]) -> list[Any]:
        if equation.primitive.name in _CALLS:
            body = next(equation.params[key] for key in _BODIES if key in equation.params)
            self._calls.append(equation)
            outputs = self.run(getattr(body, "jaxpr", body), getattr(body, "consts", ()), inputs)
            self._calls.pop()
            return outputs
        name = f"{equation.primitive.name}.{self._count}"
        self._count += 1
        if any(isinstance(value, Value | Comparison) for value in inputs):
            outputs = self._rule([*self._calls, equation], name, inputs)
        else:
            outputs = _evaluate(equation, inputs)
        self._see(name, outputs)
        return outputs


def _evaluate(equation: Any, inputs: list[Any]) -> list[Any]:
    bound = equation.primitive.get_bind_params(equation.params)
    # JAX before 0.10 returns callables apart from the parameters.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    result = equation.primitive.bind(*functions, *inputs, **params)
    return list(result) if equation.primitive.multiple_results else [result]


def _no_rule(equations: Sequence[Any], _name: str, _inputs: list[Any]) -> list[Any]:
    raise AssertionError(f"{equations[-1].primitive.name} on a symbolic value")


def _numbered(name: str, k: int) -> str:
    return f"{name}:{k}" if k else name


def _place(equations: Sequence[Any]) -> str | None:
    """Return `file.py:12 (function)` of the user's code behind the innermost call that has one."""
    from jax.extend import source_info_util

    for equation in reversed(equations):
        path, _, rest = source_info_util.summarize(equation.source_info).rpartition("/")
        if path:
            return rest
    return None


def _constants(closed: Any) -> Iterator[Any]:
    """Yield every array a program holds, those of nested programs included."""
    yield from getattr(closed, "consts", ())
    for equation in getattr(closed, "jaxpr", closed).eqns:
        for parameter in equation.params.values():
            for body in parameter if isinstance(parameter, tuple | list) else (parameter,):
                if hasattr(body, "eqns") or hasattr(body, "jaxpr"):
                    yield from _constants(body)
