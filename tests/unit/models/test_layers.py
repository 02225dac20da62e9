"""Layers by name: which one is chosen, and that the values are those of the network."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

import aisec_eval as ae
from aisec_eval.errors import CapabilityError, InputError
from helpers.onnx_models import OnnxBuilder

RANDOM = np.random.default_rng(0)
X = RANDOM.random((5, 1, 8, 8)).astype(np.float32)
W1 = (RANDOM.normal(size=(64, 16)) / 8).astype(np.float32)
W2 = RANDOM.normal(size=(16, 10)).astype(np.float32)
KERNEL = RANDOM.normal(size=(3, 3, 1, 4)).astype(np.float32)


def values(layers, x, *wanted):
    apply, params = layers.function(wanted)
    return [np.asarray(value) for value in jax.jit(apply)(params, x)]


def hidden(x):
    return jax.nn.gelu(x.reshape(len(x), -1) @ W1)


def test_penultimate_is_the_input_of_the_last_affine_layer_whatever_follows_it():
    def network(x):
        return jax.nn.log_softmax(hidden(x) @ W2 + 1)

    layers = ae.load_model(network, input_shape=(1, 8, 8)).layers
    assert layers.table[layers.penultimate].shape == (16,)
    features, logits = values(layers, X, layers.penultimate, layers.output)
    np.testing.assert_allclose(features, hidden(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, network(X), rtol=1e-5, atol=1e-5)


def test_products_of_two_layers_are_not_affine():
    def network(x):
        h = hidden(x).reshape(len(x), 4, 4)
        attention = jax.nn.softmax(h @ h.transpose(0, 2, 1), axis=-1)
        logits = (attention @ h).reshape(len(x), 16) @ W2
        return logits * logits.sum(axis=1, keepdims=True)

    layers = ae.load_model(network, input_shape=(1, 8, 8)).layers
    chosen = layers.table[layers.penultimate]
    assert chosen.shape == (16,)
    assert layers.table[layers.penultimate + 1].op == "dot_general"
    squares = ae.load_model(lambda x: x.reshape(len(x), -1)[:, :3] ** 2, input_shape=(4,)).layers
    with pytest.raises(CapabilityError, match=r"no affine layer.*name one with layer="):
        _ = squares.penultimate


@pytest.mark.parametrize("first", [True, False])
def test_feature_maps_know_their_channels(first):
    def network(x):
        orders = ("NCHW", "HWIO", "NCHW") if first else ("NHWC", "HWIO", "NHWC")
        x = x if first else x.transpose(0, 2, 3, 1)
        h = jax.lax.conv_general_dilated(x, KERNEL, (2, 2), "SAME", dimension_numbers=orders)
        h = jnp.maximum(h + 0.1, 0)
        return h.reshape(len(x), -1)[:, :16] @ W2

    layers = ae.load_model(network, input_shape=(1, 8, 8)).layers
    maps = layers.table[layers.maps]
    assert maps.shape == ((4, 4, 4))
    assert maps.op == "max"
    assert maps.channels == (0 if first else 2)


def test_onnx_nodes_keep_their_names(tmp_path):
    b = OnnxBuilder((1, 1, 8, 8))
    conv = b.op("Conv", "input", b.weights(4, 1, 3, 3), b.constant(np.zeros(4), np.float32))
    relu = b.op("Relu", conv)
    flat = b.op("Flatten", relu)
    dense = b.op("Gemm", flat, b.weights(5, 144), b.constant(np.zeros(5), np.float32), transB=1)
    model = ae.load_model(b.save(tmp_path / "net.onnx", dense))
    layers = model.layers
    index = layers.find(relu)
    assert layers.table[index].channels == 0
    assert layers.maps == index
    assert layers.table[layers.penultimate].shape == (144,)
    maps, flat_value, logits = values(layers, X, index, layers.penultimate, layers.output)
    np.testing.assert_array_equal(maps.reshape(5, -1), flat_value)
    np.testing.assert_allclose(maps, model.graph.forward(X, index), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, model.logits(X), rtol=1e-4, atol=1e-5)


def test_layers_of_scikit_learn_networks_and_none_of_forests():
    x, y = X.reshape(5, -1), np.arange(5) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = MLPClassifier((7,), max_iter=3).fit(x, y)
    layers = ae.load_model(network).layers
    assert layers.table[layers.penultimate].shape == (7,)

    class Hidden(ae.Model):
        def logits(self, x):
            return x

    assert Hidden().layers is None


def test_a_layer_that_is_not_there_is_refused():
    layers = ae.load_model(lambda x: hidden(x) @ W2, input_shape=(1, 8, 8)).layers
    assert layers.find(-1) == layers.output
    assert layers.find(layers.table[2].name) == 2
    for wrong in ("fc7", 99, -99, True):
        with pytest.raises(InputError, match="is none of its"):
            layers.find(wrong)
