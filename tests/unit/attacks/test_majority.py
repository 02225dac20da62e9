"""The sequential test of randomised models: its error, its power, and what attacks make of it."""

from __future__ import annotations

from fractions import Fraction
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import APGD, Found, Square, attack
from aisec_eval.attacks.majority import ERROR, MOST, Votes, is_majority
from aisec_eval.models.base import Capabilities
from helpers.networks import LayeredModel, random_model, random_samples

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (1, 4, 4)
BROKEN, OPEN, MISCLASSIFIED = (ae.VERDICTS.index(v) for v in ("broken", "open", "misclassified"))


def crossing(p: float, most: int) -> float:
    """Probability that the test ever says majority within `most` draws, by enumeration."""
    alive, crossed = {0: 1.0}, 0.0
    for draws in range(1, most + 1):
        after: dict[int, float] = {}
        for hits, weight in alive.items():
            after[hits] = after.get(hits, 0.0) + weight * (1 - p)
            after[hits + 1] = after.get(hits + 1, 0.0) + weight * p
        crossed += sum(w for hits, w in after.items() if is_majority(hits, draws))
        alive = {hits: w for hits, w in after.items() if not is_majority(hits, draws)}
    return crossed


@pytest.mark.parametrize("p", [0.5, 0.45, 0.3, 0.0])
def test_its_error_is_below_one_percent_however_often_it_looks(p: float) -> None:
    assert crossing(p, MOST) <= 1 / ERROR
    if p == 0.5:
        assert crossing(p, MOST) > 1 / ERROR / 4


@pytest.mark.parametrize(("p", "power"), [(1.0, 1.0), (0.9, 0.999), (0.7, 0.98)])
def test_it_finds_majorities(p: float, power: float) -> None:
    assert crossing(p, MOST) >= power


def test_the_evidence_is_the_mixture_of_likelihoods() -> None:
    """Against the integral of the likelihood ratio over [1/2, 1], term by term."""

    def evidence(hits: int, draws: int) -> Fraction:
        total = Fraction(0)
        misses = draws - hits
        for i in range(misses + 1):  # (1 - p)^misses expanded
            power = hits + i + 1
            term = Fraction(1, power) * (1 - Fraction(1, 2**power))
            total += comb(misses, i) * (-1) ** i * term
        return 2 * 2**draws * total

    for draws in range(1, 40):
        for hits in range(draws + 1):
            assert is_majority(hits, draws) == (2 * hits > draws and evidence(hits, draws) >= ERROR)
    assert not is_majority(8, 8)
    assert is_majority(9, 9)


def test_votes() -> None:
    rng = np.random.default_rng(0)
    chance = np.array([0.0, 1.0, 0.5, 0.8, 0.2, 1.0])

    def draw(rows: Any) -> Any:
        wrong = rng.random(len(rows)) < chance[rows]
        logits = np.where(wrong, -2.0, 1.0)[:, None] * np.array([[1.0, 0.0]])
        margin = logits[:, 0] - logits[:, 1]
        margin[rows == 5] = np.nan
        return logits.astype(np.float32), margin

    votes = Votes(6, 2)
    votes.run(draw)
    assert votes.decided[[0, 1, 3, 4]].tolist() == [-1, 1, 1, -1]
    assert votes.draws[:2].tolist() == [9, 9]
    assert votes.draws[2] == MOST or abs(votes.decided[2]) == 1
    assert votes.failed.tolist() == [False] * 5 + [True]
    assert votes.draws[5] == 1
    assert votes.margin[:2].tolist() == [1, -2]
    assert ((votes.margin < 0) == (votes.wrong > votes.draws / 2))[:5].all()
    assert np.isnan(votes.margin[5])
    np.testing.assert_array_equal(votes.logits[:2], [[1, 0], [-2, 0]])
    assert np.isnan(votes.logits[5]).all()


class Noisy(LayeredModel):
    """Adds noise to its inputs."""

    scale = 0.2

    def logits(self, x: Any) -> Any:
        if not hasattr(self, "rng"):
            self.rng = np.random.default_rng(0)
        noise = self.scale * self.rng.normal(size=np.shape(x)).astype(np.float32)
        return super().logits(np.asarray(x) + noise)


def noisy() -> tuple[Noisy, Any, Any]:
    good = random_model(1, SHAPE, native=False, jax=False)
    model = Noisy(good.affine, SHAPE, native=False, jax=False)
    x, _ = random_samples(good, 40)
    # The label is what it says most often.
    votes = np.stack([model.logits(x).argmax(axis=1) for _ in range(101)])
    counts = np.stack([(votes == label).sum(axis=0) for label in range(3)], axis=1)
    sure = counts.max(axis=1) > 70
    return model, x[sure], counts[sure].argmax(axis=1)


def test_one_lucky_draw_breaks_nothing() -> None:
    model, x, y = noisy()

    def clean(problem: Any) -> Found:
        """Offers the clean input itself, as if a draw had been misclassified."""
        found = Found.nothing(problem)
        found.status[:], found.margin[:] = 1, -1
        return found

    class Planted:
        name, needs_gradient, restarts = "planted", False, 1

        def unsupported(self, target: Any, threat: Any) -> None:
            del target, threat

        def run(self, target: Any, problem: Any, restart: int) -> Any:
            del target, restart
            return clean(problem)

    result = attack(model, x, y, ae.Linf(0.1), method=Planted())
    assert (result.verdict == OPEN).all()
    assert result.draws is not None
    assert (result.draws == 0).all()
    [flag] = result.flags
    assert flag.startswith("randomised: ")
    assert f"{len(x)} candidates failed a fresh evaluation" in flag


def test_what_is_broken_is_misclassified_more_often_than_not() -> None:
    model, x, y = noisy()
    threat = ae.Linf(0.3)
    result = attack(model, x, y, threat, method=Square(queries=60, eot=10))
    lucky = attack(model, x, y, threat, method=Square(queries=60))
    assert result.robust_accuracy < lucky.robust_accuracy - 0.1
    assert (result.spent.queries % 10 == 0).all()
    broken = result.verdict == BROKEN
    assert 3 < broken.sum() < len(x)
    assert ((result.draws > 0) == broken).all()
    assert result.draws[broken].min() >= 9
    assert (result.margin[broken] < 0).all()
    again = np.stack([model.logits(result.x_adv[broken]).argmax(axis=1) for _ in range(201)])
    assert ((again != y[broken]).mean(axis=0) > 0.45).all()
    assert result.frame["draws"].to_list() == result.draws.tolist()


def test_clean_inputs_are_classified_by_their_majority() -> None:
    model, x, y = noisy()
    wrong = (y + 1) % 3
    result = attack(model, x, wrong, ae.Linf(0.01), method=Square(queries=2))
    assert (result.verdict == MISCLASSIFIED).all()
    assert result.clean_accuracy == 0
    right = attack(model, x, y, ae.Linf(0), method=Square(queries=1))
    assert (right.verdict == OPEN).all()
    assert right.spent.forwards.min() >= 1 + 9


def test_models_that_are_not_randomised_are_asked_once() -> None:
    good = random_model(1, SHAPE, native=False, jax=False)
    x, y = random_samples(good, 20)
    result = attack(good, x, y, ae.Linf(0.1), method=Square(queries=40))
    assert result.draws is None
    assert "draws" not in result.frame.columns
    good.capabilities = Capabilities(deterministic=False)
    told = attack(good, x, y, ae.Linf(0.1), method=Square(queries=40))
    np.testing.assert_array_equal(told.verdict, result.verdict)
    assert set(told.draws[told.verdict == BROKEN]) == {9}


class NoisyWithGradient(Noisy):
    """Randomised, with gradients of its own."""

    def value_and_vjp(self, x: Any, cotangent: Any) -> Any:
        logits = self.logits(x)
        weights = np.ascontiguousarray(cotangent(logits))
        return logits, self._built.value_and_vjp(np.ascontiguousarray(x), weights)[1]


def test_rand_breaks_what_single_draws_do_not() -> None:
    plain, x, y = noisy()
    model = NoisyWithGradient(plain.affine, SHAPE, native=False, jax=False)
    model.capabilities = Capabilities(gradient=True)
    threat = ae.L2(0.8)
    single = attack(model, x, y, threat, method=APGD(steps=20))
    averaged = attack(model, x, y, threat, method="rand")
    assert averaged.robust_accuracy < single.robust_accuracy - 0.1
    broken = averaged.verdict == BROKEN
    assert averaged.draws[broken].min() >= 9
    assert averaged.draws.max() <= MOST
    again = np.stack([model.logits(averaged.x_adv[broken]).argmax(axis=1) for _ in range(201)])
    assert ((again != y[broken]).mean(axis=0) > 0.45).all()


def test_rand_votes_even_on_models_that_look_stable() -> None:
    plain, x, y = noisy()
    model = NoisyWithGradient(plain.affine, SHAPE, native=False, jax=False)
    model.capabilities, model.scale = Capabilities(gradient=True), 0.0
    result = attack(model, x, y, ae.Linf(0.3), method=APGD(steps=5, eot=2))
    broken = result.verdict == BROKEN
    assert broken.any()
    assert set(result.draws[broken]) == {9}
    assert not any(flag.startswith("randomised") for flag in result.flags)


def test_evaluations_keep_the_draws(tmp_path: Path) -> None:
    model, x, y = noisy()
    square = Square(queries=30, eot=10)
    e = ae.evaluate(model, x, y, ae.Linf(0.3), attacks=square, certify=None)
    assert e.draws is not None
    assert ((e.draws > 0) == (e.verdict == BROKEN)).all()
    assert e.draws.any()
    e.save(tmp_path / "run")
    [back] = ae.load_run(tmp_path / "run").evaluations
    np.testing.assert_array_equal(back.draws, e.draws)
    assert back.findings == e.findings
