"""Features, logits and errors of a model: the right layer, any source, bounded memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

import aisec_eval as ae
from aisec_eval.detectors import extract
from aisec_eval.detectors.extract import extract_source
from aisec_eval.errors import CapabilityError, InputError
from aisec_eval.models.jit import Jitted
from helpers.backdoored import digits

MIB = 1 << 20
RANDOM = np.random.default_rng(0)
W1 = RANDOM.normal(size=(12, 40)).astype(np.float32)
W2 = RANDOM.normal(size=(40, 5)).astype(np.float32)


def network(x):
    import jax

    return jax.nn.relu(x.reshape(len(x), 12) @ W1) @ W2


@pytest.fixture(scope="module")
def model():
    return ae.load_model(network, input_shape=(3, 4), name="small")


def test_features_logits_and_errors_are_those_of_the_network(model):
    x = RANDOM.random((601, 3, 4)).astype(np.float32)
    y = RANDOM.integers(0, 5, 601)
    found = extract(model, x, y)
    hidden = np.maximum(x.reshape(-1, 12) @ W1, 0)
    logits = hidden @ W2
    powers = np.exp(logits - logits.max(1, keepdims=True))
    errors = powers / powers.sum(1, keepdims=True) - np.eye(5)[y]
    np.testing.assert_allclose(found.features, hidden, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.errors, errors, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.label, y)
    assert found.layer["shape"] == [40]
    assert found.layer["chosen"] == "the input of the last affine layer (default)"
    again = extract(model, x, layer=found.layer["name"])
    np.testing.assert_array_equal(again.features, found.features)
    np.testing.assert_array_equal(again.label, found.logits.argmax(1))
    assert again.layer["chosen"] == "given"


def test_last_layer_errors_and_features_give_the_gradient_of_the_last_weights(model):
    import jax
    import jax.numpy as jnp

    x, y = RANDOM.random((4, 3, 4)).astype(np.float32), np.array([0, 1, 2, 3])
    found = extract(model, x, y)

    def loss(weight, i):
        logits = jnp.asarray(found.features[i]) @ weight
        return -jax.nn.log_softmax(logits)[y[i]]

    for i in range(4):
        gradient = jax.grad(loss)(jnp.asarray(W2), i)
        ours = np.outer(found.features[i], found.errors[i])
        np.testing.assert_allclose(ours, gradient, rtol=1e-4, atol=1e-5)


def test_any_source_and_any_limit_give_the_same_bits(model, tmp_path):
    x = RANDOM.random((3001, 3, 4)).astype(np.float32)
    y = RANDOM.integers(0, 5, 3001)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    expected = ae.scan(x, y, model=model).score
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    sources = [
        (mapped, y),
        (str(tmp_path / "x.npy"), str(tmp_path / "y.npy")),
        (x.reshape(3001, 12), y),
        (iter(_frames(x, y)), None),
    ]
    for features, labels in sources:
        found = ae.scan(features, labels, model=model, memory_limit=4 * MIB)
        np.testing.assert_array_equal(found.score, expected)


def _frames(x, y):
    import polars as pl

    for start in range(0, len(x), 700):
        rows = slice(start, start + 700)
        yield pl.DataFrame({"x": x[rows].reshape(-1, 12), "label": y[rows]})


def test_features_beyond_a_fourth_of_the_limit_are_kept_in_a_file(model):
    x = RANDOM.random((8000, 3, 4)).astype(np.float32)
    file, _ = extract_source(model, x, None, memory_limit=4 * MIB)
    memory, _ = extract_source(model, x, None, memory_limit=64 * MIB)
    assert file.kept.held == 0
    assert memory.kept.held == 8000 * 40 * 4
    for rows in (999, 8000):
        for (a, y), (b, z) in zip(file.batches(rows), memory.batches(rows), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(y, z)
    some = np.array([0, 17, 4095, 7999])
    np.testing.assert_array_equal(file.kept.take(some), memory.kept.take(some))


def test_features_cross_into_the_scan_without_a_copy(model):
    source, _ = extract_source(model, RANDOM.random((700, 3, 4)).astype(np.float32), None)
    first = next(iter(source.batches(100)))[0]
    again = next(iter(source.batches(300)))[0]
    assert first.base is not None
    assert np.shares_memory(first, again)
    assert first.flags.c_contiguous


def test_the_layer_read_is_not_the_logits():
    planted = digits()
    assert planted.success >= 0.9
    found = extract(planted.model, planted.x, planted.y)
    assert found.features.shape == (len(planted.y), 32)
    # The logits of the probe in question have ten columns: they are read only if asked for.
    logits = ae.scan(planted.x, planted.y, model=planted.model, layer=-1, method="split")
    assert logits.info["layer"]["shape"] == [10]
    result = ae.scan(planted.x, planted.y, model=planted.model, method="split")
    assert result.info["layer"]["shape"] == [32]
    assert result.info["dataset"]["poisoned"]
    assert result.info["target_classes"] == [planted.target]
    assert result.flagged[planted.poison].mean() > 0.95
    assert result.flagged[~planted.poison].mean() < 0.01
    twin = digits(0.0)
    quiet = ae.scan(twin.x, twin.y, model=twin.model, method="split")
    assert not quiet.info["dataset"]["poisoned"]
    assert not quiet.flagged.any()


def test_what_cannot_be_read_is_refused_in_one_line(model):
    x = np.zeros((6, 3, 4), np.float32)
    forest = ae.load_model(RandomForestClassifier(3).fit(x.reshape(6, 12), np.arange(6) % 2))
    with pytest.raises(CapabilityError, match=r"does not show its layers.*ONNX export"):
        ae.scan(x.reshape(6, 12), None, model=forest)
    with pytest.raises(InputError, match=r"is no Model; load it first"):
        ae.scan(x, None, model=network)
    with pytest.raises(InputError, match=r"samples of shape \[4, 3\], the model takes \[3, 4\]"):
        ae.scan(np.zeros((6, 4, 3), np.float32), None, model=model)
    with pytest.raises(InputError, match=r"dtype uint8.*/ 255"):
        ae.scan(np.zeros((6, 3, 4), np.uint8), None, model=model)
    with pytest.raises(InputError, match="layer='fc' goes with a model"):
        ae.scan(x.reshape(6, 12), None, layer="fc")
    with pytest.raises(InputError, match=r"row 1: label 5, the model has classes 0\.\.4"):
        extract(model, x, [0, 5, 1, 2, 3, 4])
    x[4, 1, 2] = np.nan
    with pytest.raises(InputError, match="row 4: value 6 is not finite"):
        extract(model, x)


def test_a_wide_network_takes_smaller_blocks(model):
    from aisec_eval.detectors.extract import Pass, _features
    from aisec_eval.models.layers import Layer, Layers

    small = model.layers
    assert Pass(model, small, (small.penultimate, small.output), _features, None).block == 256
    table = [dataclasses.replace(layer, shape=(1 << 22,)) for layer in small.table]
    wide = Layers("wide", [*table[:-1], Layer("out", "add", (5,), (0,))], 1, lambda _: (None, ()))
    assert Pass(model, wide, (0, 1), _features, None).block == 1


def test_the_same_layer_as_the_models_own_function(model):
    x = RANDOM.random((3, 3, 4)).astype(np.float32)
    own = Jitted(*model.jax_function())(x)
    np.testing.assert_allclose(extract(model, x).logits, own, rtol=1e-5, atol=1e-5)


def test_labels_in_a_column_are_read_with_the_inputs(model, tmp_path):
    import polars as pl

    x = RANDOM.random((50, 3, 4)).astype(np.float32)
    y = RANDOM.integers(0, 5, 50)
    frame = pl.DataFrame({"x": x.reshape(-1, 12), "label": y})
    frame.write_parquet(tmp_path / "x.parquet")
    for source in (frame, tmp_path / "x.parquet"):
        np.testing.assert_array_equal(extract(model, source).label, y)
