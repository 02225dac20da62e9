"""robustness_curve(): the brackets of single radii, monotone, for less."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import APGD, Square
from aisec_eval.curve import _NORMS
from helpers.networks import LayeredModel, random_model, random_samples

SHAPE = (1, 4, 4)
SMALL: Any = [APGD(steps=15), Square(queries=60)]
CODE = {name: ae.VERDICTS.index(name) for name in ae.VERDICTS}
RADII = {
    "linf": ["0.005", "0.01", "0.02", "0.04", "0.08", "0.16"],
    "l2": [0.02, 0.04, 0.08, 0.16, 0.32, 0.64],
    "l1": [0.05, 0.1, 0.2, 0.4, 0.8, 1.6],
}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_agrees_with_single_radii(norm: Any) -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 40)
    y[0] = (y[0] + 1) % 3
    curve = ae.robustness_curve(model, x, y, norm=norm, eps=RADII[norm][::-1], attacks=SMALL)
    assert curve.eps == tuple(sorted(Fraction(e) for e in RADII[norm]))
    cost = 0
    for row, eps in zip(curve.verdict, RADII[norm], strict=True):
        single = ae.evaluate(model, x, y, _NORMS[norm](eps), attacks=SMALL)
        cost += single.spent.queries.sum() + single.spent.gradients.sum()
        np.testing.assert_array_equal(row == CODE["certified"], single.verdict == 2)
        # An example found elsewhere may break what an attack at this radius misses.
        assert ((row == CODE["broken"]) >= (single.verdict == CODE["broken"])).all()
        assert ((row == CODE["open"]) <= (single.verdict == CODE["open"])).all()
    assert (curve.verdict[:, 0] == CODE["misclassified"]).all()
    assert curve.clean_accuracy == 39 / 40
    assert curve.spent.queries.sum() + curve.spent.gradients.sum() < cost
    assert len(set(curve.brackets)) > 3
    assert curve.frame["attacked"].is_sorted(descending=True)
    assert curve.frame["certified"].is_sorted(descending=True)
    assert curve.frame.height == 6


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_example_holds_at_every_radius_it_counts_for(norm: Any) -> None:
    model = random_model(2, SHAPE)
    x, y = random_samples(model, 40)
    curve = ae.robustness_curve(
        model, x, y, norm=norm, eps=RADII[norm], attacks=SMALL, certify=None
    )
    broken = curve.verdict == CODE["broken"]
    assert (broken[1:] >= broken[:-1]).all()
    known = broken.any(axis=0)
    assert known.sum() > 5
    assert (model.logits(curve.x_adv[known]).argmax(axis=1) != y[known]).all()
    np.testing.assert_array_equal(np.isnan(curve.distance), ~known)
    for row, eps in zip(broken, curve.eps, strict=True):
        assert (curve.distance[row] <= float(eps)).all()
    np.testing.assert_array_equal(curve.x_adv[~known], x[~known])
    assert [bool(name) for name in curve.found_by] == known.tolist()


def test_order_and_batch_do_not_matter() -> None:
    model = random_model(3, SHAPE)
    x, y = random_samples(model, 20)
    options: Any = {"norm": "linf", "eps": RADII["linf"], "attacks": SMALL}
    one = ae.robustness_curve(model, x, y, **options)
    order = np.random.default_rng(0).permutation(20)
    other = ae.robustness_curve(
        model, x[order], y[order], sample_ids=order, batch_size=3, **options
    )
    np.testing.assert_array_equal(one.verdict[:, order], other.verdict)
    np.testing.assert_array_equal(one.x_adv[order], other.x_adv)
    np.testing.assert_array_equal(one.spent.gradients[order], other.spent.gradients)


def test_models_without_graph_or_gradient() -> None:
    model = random_model(1, SHAPE, native=False, jax=False)
    x, y = random_samples(model, 15)
    curve = ae.robustness_curve(model, x, y, norm="linf", eps=RADII["linf"][3:])
    assert set(curve.verdict.ravel()) == {CODE["broken"], CODE["open"]}
    assert any(flag.startswith("not certifiable") for flag in curve.flags)


class Failing(LayeredModel):
    """Fails on inputs whose first value is above one half."""

    def logits(self, x: Any) -> Any:
        logits = super().logits(x)
        logits[x.reshape(len(x), -1)[:, 0] > 0.5] = np.nan
        return logits


def test_a_failure_is_an_error_at_every_radius() -> None:
    good = random_model(1, SHAPE, native=False, jax=False)
    model = Failing(good.affine, SHAPE, native=False, jax=False)
    x, _ = random_samples(good, 10)
    x[:, 0, 0, 0] *= 0.3
    x[4, 0, 0, 0] = 0.9
    y = good.logits(x).argmax(axis=1)
    curve = ae.robustness_curve(model, x, y, norm="linf", eps=["0.01", "0.02"], attacks="square")
    assert (curve.verdict[:, 4] == CODE["error"]).all()
    assert not (np.delete(curve.verdict, 4, axis=1) == CODE["error"]).any()
    assert curve.clean_accuracy == 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "linf", "eps": []}, "at least one radius"),
        ({"norm": "linf", "eps": "8/255"}, "must be several radii"),
        ({"norm": "linf", "eps": 0.1}, "must be several radii"),
        ({"norm": "linf", "eps": ["1/10", "0.1"]}, "0.1 twice"),
        ({"norm": "linf", "eps": [0.1, 2]}, "larger than the input range"),
        ({"norm": "box", "eps": [0.1]}, "choose one of linf"),
        ({"norm": "l2", "eps": [1], "certify": "magic"}, "choose one of"),
        ({"norm": "l2", "eps": [1], "attacks": "magic"}, "attack 'magic' is unknown"),
        ({"norm": "l2", "eps": [1], "seed": -1}, "seed=-1"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    model = random_model(1, SHAPE)
    x, y = random_samples(model, 3)
    with pytest.raises(ae.errors.InputError, match=message):
        ae.robustness_curve(model, x, y, **options)
