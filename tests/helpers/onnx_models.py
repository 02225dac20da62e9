"""Builds small ONNX models, in the form each opset wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path


class OnnxBuilder:
    """Nodes one after another; `op` returns the name of the new value."""

    def __init__(self, shape: tuple[int | str, ...], opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.input = helper.make_tensor_value_info("input", TensorProto.FLOAT, list(shape))
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._count = 0
        self.output = ""

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add an initializer."""
        array = np.asarray(value, dtype=dtype)
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        """Add an int64 vector."""
        return self.constant(values, np.int64)

    def weights(self, *shape: int, scale: float | None = None) -> str:
        """Add random float32 weights, scaled to keep activations near 1."""
        fan_in = int(np.prod(shape[1:])) or 1
        scale = 1 / np.sqrt(fan_in) if scale is None else scale
        return self.constant(scale * self.rng.standard_normal(shape), np.float32)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        """Append a node."""
        names = [f"{kind.lower()}{self._count}_{k}" for k in range(outputs)]
        self._count += 1
        self.nodes.append(
            helper.make_node(kind, list(inputs), names, name=f"n_{names[0]}", **attrs)
        )
        return names[0] if outputs == 1 else names

    # Operators whose attributes became inputs

    def clip(self, x: str, low: float | None, high: float | None) -> str:
        """Clip by attributes or inputs."""
        if self.opset < 11:
            given = {"min": low, "max": high}
            return self.op("Clip", x, **{k: v for k, v in given.items() if v is not None})
        bounds = ["" if b is None else self.constant(b, np.float32) for b in (low, high)]
        return self.op("Clip", x, *bounds)

    def pad(self, x: str, pads: list[int], value: float = 0.0) -> str:
        """Pad by attributes or inputs."""
        if self.opset < 11:
            return self.op("Pad", x, pads=pads, value=value)
        return self.op("Pad", x, self.ints(*pads), self.constant(value, np.float32))

    def slice(self, x: str, starts: Any, ends: Any, axes: Any, steps: Any = None) -> str:
        """Slice by attributes or inputs (steps from opset 10 on)."""
        if self.opset < 10:
            return self.op("Slice", x, starts=starts, ends=ends, axes=axes)
        more = [] if steps is None else [self.ints(*steps)]
        return self.op("Slice", x, self.ints(*starts), self.ints(*ends), self.ints(*axes), *more)

    def axes(self, kind: str, x: str, axes: list[int], since: int, **attrs: Any) -> str:
        """Apply Squeeze, Unsqueeze or a reduction: axes are an input from opset `since` on."""
        if self.opset < since:
            return self.op(kind, x, axes=axes, **attrs)
        return self.op(kind, x, self.ints(*axes), **attrs)

    def split(self, x: str, sizes: list[int], axis: int) -> list[str]:
        """Split by attribute or input."""
        if self.opset < 13:
            return self.op("Split", x, outputs=len(sizes), split=sizes, axis=axis)
        return self.op("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)

    def proto(self, output: str, shape: tuple[int | str, ...] = ("n", "k")) -> Any:
        """Return the ModelProto."""
        declared = helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape))
        graph = helper.make_graph(
            self.nodes, "net", [self.input], [declared], initializer=self.initializers
        )
        return helper.make_model(
            graph, ir_version=8, opset_imports=[helper.make_opsetid("", self.opset)]
        )

    def save(self, path: Path, output: str, shape: tuple[int | str, ...] = ("n", "k")) -> Path:
        """Write the model to a file."""
        path.write_bytes(self.proto(output, shape).SerializeToString())
        return path


def run_onnxruntime(proto: Any, x: np.ndarray) -> np.ndarray:
    """Return what onnxruntime computes for one batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    data = proto if isinstance(proto, bytes) else proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def load_proto(path: Path) -> Any:
    """Read a trusted ONNX file, gzipped or not."""
    import gzip

    data = path.read_bytes()
    return onnx.ModelProto.FromString(gzip.decompress(data) if path.suffix == ".gz" else data)
