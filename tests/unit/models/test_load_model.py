"""`load_model`: what it takes, what it refuses, what each adapter gives."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import linen, nnx
from jax import numpy as jnp

from aisec_eval.errors import InputError, ModelImportError, UnsafeArtifactError
from aisec_eval.models import Model, load_model
from helpers.onnx_models import OnnxBuilder

if TYPE_CHECKING:
    from pathlib import Path

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


class FlaxCNN(nnx.Module):
    """Channels last, with batch norm and dropout."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.linear = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.norm(self.conv(x)))
        return self.linear(self.dropout(x.reshape(x.shape[0], -1)))


class EquinoxCNN(eqx.Module):
    """Channels first, one sample a call."""

    conv: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    dropout: eqx.nn.Dropout
    linear: eqx.nn.Linear

    def __init__(self) -> None:
        one, two = jax.random.split(KEY)
        self.conv = eqx.nn.Conv2d(1, 4, 3, key=one)
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.dropout = eqx.nn.Dropout(0.5)
        self.linear = eqx.nn.Linear(36, 3, key=two)

    def __call__(self, x: Any) -> Any:
        return self.linear(self.dropout(self.pool(jax.nn.relu(self.conv(x)))).reshape(-1))


def same(model: Model, expected: Any, x: np.ndarray) -> None:
    expected = np.asarray(expected)
    scale = np.abs(expected).max()
    assert np.abs(model.logits(x) - expected).max() <= 1e-4 * scale
    apply, params = model.jax_function()
    assert np.abs(np.asarray(jax.jit(apply)(params, x)) - expected).max() <= 1e-4 * scale


def test_flax_module_is_lowered_in_evaluation_mode_and_left_alone() -> None:
    module = FlaxCNN()
    module.norm.mean[...] = jnp.arange(4.0) / 4
    model = load_model(module, input_shape=(8, 8, 1))
    assert model.report.warnings == (
        "the module was in training mode: a copy in evaluation mode is used",
    )
    assert module.norm.use_running_average is False
    assert module.dropout.deterministic is False
    assert model.capabilities.graph
    module.eval()
    x = RNG.random((5, 8, 8, 1), np.float32)
    same(model, module(x), x)
    again = load_model(module, input_shape=(8, 8, 1), name="again")
    assert (again.name, again.report.warnings, again.digest) == ("again", (), model.digest)
    ops = [model.graph.node_op(i) for i in range(model.graph.num_nodes)]
    # One channel in: channels last is channels first. The rest of the layout is in the weights.
    assert ops == ["input", "reshape", "conv2d", "relu", "reshape", "affine"]


def test_equinox_module_is_vmapped_and_lowered() -> None:
    module = EquinoxCNN()
    model = load_model(module, input_shape=(1, 8, 8))
    assert model.report.warnings == ()
    assert (model.name, model.num_classes, model.input_shape) == ("EquinoxCNN", 3, (1, 8, 8))
    x = RNG.random((5, 1, 8, 8), np.float32)
    same(model, jax.vmap(eqx.nn.inference_mode(module))(x), x)
    ops = [model.graph.node_op(i) for i in range(model.graph.num_nodes)]
    assert ops == ["input", "conv2d", "relu", "max_pool2d", "reshape", "affine"]


def test_plain_callable() -> None:
    w = jnp.asarray(RNG.standard_normal((6, 3)), jnp.float32)

    def network(x: Any) -> Any:
        return jnp.tanh(x @ w)

    model = load_model(network, input_shape=[6])
    assert (model.name, model.num_classes) == ("network", 3)
    x = RNG.random((5, 6), np.float32)
    same(model, network(x), x)


def test_callable_that_cannot_be_lowered_still_works() -> None:
    def network(x: Any) -> Any:
        return jax.numpy.arctan(x)

    model = load_model(network, input_shape=(6,))
    assert model.graph is None
    assert model.capabilities.gradient
    assert not model.capabilities.graph
    assert model.report.not_certifiable.startswith("operator atan (test_load_model.py:")
    assert any("attacks through JAX still work" in w for w in model.report.warnings)
    for n in (0, 1, 2, 16, 17, 300):
        x = RNG.random((n, 6), np.float32)
        np.testing.assert_allclose(model.logits(x), np.asarray(network(x)), rtol=1e-5, atol=1e-6)
    assert len(model.digest) == 64


def test_a_model_is_returned_as_it_is() -> None:
    model = load_model(lambda x: x, input_shape=(3,))
    assert load_model(model) is model


def test_logits_check_their_input() -> None:
    model = load_model(lambda x: x, input_shape=(3,))
    with pytest.raises(InputError, match=r"x has shape \[2, 4\], the model takes \[n, 3\]"):
        model.logits(np.zeros((2, 4), np.float32))
    assert model.logits(np.zeros((2, 3))).dtype == np.float32


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".PICKLE", ".joblib", ".ckpt", ".bin"])
def test_files_that_could_run_code_are_never_opened(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UnsafeArtifactError, match="never opened") as caught:
        load_model(tmp_path / f"missing{suffix}")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("name", "part"),
    [("model.txt", "loaded from .onnx files"), ("missing.onnx", "cannot be read")],
)
def test_other_files(tmp_path: Path, name: str, part: str) -> None:
    with pytest.raises(ModelImportError, match=part):
        load_model(str(tmp_path / name))


def test_folders_and_pipes_are_not_models(tmp_path: Path) -> None:
    (tmp_path / "dir.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    for name in ("dir.onnx", "pipe.onnx"):
        with pytest.raises(ModelImportError, match="not a file"):
            load_model(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, "input_shape="),
        ({"input_shape": ()}, "without the batch axis"),
        ({"input_shape": (0, 3)}, "without the batch axis"),
        ({"input_shape": "abc"}, "without the batch axis"),
        ({"input_shape": (3,), "bounds": (1, 0)}, "lower < upper"),
        ({"input_shape": (3,), "bounds": (0, float("nan"))}, "lower < upper"),
        ({"input_shape": (3,), "bounds": 1}, "lower < upper"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=part):
        load_model(lambda x: x, **options)


def test_objects_that_are_not_models() -> None:
    with pytest.raises(ModelImportError, match=r"cannot load a builtins\.int"):
        load_model(3, input_shape=(3,))
    with pytest.raises(ModelImportError, match=r"flax\.linen module"):
        load_model(linen.Dense(3), input_shape=(3,))
    torch_like = type("Net", (), {"__module__": "torch.nn", "__call__": lambda _s, x: x})
    with pytest.raises(ModelImportError, match=r"torch\.onnx\.export"):
        load_model(torch_like(), input_shape=(3,))


def test_a_function_that_is_not_a_classifier() -> None:
    with pytest.raises(ModelImportError, match=r"expected \[1, classes\]"):
        load_model(lambda x: x, input_shape=(3, 4))
    with pytest.raises(ModelImportError, match="JAX cannot trace it"):
        load_model(lambda x: x @ jnp.ones((4, 3)), input_shape=(5,))


def test_onnx_needs_no_jax(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 6))
    path = b.save(tmp_path / "net.onnx", b.op("MatMul", "input", b.weights(6, 3)))
    code = (
        "import sys, numpy as np; from aisec_eval.models import load_model;"
        f"m = load_model({str(path)!r}); m.logits(np.zeros((2, 6), np.float32));"
        "assert not {'jax', 'flax', 'equinox', 'polars', 'ray'} & set(sys.modules);"
        "m.jax_function(); assert 'jax' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_onnx_jax_function_takes_parameters(tmp_path: Path) -> None:
    b = OnnxBuilder(("N", 6))
    path = b.save(tmp_path / "net.onnx", b.op("MatMul", "input", b.weights(6, 3)))
    model = load_model(path)
    apply, params = model.jax_function()
    x = RNG.random((2, 6), np.float32)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    np.testing.assert_allclose(apply(doubled, x), 2 * model.logits(x), rtol=1e-5)
    assert model.name == "net"
