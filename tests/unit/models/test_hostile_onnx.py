"""Hostile and broken ONNX files: one clear line each, no crash, little memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from helpers.onnx_models import OnnxBuilder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = ("N", 1, 4, 4)
MEMORY = 200 << 20

# Loads every file with at most `MEMORY` more address space than after loading a good one.
CHILD = """
import json, resource, sys
from pathlib import Path
from aisec_eval.errors import AisecError
from aisec_eval.models import load_model
folder, memory = Path(sys.argv[1]), int(sys.argv[2])
load_model(folder / "good.onnx")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
answers = {}
for path in sorted(folder.glob("*.onnx")):
    try:
        answers[path.stem] = ["loaded", 0, str(load_model(path).num_classes)]
    except AisecError as error:
        answers[path.stem] = [type(error).__name__, error.exit_code, str(error)]
    except BaseException as error:
        answers[path.stem] = ["CRASH", -1, repr(error)]
print(json.dumps(answers))
"""


def classify(b: OnnxBuilder, x: str = "input") -> str:
    return b.op("MatMul", b.op("Flatten", x), b.weights(16, 3))


def good(_b: OnnxBuilder | None = None) -> Any:
    b = OnnxBuilder(SHAPE)
    return b.proto(classify(b))


def small(build: Callable[[OnnxBuilder], str], **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        b = OnnxBuilder(SHAPE, **options)
        return bytes(b.proto(build(b)).SerializeToString())

    return make


def edited(edit: Callable[[Any], None]) -> Callable[[], bytes]:
    def make() -> bytes:
        proto = good()
        edit(proto)
        return bytes(proto.SerializeToString())

    return make


def external(location: str) -> Callable[[Any], None]:
    def edit(proto: Any) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return edit


def set_dims(*dims: int) -> Callable[[Any], None]:
    def edit(proto: Any) -> None:
        del proto.graph.initializer[0].dims[:]
        proto.graph.initializer[0].dims.extend(dims)

    return edit


def set_value(value: float) -> Callable[[Any], None]:
    def edit(proto: Any) -> None:
        proto.graph.initializer[0].raw_data = np.full((16, 3), value, np.float32).tobytes()

    return edit


def cycle(proto: Any) -> None:
    proto.graph.node[0].input[0] = proto.graph.output[0].name


def duplicate(proto: Any) -> None:
    proto.graph.node.append(proto.graph.node[0])


def set_opset(version: int) -> Callable[[Any], None]:
    def edit(proto: Any) -> None:
        proto.opset_import[0].version = version

    return edit


def branch(b: OnnxBuilder) -> str:
    body = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )
    condition = b.constant(True, np.bool_)
    return classify(b, b.op("If", condition, then_branch=body, else_branch=body))


def nested(levels: int) -> bytes:
    """Subgraphs within subgraphs, written by hand: If nodes, each with one graph attribute."""

    def field(number: int, payload: bytes) -> bytes:
        size, out = len(payload), bytearray([number << 3 | 2])
        while size > 127:
            out.append(size & 127 | 128)
            size >>= 7
        return bytes(out) + bytes([size]) + payload

    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def constant_of_shape(*shape: int) -> Callable[[OnnxBuilder], str]:
    def build(b: OnnxBuilder) -> str:
        zeros = b.op("ConstantOfShape", b.ints(*shape))
        return b.op("Add", classify(b), b.axes("ReduceSum", zeros, [0], 13, keepdims=0))

    return build


def expand_constant(b: OnnxBuilder) -> str:
    big = b.op("Expand", b.constant(1.0, np.float32), b.ints(10**7, 10**6))
    return b.op("Add", classify(b), b.axes("ReduceSum", big, [0, 1], 13, keepdims=0))


def expand_input(b: OnnxBuilder) -> str:
    big = b.op("Expand", b.op("Reshape", "input", b.ints(1, 16)), b.ints(10**9, 16))
    return b.op("MatMul", big, b.weights(16, 3))


def tile(b: OnnxBuilder) -> str:
    big = b.op("Tile", b.weights(2), b.ints(10**10))
    return b.op("Add", classify(b), b.axes("ReduceSum", big, [0], 13))


def arange(b: OnnxBuilder) -> str:
    ends = (b.constant(v, np.int64) for v in (0, 10**12, 1))
    big = b.op("Cast", b.op("Range", *ends), to=1)
    return b.op("Add", classify(b), b.axes("ReduceSum", big, [0], 13))


def outer_sum(b: OnnxBuilder) -> str:
    big = b.op("Add", b.weights(30_000, 1), b.weights(1, 30_000))
    return b.op("Add", classify(b), b.axes("ReduceSum", big, [0, 1], 13, keepdims=0))


def outer_product(b: OnnxBuilder) -> str:
    big = b.op("MatMul", b.weights(30_000, 1), b.weights(1, 30_000))
    return b.op("Add", classify(b), b.axes("ReduceSum", big, [0, 1], 13, keepdims=0))


def doubling_constant(b: OnnxBuilder) -> str:
    big = b.weights(64)
    for _ in range(40):
        big = b.op("Concat", big, big, axis=0)
    return b.op("Add", classify(b), b.axes("ReduceSum", big, [0], 13))


def doubling_input(b: OnnxBuilder) -> str:
    big = "input"
    for _ in range(40):
        big = b.op("Concat", big, big, axis=3)
    return b.axes("ReduceMean", big, [2, 3], 18, keepdims=0)


def gather_constant(b: OnnxBuilder) -> str:
    index = b.constant(np.zeros(20_000), np.int64)
    big = b.op("Gather", b.weights(1, 20_000), index, axis=0)
    return b.op("Add", classify(b), b.axes("ReduceSum", big, [0, 1], 13, keepdims=0))


def dead_bomb(b: OnnxBuilder) -> str:
    b.op("ConstantOfShape", b.ints(10**7, 10**6))
    return classify(b)


def wrong_strides(b: OnnxBuilder) -> str:
    x = b.op("Conv", "input", b.weights(1, 1, 1, 1), strides=[1.0, 1.0])
    return classify(b, x)


def string_constant(b: OnnxBuilder) -> str:
    b.initializers.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"x"]))
    return classify(b, b.op("Add", "input", "text"))


def control_characters(b: OnnxBuilder) -> str:
    y = classify(b)
    b.nodes[0].op_type = "Evil"
    b.nodes[0].name = "\x1b[2J\nroot\u202e"
    b.nodes[0].domain = "evil"
    return y


def two_inputs(proto: Any) -> None:
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "second"


def functions(proto: Any) -> None:
    proto.functions.add(name="f", domain="local")


def sparse(proto: Any) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [10**12])
    sparse = helper.make_sparse_tensor(values, indices, [10**13])
    proto.graph.sparse_initializer.append(sparse)


def huge_pad(b: OnnxBuilder) -> str:
    x = b.pad("input", [0, 0, 10**7, 0, 0, 0, 0, 10**6])
    return b.axes("ReduceMean", x, [2, 3], 18, keepdims=0)


def conv(**attrs: Any) -> Callable[[OnnxBuilder], str]:
    return lambda b: b.op("Flatten", b.op("Conv", "input", b.weights(2, 1, 3, 3), **attrs))


def too_much_work(b: OnnxBuilder) -> str:
    x = b.pad("input", [0, 0, 0, 0, 0, 0, 500, 500])
    weight = b.weights(4, 1, 300, 300)
    for _ in range(2):
        x = b.op("Conv", x, weight, pads=[150, 150, 149, 149])
        x = b.axes("ReduceMean", x, [1], 18)
    return b.axes("ReduceMean", x, [2, 3], 18, keepdims=0)


def large_values(b: OnnxBuilder) -> str:
    """As large as a small file may ask for."""
    x = b.pad("input", [0, 0, 0, 0, 0, 0, 1020, 1020])
    x = b.op("Conv", x, b.weights(2, 1, 3, 3), pads=[1] * 4)
    return b.op("Flatten", b.op("GlobalAveragePool", b.op("MaxPool", x, kernel_shape=[2, 2])))


def huge_window(b: OnnxBuilder) -> str:
    x = b.op("MaxPool", "input", kernel_shape=[10**9, 10**9], auto_pad="SAME_UPPER")
    return classify(b, b.op("Exp", x))


def huge_split(b: OnnxBuilder) -> str:
    return b.op("Split", b.op("Flatten", "input"), outputs=2, num_outputs=2**60)[0]


def injected(b: OnnxBuilder) -> str:
    return b.op("MatMul", b.op("Flatten", "input"), b.weights(16, 3), _run="x", onnx_node=1)


FILES: dict[str, tuple[Callable[[], bytes], str, int, str]] = {
    # name: (bytes, error, exit code, part of the message)
    "empty": (lambda: b"", "ModelImportError", 5, "truncated (0 bytes)"),
    "truncated": (lambda: good().SerializeToString()[:-20], "ModelImportError", 5, "truncated"),
    "not_utf8": (
        lambda: good().SerializeToString().replace(b"n_matmul", b"n_\xff\xfe\xffmul"),
        "ModelImportError",
        5,
        "not UTF-8",
    ),
    "html": (lambda: b"<!DOCTYPE html><html></html>", "ModelImportError", 5, "not an ONNX file"),
    "pickle": (lambda: b"\x80\x04\x95\x00cos\nsystem\n.", "ModelImportError", 5, "not an ONNX"),
    "zip": (lambda: b"PK\x03\x04" + bytes(50), "ModelImportError", 5, "not an ONNX file"),
    "external": (edited(external("../../etc/passwd")), "UnsafeArtifactError", 4, "another file"),
    "external_absolute": (edited(external("/dev/zero")), "UnsafeArtifactError", 4, "another file"),
    "huge_claim": (edited(set_dims(10**7, 10**6)), "UnsafeArtifactError", 4, "10000000000000"),
    "overflow": (edited(set_dims(2**62, 2**62)), "UnsafeArtifactError", 4, "holds 48"),
    "negative": (edited(set_dims(-16, -3)), "UnsafeArtifactError", 4, "at least 0"),
    "rank": (edited(set_dims(*[1] * 10, 16, 3)), "UnsafeArtifactError", 4, "at most 8 sizes"),
    "nan": (edited(set_value(np.nan)), "ModelImportError", 5, "weight holds NaN or infinity"),
    "infinity": (edited(set_value(np.inf)), "ModelImportError", 5, "weight holds NaN or infinity"),
    "cycle": (edited(cycle), "ModelImportError", 5, "not a valid ONNX model"),
    "duplicate": (edited(duplicate), "ModelImportError", 5, "not a valid ONNX model"),
    "opset_new": (edited(set_opset(99)), "UnsupportedOperationError", 5, "opset 99"),
    "opset_old": (edited(set_opset(6)), "UnsupportedOperationError", 5, "opset 6 "),
    "two_inputs": (
        edited(two_inputs),
        "UnsupportedOperationError",
        5,
        "one input and one output",
    ),
    "functions": (edited(functions), "UnsupportedOperationError", 5, "local functions"),
    "sparse": (edited(sparse), "UnsupportedOperationError", 5, "sparse"),
    "branch": (small(branch), "UnsupportedOperationError", 5, "operator If"),
    "nested": (lambda: nested(60), "UnsafeArtifactError", 4, "nested messages"),
    "many_nodes": (
        lambda: b"\x3a\xc0\x96\xb1\x02" + b"\x0a\x00" * 2_500_000,
        "UnsafeArtifactError",
        4,
        "more than 250000 fields",
    ),
    "constant_1e8": (small(constant_of_shape(10**8)), "UnsafeArtifactError", 4, "100000000"),
    "constant_1e13": (
        small(constant_of_shape(10**7, 10**6)),
        "UnsafeArtifactError",
        4,
        "10000000000000",
    ),
    "expand_constant": (small(expand_constant), "UnsafeArtifactError", 4, "operator Expand"),
    "expand_input": (small(expand_input), "UnsafeArtifactError", 4, "16000000000 elements"),
    "tile": (small(tile), "UnsafeArtifactError", 4, "operator Tile"),
    "range": (small(arange), "UnsafeArtifactError", 4, "operator Range"),
    "outer_sum": (small(outer_sum), "UnsafeArtifactError", 4, "900000000 elements"),
    "outer_product": (small(outer_product), "UnsafeArtifactError", 4, "900000000 elements"),
    "doubling_constant": (small(doubling_constant), "UnsafeArtifactError", 4, "operator Concat"),
    "doubling_input": (small(doubling_input), "UnsafeArtifactError", 4, "operator Concat"),
    "gather_constant": (small(gather_constant), "UnsafeArtifactError", 4, "operator Gather"),
    "dead_bomb": (small(dead_bomb), "loaded", 0, "3"),
    "huge_pad": (small(huge_pad), "UnsafeArtifactError", 4, "operator Pad"),
    "conv_pads": (
        small(conv(pads=[10**6] * 4)),
        "UnsafeArtifactError",
        4,
        "operator Conv",
    ),
    "too_much_work": (small(too_much_work), "UnsafeArtifactError", 4, "multiplications"),
    "large_values": (small(large_values), "loaded", 0, "2"),
    "pool_window": (small(huge_window), "UnsafeArtifactError", 4, "multiplications"),
    "split": (small(huge_split, opset=18), "ModelImportError", 5, "operator Split"),
    "injected_attribute": (small(injected), "ModelImportError", 5, "_run"),
    "conv_kernel": (small(conv(dilations=[10**9, 1])), "ModelImportError", 5, "does not fit"),
    "conv_stride": (small(conv(strides=[0, 1])), "ModelImportError", 5, "operator Conv"),
    "conv_group": (small(conv(group=0)), "ModelImportError", 5, "operator Conv"),
    "wrong_strides": (small(wrong_strides), "ModelImportError", 5, "strides"),
    "string": (small(string_constant), "UnsupportedOperationError", 5, "element type 8"),
    "control": (small(control_characters), "UnsupportedOperationError", 5, "of domain 'evil'"),
    "constant_output": (
        small(lambda b: b.op("Identity", b.weights(1, 3))),
        "ModelImportError",
        5,
        "does not depend on the input",
    ),
    "long": (small(lambda b: classify(b, chain(b, 3000))), "loaded", 0, "3"),
    "not_classifier": (
        small(lambda b: b.op("Relu", "input")),
        "ModelImportError",
        5,
        "has shape [1, 4, 4]",
    ),
}


def chain(b: OnnxBuilder, length: int) -> str:
    x = "input"
    kinds = ("Relu", "Neg", "Tanh", "Transpose")
    for i in range(length):
        kind = kinds[i % 4]
        x = b.op(kind, x, perm=[0, 1, 3, 2]) if kind == "Transpose" else b.op(kind, x)
    return x


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What loading each file, in one child with little memory to spare, came to."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    (folder / "good.onnx").write_bytes(good().SerializeToString())
    for name, (make, *_) in FILES.items():
        (folder / f"{name}.onnx").write_bytes(make())
    with (folder / "oversized.onnx").open("wb") as file:
        file.truncate((1 << 30) + 1)
    command = [sys.executable, "-c", CHILD, str(folder), str(MEMORY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", FILES)
def test_hostile_file(answers: dict[str, list[Any]], name: str) -> None:
    kind, code, message = answers[name]
    expected_kind, expected_code, part = FILES[name][1:]
    assert (kind, code) == (expected_kind, expected_code), message
    assert part in message
    assert message.isprintable()
    assert len(message) < 500
    if kind != "loaded":
        assert message.startswith(f"{name}.onnx: ")


def test_oversized_file_is_not_read(answers: dict[str, list[Any]]) -> None:
    kind, code, message = answers["oversized"]
    assert (kind, code) == ("UnsafeArtifactError", 4)
    assert "more than the limit" in message


def test_gzipped_files_are_read_and_bounded(tmp_path: Path) -> None:
    from aisec_eval.errors import ModelImportError, UnsafeArtifactError
    from aisec_eval.models import load_model

    path = tmp_path / "net.onnx.gz"
    data = gzip.compress(good().SerializeToString())
    path.write_bytes(data)
    model = load_model(path)
    assert (model.name, model.num_classes) == ("net", 3)
    for broken in (data[:-30], data[:40] + bytes(20) + data[60:]):
        path.write_bytes(broken)
        with pytest.raises(ModelImportError, match=r"net.onnx.gz: the gzip data is (cut|damaged)"):
            load_model(path)
    bomb = gzip.compress(bytes(100 << 20), compresslevel=1)
    path.write_bytes(bomb)
    with pytest.raises(UnsafeArtifactError, match="out of proportion"):
        load_model(path)


def test_every_truncation_and_bit_flip_is_an_answer(tmp_path: Path) -> None:
    from aisec_eval.errors import AisecError
    from aisec_eval.models import load_model

    data = bytearray(good().SerializeToString())
    rng = np.random.default_rng(0)
    path = tmp_path / "net.onnx"
    outcomes = set()
    for trial in range(150):
        broken = bytearray(data)
        if trial < 50:
            broken = broken[: int(rng.integers(len(data)))]
        for _ in range(int(rng.integers(1, 4))):
            if broken:
                broken[int(rng.integers(len(broken)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(broken))
        try:
            load_model(path)
            outcomes.add("loaded")
        except AisecError as error:
            outcomes.add(f"{type(error).__name__}: {error}")
    assert any(outcome.startswith("ModelImportError") for outcome in outcomes)
    assert all(outcome.isprintable() for outcome in outcomes)


def test_the_good_file_is_valid() -> None:
    onnx.checker.check_model(good())
