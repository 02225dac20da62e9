"""attack(): verdicts, budgets, evidence, errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from aisec_eval.attacks import APGD, Square, attack
from aisec_eval.errors import CapabilityError, InputError
from aisec_eval.findings import REPEATS
from aisec_eval.models.base import Capabilities
from aisec_eval.results import BROKEN, ERROR, MISCLASSIFIED, OPEN, VERDICTS
from aisec_eval.threats import L1, L2, Box, Linf
from helpers.networks import LayeredModel, random_model, random_samples

CODE = {name: VERDICTS.index(name) for name in VERDICTS}
SMALL: Any = [APGD(steps=10), Square(queries=60)]
BACKENDS = ["native", "jax", "callable"]
SHAPE = (1, 4, 4)


def make(backend: str, shape: tuple[int, ...] = SHAPE, **options: Any) -> LayeredModel:
    return random_model(
        1, shape, native=backend == "native", jax=backend in ("native", "jax"), **options
    )


def methods(backend: str) -> Any:
    return SMALL[1:] if backend == "callable" else SMALL


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threat", [Linf("0.1"), L2(0.4), Box(np.zeros(SHAPE), np.ones(SHAPE))])
def test_verdicts_and_evidence_agree_with_the_model(backend: str, threat: Any) -> None:
    model = make(backend)
    x, y = random_samples(model, 30)
    y[:3] = (y[:3] + 1) % 3
    result = attack(model, x, y, threat, method=methods(backend), seed=3)
    verdicts = {VERDICTS[code] for code in result.verdict}
    assert verdicts <= {MISCLASSIFIED, BROKEN, OPEN}
    assert (result.verdict[:3] == CODE[MISCLASSIFIED]).all()
    assert (result.verdict[3:] != CODE[MISCLASSIFIED]).all()
    broken = result.verdict == CODE[BROKEN]
    assert broken.sum() > 0
    logits = model.logits(result.x_adv).astype(np.float64)
    assert (np.argmax(logits[broken], axis=1) != y[broken]).all()
    assert (np.argmax(logits[result.verdict == CODE[OPEN]], axis=1) == y[result.verdict == 3]).all()
    np.testing.assert_array_equal(result.margin < 0, result.verdict <= CODE[BROKEN])
    np.testing.assert_array_equal(np.isnan(result.distance), ~broken)
    delta = (result.x_adv.astype(np.float64) - x).reshape(30, -1)
    norms = {"linf": abs(delta).max(1), "l2": np.sqrt((delta**2).sum(1)), "box": abs(delta).max(1)}
    np.testing.assert_allclose(result.distance[broken], norms[threat.norm][broken], rtol=1e-12)
    assert threat.norm == "box" or (norms[threat.norm] <= threat.eps_lower).all()
    assert (result.x_adv >= 0).all()
    assert (result.x_adv <= 1).all()
    assert [bool(name) for name in result.found_by] == broken.tolist()
    assert set(result.found_by) <= {"", "apgd-ce", "square"}
    assert result.clean_accuracy == 27 / 30
    assert result.robust_accuracy == (result.verdict == CODE[OPEN]).mean()
    assert result.flags == ()
    assert result.frame.height == 30


@pytest.mark.parametrize("norm", [Linf, L2])
def test_jax_and_native_run_the_same_search(norm: Any) -> None:
    model = make("native")
    x, y = random_samples(model, 40)
    threat = norm(0.05 if norm is Linf else 0.2)
    for loss in ("ce", "dlr", "margin"):
        runs = [
            attack(model, x, y, threat, method=APGD(loss, steps=30), backend=backend, seed=5)
            for backend in ("native", "jax")
        ]
        native, jax = runs
        np.testing.assert_array_equal(native.verdict, jax.verdict)
        assert {BROKEN, OPEN} == {VERDICTS[code] for code in native.verdict}
        broken = native.verdict == CODE[BROKEN]
        # One forward more where the last point is evaluated but no longer differentiated.
        np.testing.assert_allclose(native.margin, jax.margin, atol=5e-3)
        np.testing.assert_allclose(
            native.x_adv[broken], jax.x_adv[broken], atol=1e-4, err_msg=f"{loss} {threat}"
        )
        np.testing.assert_allclose(native.spent.gradients, jax.spent.gradients, atol=1)


def test_square_gives_the_same_on_every_backend() -> None:
    model = make("native")
    x, y = random_samples(model, 25)
    for threat in (Linf("0.05"), L2(0.2), L1(0.5)):
        results = [
            attack(make(backend), x, y, threat, method=Square(queries=50), batch_size=batch)
            for backend, batch in (("native", 3), ("callable", 7), ("callable", None))
        ]
        for other in results[1:]:
            np.testing.assert_array_equal(results[0].x_adv, other.x_adv)
            np.testing.assert_array_equal(results[0].verdict, other.verdict)
            np.testing.assert_array_equal(results[0].spent.queries, other.spent.queries)


@pytest.mark.parametrize("backend", BACKENDS)
def test_budgets_are_kept_and_counted(backend: str) -> None:
    model = make(backend)
    x, y = random_samples(model, 20)
    y[0] = (y[0] + 1) % 3
    result = attack(model, x, y, Linf("0.001"), method=methods(backend))
    open_ = result.verdict == CODE[OPEN]
    assert open_.sum() > 15
    spent = result.spent
    assert spent.forwards[0] == 1
    assert spent.gradients[0] == spent.queries[0] == 0
    assert (spent.queries[open_] == 60).all()
    if backend != "callable":
        assert (spent.forwards[open_] == 1 + 11).all()
        assert (spent.gradients[open_] == (10 if backend == "native" else 11)).all()


def test_callables_see_exactly_what_is_counted() -> None:
    model = make("callable")
    x, y = random_samples(model, 20)
    model.calls.clear()
    result = attack(model, x, y, Linf("0.1"), method=Square(queries=40), batch_size=8)
    counted = result.spent.forwards.sum() + result.spent.queries.sum()
    assert sum(model.calls) == counted + REPEATS
    assert max(model.calls) == 8
    early = result.spent.queries[result.verdict == CODE[BROKEN]]
    assert len(early) > 3
    assert (early < 40).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_radius_zero_costs_one_evaluation_an_attack(backend: str) -> None:
    model = make(backend)
    x, y = random_samples(model, 5)
    result = attack(model, x, y, Linf(0), method=methods(backend))
    assert (result.verdict == CODE[OPEN]).all()
    np.testing.assert_array_equal(result.x_adv, x)
    assert (result.spent.queries == 1).all()


def test_later_attacks_only_see_what_is_left() -> None:
    model = make("native")
    x, y = random_samples(model, 30)
    first = attack(model, x, y, Linf("0.05"), method="apgd-ce")
    both = attack(model, x, y, Linf("0.05"), method=[APGD(), Square(queries=30)])
    broken = first.verdict == CODE[BROKEN]
    np.testing.assert_array_equal(both.spent.queries > 0, ~broken)
    np.testing.assert_array_equal(both.x_adv[broken], first.x_adv[broken])
    again = attack(model, x, y, Linf("0.05"), method=APGD(steps=2, restarts=3))
    one = attack(model, x, y, Linf("0.05"), method=APGD(steps=2))
    assert (again.spent.gradients[again.verdict == CODE[OPEN]] == 6).all()
    assert set(np.flatnonzero(one.verdict == 1)) <= set(np.flatnonzero(again.verdict == 1))


class Failing(LayeredModel):
    """Fails on samples whose first value is above one half."""

    failure = "raise"

    def logits(self, x: Any) -> Any:
        bad = x.reshape(len(x), -1)[:, 0] > 0.5
        logits = super().logits(x)
        if not bad.any():
            return logits
        if self.failure == "raise":
            raise RuntimeError("the sensor\nis on fire")
        if self.failure == "shape":
            return logits[:, :2]
        logits[bad] = {"nan": np.nan, "inf": np.inf}[self.failure]
        return logits


@pytest.mark.parametrize("failure", ["raise", "shape", "nan", "inf"])
def test_a_failing_model_costs_only_the_samples_it_fails_on(failure: str) -> None:
    good = make("callable")
    model = Failing(good.affine, SHAPE, native=False, jax=False)
    model.failure = failure
    x, y = random_samples(good, 20)
    x[:, 0, 0, 0] *= 0.3
    x[[2, 7], 0, 0, 0] = 0.9
    result = attack(model, x, y, Linf("0.02"), method=Square(queries=20))
    np.testing.assert_array_equal(np.flatnonzero(result.verdict == CODE[ERROR]), [2, 7])
    expected = attack(good, x, y, Linf("0.02"), method=Square(queries=20))
    rest = np.setdiff1d(np.arange(20), [2, 7])
    np.testing.assert_array_equal(result.verdict[rest], expected.verdict[rest])
    np.testing.assert_array_equal(result.x_adv[rest], expected.x_adv[rest])
    assert any("2 samples could not be evaluated" in flag for flag in result.flags)
    assert not any("\n" in flag for flag in result.flags)
    if failure == "raise":
        assert any("RuntimeError: the sensor is on fire" in flag for flag in result.flags)
    if failure == "shape":
        assert any("expected [1, 3]" in flag for flag in result.flags)
    assert result.robust_accuracy == (result.verdict == CODE[OPEN]).mean() < 18 / 20


def test_a_jax_function_that_raises_gives_errors_not_robust_samples() -> None:
    model = make("jax")
    x, y = random_samples(model, 4)

    def apply(params: Any, x: Any) -> Any:
        del params
        return x.no_such_method()

    model.jax_function = lambda: (apply, ())  # type: ignore[method-assign]
    result = attack(model, x, y, Linf("0.1"), method="apgd-ce")
    assert (result.verdict == CODE[ERROR]).all()
    assert result.robust_accuracy == 0
    assert any("no_such_method" in flag for flag in result.flags)


def test_nan_gradients_do_not_stop_the_search() -> None:
    import jax.numpy as jnp

    model = make("jax")
    x, y = random_samples(model, 6)

    def apply(layers: Any, x: Any) -> Any:
        from helpers.networks import _apply

        # Value 0, gradient NaN.
        return _apply(layers, x) + jnp.where(x.sum() > 1e9, 1.0, 0.0 * jnp.sqrt(0.0 * x.sum()))

    model.jax_function = lambda: (apply, model.affine)  # type: ignore[method-assign]
    for threat in (Linf("0.1"), L2(0.3)):
        result = attack(model, x, y, threat, method=APGD(steps=5))
        assert set(result.verdict) <= {CODE[OPEN], CODE[BROKEN]}
        assert np.isfinite(result.x_adv).all()


class Lying(LayeredModel):
    """After two calls, misclassifies in batches of more than one."""

    def logits(self, x: Any) -> Any:
        logits = super().logits(x)
        return -logits if len(x) > 1 and len(self.calls) > 2 else logits


def test_what_the_replay_does_not_confirm_is_not_broken() -> None:
    good = make("callable")
    model = Lying(good.affine, SHAPE, native=False, jax=False)
    x, y = random_samples(good, 6)
    result = attack(model, x, y, Linf("0.001"), method=Square(queries=5), batch_size=6)
    assert (result.verdict == CODE[OPEN]).all()
    assert (result.margin >= 0).all()
    # The clean check and the replay; its repetition on a few is in no sample's counts.
    assert result.spent.forwards.tolist() == [2] * 6
    assert any("6 candidates of square not confirmed" in flag for flag in result.flags)


def test_progress_is_told() -> None:
    model = make("native")
    x, y = random_samples(model, 5)
    told: list[tuple[int, int, str]] = []
    attack(model, x, y, Linf("0.1"), method=SMALL, progress=lambda *args: told.append(args))
    assert next(note for *_, note in told) == "clean inputs"
    assert told[-1][2] == "done"
    assert all(0 <= done <= total == 5 for done, total, _ in told)


def test_fast_on_a_black_box_says_what_it_skips() -> None:
    model = make("callable")
    x, y = random_samples(model, 3)
    result = attack(model, x, y, Linf(0))
    assert result.flags == (
        "apgd-margin, apgd-margin-t, fmn, apgd-t, apgd-ce skipped: "
        "the model offers no gradient; use square",
    )


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("callable", {"method": "apgd-ce"}, CapabilityError, "offers no gradient; use square"),
        ("callable", {"backend": "native"}, CapabilityError, "no native graph"),
        ("callable", {"backend": "jax"}, CapabilityError, "no JAX function"),
        ("native", {"backend": "cuda"}, InputError, "choose auto, native or jax"),
        (
            "native",
            {"method": "fgsm"},
            InputError,
            "fast, light, standard, plus, rand, apgd-ce, .*square",
        ),
        ("native", {"method": []}, InputError, "no attacks given"),
        ("native", {"method": [APGD]}, InputError, "is not an attack"),
        ("native", {"method": 3}, InputError, "is not an attack"),
        ("native", {"seed": -1}, InputError, "seed=-1"),
        ("native", {"batch_size": 0}, InputError, "batch_size=0"),
        ("native", {"memory_limit": 1.5}, InputError, "memory_limit=1.5"),
        ("native", {"x": np.zeros((0, *SHAPE), np.float32)}, InputError, "no samples"),
        ("native", {"y": np.array([0, 1, 9])}, InputError, r"y\[2\] is 9"),
    ],
)
def test_refusals(model: str, options: dict[str, Any], error: Any, message: str) -> None:
    target = make(model)
    x, y = random_samples(target, 3)
    arguments = {"x": x, "y": y, "threat": Linf("0.1")} | options
    with pytest.raises(error) as caught:
        attack(target, **arguments)
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)


def test_one_class_is_refused() -> None:
    model = LayeredModel([(np.ones((1, 16)), [0.0])], SHAPE)
    with pytest.raises(InputError, match="has 1 output"):
        attack(model, np.zeros((2, *SHAPE), np.float32), np.zeros(2, int), Linf("0.1"))


def test_labels_only_models_are_refused_by_square() -> None:
    model = make("callable")
    x, y = random_samples(model, 3)
    model.capabilities = Capabilities(scores=False)
    with pytest.raises(CapabilityError, match="returns labels only"):
        attack(model, x, y, Linf("0.1"), method="square")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: APGD(loss="mse"), "loss='mse'"),  # type: ignore[arg-type]
        (lambda: APGD(steps=0), "steps=0"),
        (lambda: APGD(restarts=1.5), "restarts=1.5"),  # type: ignore[arg-type]
        (lambda: Square(queries=0), "queries=0"),
        (lambda: Square(p_init=0), "p_init=0"),
        (lambda: Square(p_init=float("nan")), "p_init=nan"),
    ],
)
def test_attack_parameters_are_checked(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_max_batch_and_memory_limit_bound_the_batches() -> None:
    model = make("callable")
    x, y = random_samples(model, 9)
    for options in ({"memory_limit": 4 * (10 * 16 + 2 * 256 + 12) * 2}, {}):
        model.calls.clear()
        if not options:
            model.capabilities = Capabilities(max_batch=2)
        attack(model, x, y, Linf("0.01"), method=Square(queries=3), **options)
        assert max(model.calls) == 2
