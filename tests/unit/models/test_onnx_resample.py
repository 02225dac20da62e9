"""Transposed convolutions, resizing and rearrangements of ONNX, each against onnxruntime."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aisec_eval import load_model
from aisec_eval.errors import UnsafeArtifactError, UnsupportedOperationError
from helpers.onnx_models import OnnxBuilder, run_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def agree(tmp_path: Path, b: OnnxBuilder, output: str) -> Any:
    """Flatten the output, load the network and compare it with onnxruntime on a few inputs."""
    path = b.save(tmp_path / "net.onnx", b.op("Flatten", output))
    model = load_model(path)
    assert model.graph is not None
    x = b.rng.standard_normal((3, *model.input_shape)).astype(np.float32)
    expected = np.stack([run_onnxruntime(path.read_bytes(), one[None])[0] for one in x])
    np.testing.assert_allclose(model.logits(x), expected, rtol=1e-4, atol=2e-5)
    return model


TRANSPOSED = [
    {},
    {"strides": [2, 2]},
    {"strides": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2]},
    {"strides": [3, 3], "output_padding": [2, 2]},
    {"dilations": [2, 1], "strides": [1, 2], "pads": [1, 1, 1, 1]},
    {"dilations": [2, 3], "strides": [2, 2], "pads": [0, 1, 0, 1]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "auto_pad": "VALID"},
    {"strides": [4, 4]},
]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("attrs", TRANSPOSED, ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (4, 2)])
def test_transposed_convolutions(
    tmp_path: Path, attrs: dict[str, Any], groups: int, kernel: tuple[int, int]
) -> None:
    b = OnnxBuilder((1, 4, 3, 5), seed=sum(kernel))
    w, bias = b.weights(4, 3, *kernel), b.weights(3 * groups)
    agree(tmp_path, b, b.op("ConvTranspose", b.op("Relu", "input"), w, bias, group=groups, **attrs))


def test_a_transposed_convolution_of_a_sequence(tmp_path: Path) -> None:
    b = OnnxBuilder((1, 2, 7))
    agree(tmp_path, b, b.op("ConvTranspose", "input", b.weights(2, 3, 4), strides=[3], pads=[1, 2]))


def test_a_transposed_convolution_reads_only_what_it_needs(tmp_path: Path) -> None:
    b = OnnxBuilder((1, 2, 4, 4))
    x = b.op("ConvTranspose", "input", b.weights(2, 3, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1])
    model = agree(tmp_path, b, x)
    convolutions = [i for i in range(model.graph.num_nodes) if model.graph.node_op(i) == "conv2d"]
    # Two taps an axis: a quarter of the products of a convolution over an input with zeros.
    assert [model.graph.node_shape(i) for i in convolutions] == [(12, 5, 5)]


MODES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


@pytest.mark.parametrize("scales", [(2.0, 2.0), (3.0, 1.0), (1.5, 2.5), (0.5, 0.75)])
@pytest.mark.parametrize(
    ("mode", "coordinates", "nearest"),
    [
        *(("nearest", *pair) for pair in itertools.product(MODES, NEAREST)),
        *(("linear", coordinates, "floor") for coordinates in MODES),
    ],
)
def test_resizing(
    tmp_path: Path, mode: str, coordinates: str, nearest: str, scales: tuple[float, float]
) -> None:
    b = OnnxBuilder((1, 2, 4, 6))
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    by_scale = b.op("Resize", "input", "", b.constant([1, 1, *scales], np.float32), **attrs)
    agree(tmp_path, b, by_scale)


def test_resizing_to_sizes(tmp_path: Path) -> None:
    b = OnnxBuilder((1, 2, 4, 6))
    agree(tmp_path, b, b.op("Resize", "input", "", "", b.ints(1, 2, 7, 9), mode="linear"))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [9, 10])
def test_resizing_before_opset_11(tmp_path: Path, opset: int, mode: str) -> None:
    b = OnnxBuilder((1, 2, 4, 6), opset=opset)
    kind = "Upsample" if opset == 9 else "Resize"
    agree(tmp_path, b, b.op(kind, "input", b.constant([1, 1, 2, 3], np.float32), mode=mode))


@pytest.mark.parametrize(
    ("kind", "attrs"),
    [
        ("DepthToSpace", {"blocksize": 2}),
        ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}),
        ("SpaceToDepth", {"blocksize": 2}),
    ],
)
def test_blocks_and_channels(tmp_path: Path, kind: str, attrs: dict[str, Any]) -> None:
    b = OnnxBuilder((1, 8, 4, 6))
    agree(tmp_path, b, b.op(kind, b.op("Relu", "input"), **attrs))


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_padding_by_what_is_inside(tmp_path: Path, mode: str) -> None:
    b = OnnxBuilder((1, 2, 4, 6))
    agree(tmp_path, b, b.op("Pad", "input", b.ints(0, 0, 1, 3, 0, 1, 2, 0), mode=mode))


def test_running_sums_tiles_and_choices(tmp_path: Path) -> None:
    b = OnnxBuilder((1, 3, 4))
    sums = b.op("CumSum", "input", b.constant(2, np.int64), exclusive=1)
    back = b.op("CumSum", "input", b.constant(1, np.int64), reverse=1)
    x = b.op("Mean", sums, back, b.op("Relu", "input"))
    x = b.op("Tile", x, b.ints(1, 2, 3))
    where = b.constant(b.rng.random((6, 12)) < 0.5, np.bool_)
    x = b.op("Where", where, x, b.constant(0.25, np.float32))
    x = b.op("Where", where, b.weights(6, 12), x)
    low = b.op("ReduceMin", x, axes=[2], keepdims=1)
    agree(tmp_path, b, b.op("Concat", x, low, b.op("ReduceL1", x, axes=[2]), axis=2))


@pytest.mark.parametrize(
    ("kind", "attrs", "message"),
    [
        ("Resize", {"mode": "cubic"}, "cubic"),
        ("Resize", {"mode": "linear", "antialias": 1}, "antialias"),
        ("Resize", {"coordinate_transformation_mode": "half_pixel_symmetric"}, "symmetric"),
    ],
)
def test_what_is_not_said_by_the_graph_is_named(
    tmp_path: Path, kind: str, attrs: dict[str, Any], message: str
) -> None:
    b = OnnxBuilder((1, 2, 4, 4), opset=19)
    x = b.op(kind, "input", "", b.constant([1, 1, 2, 2], np.float32), **attrs)
    with pytest.raises(UnsupportedOperationError, match=message):
        load_model(b.save(tmp_path / "net.onnx", b.op("Flatten", x)))


@pytest.mark.parametrize("count", [1, 8, 9, 200])
def test_a_gather_of_any_indices(tmp_path: Path, count: int) -> None:
    b = OnnxBuilder((1, 3, 40))
    index = b.constant(b.rng.integers(-40, 40, (1, count)), np.int64)
    agree(tmp_path, b, b.op("Gather", b.op("Relu", "input"), index, axis=2))


def test_opset_7(tmp_path: Path) -> None:
    b = OnnxBuilder((1, 2, 6, 6), opset=7)
    x = b.op("Relu", b.op("Conv", "input", b.weights(4, 2, 3, 3), b.weights(4)))
    moments = [b.weights(4), b.weights(4), b.weights(4), b.constant([0.5, 1, 2, 3], np.float32)]
    x = b.op("BatchNormalization", x, *moments)
    x = b.op("Upsample", b.op("MaxPool", x, kernel_shape=[2, 2]), scales=[1.0, 1.0, 2.0, 2.0])
    agree(tmp_path, b, b.op("Dropout", x))


HUGE = 1 << 40
HOSTILE: dict[str, Callable[[OnnxBuilder], str]] = {
    "dilation": lambda b: b.op(
        "ConvTranspose", "input", b.weights(2, 1, 3, 3), dilations=[HUGE, 1]
    ),
    "stride": lambda b: b.op("ConvTranspose", "input", b.weights(2, 1, 3, 3), strides=[HUGE, 1]),
    "output padding": lambda b: b.op(
        "ConvTranspose", "input", b.weights(2, 1, 3, 3), output_padding=[HUGE, 0]
    ),
    "sizes": lambda b: b.op("Resize", "input", "", "", b.ints(1, 2, 4, HUGE), mode="linear"),
    "scales": lambda b: b.op("Resize", "input", "", b.constant([1, 1, 1, 1e12], np.float32)),
    "repeats": lambda b: b.op("Tile", "input", b.ints(1, 1, 1, HUGE)),
    "edges": lambda b: b.op("Pad", "input", b.ints(0, 0, 0, 0, 0, 0, 0, HUGE), mode="edge"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_sizes_are_checked_before_anything_is_made(tmp_path: Path, kind: str) -> None:
    b = OnnxBuilder((1, 2, 4, 4))
    path = b.save(tmp_path / "net.onnx", b.op("Flatten", HOSTILE[kind](b)))
    with pytest.raises(UnsafeArtifactError, match="not loaded"):
        load_model(path)
