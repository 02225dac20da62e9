"""On native graphs an attack is bit for bit the same for any batch, order, part and threads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisec_eval import _core
from aisec_eval.attacks import APGD, Square, attack
from aisec_eval.threats import L1, L2, Linf
from helpers.networks import LayeredModel, random_model, random_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTACKS: Any = [APGD(steps=12, restarts=2), APGD("dlr", steps=5), Square(queries=40)]


class ConvModel(LayeredModel):
    """Convolution, ReLU, pooling and two affine layers: kernels that work in blocks."""

    def _build(self) -> _core.Graph:
        rng = np.random.default_rng(0)
        conv = rng.normal(size=(5, 2, 3, 3)).astype(np.float32) / 4
        spec = {
            "nodes": [
                {"name": "x", "op": "input", "attrs": {"shape": [2, 7, 6]}},
                {
                    "name": "conv",
                    "op": "conv2d",
                    "inputs": [0],
                    "tensors": {"weight": 0, "bias": 1},
                    "attrs": {
                        "stride": [1, 1],
                        "padding": [1, 1, 1, 1],
                        "dilation": [1, 1],
                        "groups": 1,
                    },
                },
                {"name": "relu", "op": "relu", "inputs": [1]},
                {"name": "flat", "op": "reshape", "inputs": [2], "attrs": {"shape": [210]}},
                {
                    "name": "fc",
                    "op": "affine",
                    "inputs": [3],
                    "tensors": {"weight": 2, "bias": 3},
                },
            ],
            "output": 4,
        }
        tensors = [conv, np.zeros(5, np.float32), *self.affine[0]]
        return _core.Graph(json.dumps(spec), tensors)


def conv_model() -> ConvModel:
    rng = np.random.default_rng(2)
    return ConvModel([(rng.normal(size=(4, 210)) / 10, np.zeros(4))], (2, 7, 6))


MODELS = [random_model(3, (1, 5, 4)), conv_model()]


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    threads = _core.get_threads()
    yield
    _core.set_threads(threads)


@settings(max_examples=12)
@given(
    which=st.integers(0, len(MODELS) - 1),
    threat=st.sampled_from([Linf("0.04"), L2(0.25), L1(0.8)]),
    batch=st.sampled_from([1, 2, 5, 64, 500]),
    threads=st.integers(1, 4),
    order=st.permutations(range(15)),
    cut=st.integers(1, 14),
)
def test_batch_order_parts_and_threads_change_nothing(
    which: int, threat: Any, batch: int, threads: int, order: list[int], cut: int
) -> None:
    model = MODELS[which]
    x, y = random_samples(model, 15, seed=4)
    ids = np.arange(100, 115)
    _core.set_threads(2)
    whole = attack(model, x, y, threat, method=ATTACKS, seed=9, sample_ids=ids)
    _core.set_threads(threads)
    for part in (np.array(order[:cut]), np.array(order[cut:])):
        some = attack(
            model,
            x[part],
            y[part],
            threat,
            method=ATTACKS,
            seed=9,
            sample_ids=ids[part],
            batch_size=batch,
        )
        np.testing.assert_array_equal(some.x_adv, whole.x_adv[part])
        np.testing.assert_array_equal(some.margin, whole.margin[part])
        np.testing.assert_array_equal(some.verdict, whole.verdict[part])
        assert some.found_by == tuple(whole.found_by[i] for i in part)
        for count in ("forwards", "gradients", "queries"):
            np.testing.assert_array_equal(
                getattr(some.spent, count), getattr(whole.spent, count)[part]
            )


def test_seed_and_sample_ids_key_the_random_numbers() -> None:
    model = MODELS[0]
    x, y = random_samples(model, 15)
    for method in (APGD(steps=1), Square(queries=5)):
        base = attack(model, x, y, L2(0.01), method=method)
        for options in ({"seed": 1}, {"sample_ids": np.arange(1, 16)}):
            other = attack(model, x, y, L2(0.01), method=method, **options)
            assert (base.x_adv != other.x_adv).any()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**64 - 1),
    shape=st.sampled_from([(5,), (1, 3, 3), (2, 5, 3), (6, 5, 2), (4, 4)]),
    eps=st.one_of(st.just(0.0), st.floats(1e-7, 1.0)),
    threat=st.sampled_from([Linf, L2, L1]),
)
def test_points_never_leave_the_threat_model(
    seed: int, shape: tuple[int, ...], eps: float, threat: Any
) -> None:
    model = random_model(seed % 1000, shape)
    x, y = random_samples(model, 6, seed=seed % 1000)
    x[0], x[1] = 0, 1
    x[2] = np.round(x[2])
    y = np.argmax(model.logits(x), axis=1)
    result = attack(model, x, y, threat(eps), method=[APGD(steps=6), Square(queries=12)], seed=seed)
    delta = (result.x_adv.astype(np.float64) - x).reshape(6, -1)
    norm = {"linf": np.inf, "l2": 2, "l1": 1}[threat.norm]
    assert (np.linalg.norm(delta, norm, axis=1) <= eps).all()
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()
    assert not any("not confirmed" in flag for flag in result.flags)
