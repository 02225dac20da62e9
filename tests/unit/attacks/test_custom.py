"""Attacks of one's own: what the engine guarantees around them, whatever they do."""

from __future__ import annotations

import importlib.metadata
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import Square, custom
from aisec_eval.attacks.registry import resolve
from aisec_eval.errors import CapabilityError, InputError
from aisec_eval.models import Capabilities
from helpers.networks import LayeredModel, random_model, random_samples

ROOT = Path(__file__).resolve().parents[3]
THREATS = {
    "linf": ae.Linf(0.1),
    "l2": ae.L2(0.2),
    "l1": ae.L1(0.5),
    "box": ae.Box(np.full((2, 3), 0.25), np.full((2, 3), 1.0)),
}


def verdicts(result: Any) -> Any:
    return np.array([ae.VERDICTS[v] for v in np.asarray(result.verdict)])


class Noise:
    """The plainest attack: independent noise, far outside the threat model."""

    name = "noise"
    queries = 40

    def __init__(self, scale: float = 5.0) -> None:
        self.scale = scale
        self.batches: list[tuple[int, int]] = []
        self.told: list[Any] = []

    def ask(self, batch: Any) -> Any:
        self.batches.append((batch.step, len(batch.y)))
        return batch.x + self.scale * batch.random()

    def tell(self, batch: Any, points: Any, logits: Any) -> None:
        self.told.append((batch, points, logits))


def problem(n: int = 40, **options: Any) -> Any:
    model = random_model(3, (2, 3), **options)
    x = np.maximum(random_samples(model, n)[0], np.float32(0.25))
    return model, x, np.argmax(model.logits(x), axis=1)


@pytest.mark.parametrize("norm", THREATS)
def test_found_points_are_allowed_and_adversarial(norm: str) -> None:
    model, x, y = problem()
    attack = Noise()
    threat = THREATS[norm]
    result = ae.attack(model, x, y, threat, method=[attack])
    broken = verdicts(result) == "broken"
    assert broken.sum() > 3
    assert broken.all() == (norm == "box")
    assert not any("not confirmed" in flag for flag in result.flags)
    delta = result.x_adv.astype(np.float64) - x
    size = {
        "linf": np.abs(delta).max((1, 2)),
        "l2": np.sqrt((delta**2).sum((1, 2))),
        "l1": np.abs(delta).sum((1, 2)),
        "box": np.zeros(40),
    }[norm]
    assert (size <= getattr(threat, "eps", 0)).all()
    assert (np.argmax(model.logits(result.x_adv), 1)[broken] != y[broken]).all()
    assert {result.found_by[i] for i in np.flatnonzero(broken)} == {"noise"}


def test_budget_and_early_stop() -> None:
    model, x, y = problem()
    attack = Noise()
    result = ae.attack(model, x, y, ae.Linf(0.1), method=attack)
    broken = verdicts(result) == "broken"
    spent = result.spent.queries
    assert (spent[~broken] == 40).all()
    assert (spent[broken] < 40).any()
    steps, sizes = zip(*attack.batches, strict=True)
    assert steps == tuple(range(40))
    assert sizes[0] == 40
    assert sizes[-1] < 40
    assert sum(sizes) == spent.sum()
    assert len(attack.told) <= 39  # not after the last step


def test_results_do_not_depend_on_order_or_batch() -> None:
    model, x, y = problem()
    ids = np.arange(100, 140)
    threat = ae.L2(0.2)

    def run(rows: Any, **options: Any) -> Any:
        attack = Noise()
        picked = {"sample_ids": ids[rows], "seed": 7, **options}
        return ae.attack(model, x[rows], y[rows], threat, method=[attack], **picked)

    whole = run(np.arange(40))
    for rows, options in (
        (np.arange(40)[::-1], {}),
        (np.array([5, 3, 31]), {}),
        (np.arange(40), {"batch_size": 1}),
    ):
        part = run(rows, **options)
        np.testing.assert_array_equal(part.x_adv, whole.x_adv[rows])
        np.testing.assert_array_equal(part.spent.queries, whole.spent.queries[rows])
    other = run(np.arange(40), seed=8)
    assert not np.array_equal(other.x_adv, whole.x_adv)


def test_restarts_and_draws_differ() -> None:
    class Draws(Noise):
        name = "draws"
        queries = 2
        restarts = 2

        def ask(self, batch: Any) -> Any:
            self.told.append((batch.random(), batch.random(), batch.normal()))
            return batch.x

    model, x, y = problem(3)
    attack = Draws()
    attack.tell = lambda *_: None  # type: ignore[method-assign]
    ae.attack(model, x, y, ae.Linf(0.01), method=[attack])
    uniform = [a for one, two, _ in attack.told for a in (one, two)]
    assert len(uniform) == 8
    assert len({a.tobytes() for a in uniform}) == 8
    assert all((np.abs(a) <= 1).all() for a in uniform)
    assert np.abs(np.concatenate([n for *_, n in attack.told])).max() > 1


def test_state_follows_its_rows() -> None:
    class Remember(Noise):
        name = "remember"

        def ask(self, batch: Any) -> Any:
            if batch.step == 0:
                batch.state["clean"] = batch.x.copy()
                batch.state["count"] = np.zeros(len(batch.y), np.int64)
            np.testing.assert_array_equal(batch.state["clean"], batch.x)
            np.testing.assert_array_equal(batch.state["count"], batch.step)
            batch.state["count"] += 1
            return super().ask(batch)

    model, x, y = problem()
    result = ae.attack(model, x, y, ae.Linf(0.3), method=[Remember()])
    assert "broken" in verdicts(result)


def test_arrays_cannot_be_overwritten() -> None:
    class Vandal(Noise):
        def ask(self, batch: Any) -> Any:
            batch.x += 1
            return batch.x

    model, x, y = problem(3)
    with pytest.raises(ValueError, match="read-only"):
        ae.attack(model, x, y, ae.Linf(0.3), method=[Vandal()])


def test_not_a_number_is_the_clean_input_and_failures_are_errors() -> None:
    class Nothing(Noise):
        name = "nothing"

        def ask(self, batch: Any) -> Any:
            return np.full(batch.x.shape, np.nan)

    model, x, y = problem(5, native=False, jax=False)
    result = ae.attack(model, x, y, ae.Linf(0.3), method=[Nothing()])
    assert set(verdicts(result)) == {"open"}
    np.testing.assert_array_equal(result.x_adv, x)

    whole = model.logits

    def fails(points: Any) -> Any:
        z = whole(points).copy()
        z[(points != x[: len(points)]).any(axis=(1, 2))] = np.nan
        return z

    model.logits = fails  # type: ignore[method-assign]
    result = ae.attack(model, x, y, ae.Linf(0.3), method=[Noise()])
    assert set(verdicts(result)) == {"error"}


def test_evaluate_save_and_load(tmp_path: Path) -> None:
    model, x, y = problem()
    threat = ae.Linf(0.2)
    first = ae.evaluate(model, x, y, threat, attacks=[Noise(), "square"])
    assert first.info["attacks"] == "(Noise(name='noise', queries=40), 'square')"
    first.save(tmp_path / "run")
    assert "noise" in ae.load_run(tmp_path / "run").evaluations[0].frame["found_by"].to_list()
    single = ae.evaluate(model, x, y, threat, attacks=Options(7))
    assert single.info["attacks"].endswith("Options(queries=7, name='options')")


@dataclass
class Options:
    queries: int
    name: str = "options"

    def ask(self, batch: Any) -> Any:
        return batch.upper

    def tell(self, batch: Any, points: Any, logits: Any) -> None:
        pass


class SignDescent:
    """A gradient attack in JAX."""

    name = "sign-descent"
    steps = 20

    def init(self, rows: Any) -> Any:
        return {"x": rows.x + 0.3 * rows.random(), "count": rows.step}

    def step(self, state: Any, rows: Any, logits: Any, pull: Any) -> Any:
        import jax
        import jax.numpy as jnp

        gradient = pull(jax.grad(lambda z: rows.margins(z).sum())(logits))
        move = 0.2 * (rows.upper - rows.lower) * jnp.sign(gradient)
        return {"x": state["x"] - move, "count": state["count"] + 1}


@pytest.mark.parametrize("norm", ["l1", "box"])
def test_jax_attacks_find_allowed_points(norm: str) -> None:
    model, x, y = problem(native=norm == "l1")
    threat = THREATS[norm]
    result = ae.attack(model, x, y, threat, method=[SignDescent()], batch_size=8)
    noise = ae.attack(model, x, y, threat, method=[Noise()])
    broken = (verdicts(result) == "broken").sum()
    assert broken >= 0.7 * (verdicts(noise) == "broken").sum()
    assert not any("not confirmed" in flag for flag in result.flags)
    open_ = verdicts(result) == "open"
    assert (result.spent.gradients[open_] == 20).all()
    assert result.spent.queries.sum() == 0


def test_jax_rows_are_refilled_and_keyed_by_sample() -> None:
    model, x, y = problem(60, native=False)
    whole = ae.attack(model, x, y, ae.Linf(0.2), method=[SignDescent()], batch_size=8)
    order = np.arange(60)[::-1]
    turned = ae.attack(
        model,
        x[order],
        y[order],
        ae.Linf(0.2),
        method=[SignDescent()],
        batch_size=8,
        sample_ids=order,
    )
    np.testing.assert_array_equal(verdicts(turned), verdicts(whole)[order])
    np.testing.assert_allclose(turned.x_adv, whole.x_adv[order], atol=1e-5)
    assert len(set(whole.spent.gradients.tolist())) > 2  # samples stop at their own time


def test_jax_without_gradients_counts_queries() -> None:
    class Random:
        name = "jax-noise"
        steps = 5

        def init(self, rows: Any) -> Any:
            return {"x": rows.x + rows.normal()}

        def step(self, _state: Any, rows: Any, _logits: Any, _pull: Any) -> Any:
            return {"x": rows.x + rows.normal()}

    model, x, y = problem(8)
    result = ae.attack(model, x, y, ae.Linf(0.01), method=[Random()])
    assert result.spent.gradients.sum() == 0
    assert (result.spent.queries[verdicts(result) == "open"] == 5).all()
    assert result.spent.queries.max() == 5


def bad(**parts: Any) -> Any:
    base = {"name": "bad", "queries": 3, "ask": lambda _s, b: b.x, "tell": lambda *_: None}
    return type("Bad", (), {k: v for k, v in {**base, **parts}.items() if v is not None})()


def bad_jax(**parts: Any) -> Any:
    base = {
        "name": "bad",
        "steps": 3,
        "init": lambda _s, rows: {"x": rows.x},
        "step": lambda _s, state, *_: state,
    }
    return type("Bad", (), {**base, **parts})()


REFUSED = {
    "a class": (Noise, r"pass an object of it: Noise\(\)"),
    "no name": (bad(name=None), "name=None"),
    "two lines": (bad(name="a\nb"), "must be a short text"),
    "taken": (bad(name="square"), "named 'square' exists"),
    "no budget": (bad(queries=None), "queries=None must be an integer"),
    "zero restarts": (bad(restarts=0), "restarts=0 must be"),
    "no tell": (bad(tell=None), "is not an attack"),
    "both forms": (bad(init=print, step=print), "keep one of the two"),
    "steps": (bad_jax(steps=2.5), r"steps=2\.5 must be an integer"),
    "points": (bad(ask=lambda _s, b: b.x[:1]), r"ask returned \[1, 2, 3\]"),
    "none": (bad(ask=lambda _s, _b: None), r"ask returned \[\]"),
    "words": (bad(ask=lambda _s, _b: "abc"), r"ask returned \[0\]"),
    "state": (bad(ask=lambda _s, b: b.state.update(a=np.ones(1)) or b.x), r"state\['a'\]"),
    "state kind": (bad(tell=lambda _s, b, *_: b.state.update(a=3)), r"state\['a'\]"),
    "no x": (bad_jax(init=lambda _s, rows: {"y": rows.x}), 'init must return a dict whose "x"'),
    "no dict": (bad_jax(step=lambda _s, state, *_: state["x"]), "step must return a dict"),
    "keys": (bad_jax(step=lambda _s, s, *_: {**s, "b": s["x"]}), "the keys must stay"),
    "shapes": (
        bad_jax(
            init=lambda _s, rows: {"x": rows.x, "a": rows.y},
            step=lambda _s, s, *_: {**s, "a": s["x"]},
        ),
        "shapes must stay",
    ),
    "rows": (bad_jax(init=lambda _s, rows: {"x": rows.x, "a": rows.y[:3].sum()}), "one row a"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_mistakes_are_told_in_one_line(kind: str) -> None:
    attack, message = REFUSED[kind]
    model, x, y = problem(6)
    with pytest.raises(InputError, match=message) as caught:
        ae.attack(model, x, y, ae.Linf(1e-6), method=[attack])
    assert "\n" not in str(caught.value)


def test_a_fault_in_the_attack_is_the_authors_to_see() -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("my own mistake")

    model, x, y = problem(6)
    for attack in (bad(ask=broken), bad(tell=broken), bad_jax(init=broken), bad_jax(step=broken)):
        with pytest.raises(KeyError, match="my own mistake"):
            ae.attack(model, x, y, ae.Linf(1e-6), method=[attack])


def test_what_a_model_lacks() -> None:
    model, x, y = problem(6, native=False, jax=False)
    with pytest.raises(CapabilityError, match="no JAX function"):
        ae.attack(model, x, y, ae.Linf(0.1), method=[SignDescent()])

    class LabelsOnly(LayeredModel):
        def logits(self, x: Any) -> Any:
            raise CapabilityError(f"labels only, for {len(x)} samples")

        def labels(self, x: Any) -> Any:
            return np.argmax(super().logits(x), axis=1).astype(np.int64)

    blind = LabelsOnly(model.affine, model.input_shape, native=False, jax=False)
    blind.capabilities = Capabilities(scores=False)
    with pytest.raises(CapabilityError, match="labels only"):
        ae.attack(blind, x, y, ae.Linf(0.1), method=[Noise()])
    attack = Noise()
    attack.needs_scores = False  # type: ignore[attr-defined]
    x, y = np.maximum(random_samples(model, 40)[0], np.float32(0.25)), np.zeros(40, np.int64)
    y = blind.labels(x)
    result = ae.attack(blind, x, y, ae.Linf(0.3), method=[attack])
    assert "broken" in verdicts(result)
    assert set(np.unique(attack.told[0][2])) == {0.0, 1.0}


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(name: str, value: str) -> Any:
        return importlib.metadata.EntryPoint(name, value, custom.GROUP)

    entries = {
        "as-class": f"{__name__}:Noise",
        "as-object": f"{__name__}:READY",
        "absent": "no_such_module:Thing",
        "wrong": "math:pi",
    }
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _module())
    monkeypatch.setattr(
        custom,
        "entry_points",
        lambda group: [entry(k, v) for k, v in entries.items()] if group == custom.GROUP else [],
    )
    assert repr(resolve("as-class", ae.Linf(0.1))[0]) == "Noise(name='noise', queries=40)"
    assert repr(resolve(["as-object"], ae.Linf(0.1))[0]) == "Options(queries=3, name='ready')"
    with pytest.raises(InputError, match=r"'absent' \(no_such_module:Thing\) cannot be loaded"):
        resolve("absent", ae.Linf(0.1))
    with pytest.raises(InputError, match="is not an attack"):
        resolve("wrong", ae.Linf(0.1))
    with pytest.raises(InputError, match="as-class, as-object"):
        resolve("unknown", ae.Linf(0.1))
    assert resolve("square", ae.Linf(0.1)) == (Square(),)


READY = Options(3, "ready")


def _module() -> Any:
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


def test_the_examples_of_the_documentation_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "custom_attack.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    assert len(examples[0].strip().splitlines()) <= 40
    names: dict[str, Any] = {}
    for example, found_by in zip(examples, ("greedy-blocks", "sign-descent"), strict=True):
        exec(compile(textwrap.dedent(example), "custom_attack.md", "exec"), names)
        assert found_by in names["result"].found_by
        assert names["result"].robust_accuracy < names["result"].clean_accuracy
    assert "greedy-blocks" in capsys.readouterr().out
