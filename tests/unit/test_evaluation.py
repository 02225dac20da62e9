"""evaluate(): the bracket holds, evidence stands alone, nothing is attacked twice or lost."""

from dataclasses import replace
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks.engine import NativeAttack
from aisec_eval.models.base import Capabilities, LoadReport, Model
from aisec_eval.results import VERDICTS

MISCLASSIFIED, BROKEN, CERTIFIED, OPEN, ERROR = range(len(VERDICTS))


def linear(seed=1, classes=4, width=6):
    """A linear classifier, whose robust margin is known in closed form."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(classes, width)).astype(np.float32)
    model = ae.load_model(lambda x: x @ weight.T, input_shape=(width,), name="linear")
    x = random.uniform(0.3, 0.7, (60, width)).astype(np.float32)
    y = np.argmax(x @ weight.T, axis=1)
    y[::10] = (y[::10] + 1) % classes
    return model, x, y, weight.astype(np.float64)


@pytest.fixture(scope="module")
def network():
    """A small network and samples of which some are certified, some broken, some neither."""
    random = np.random.default_rng(1)
    sizes = [(8, 24), (24, 24), (24, 5)]
    layers = [(random.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for s in sizes]

    def apply(x):
        x = jnp.maximum(x @ layers[0] - 0.1, 0)
        return jnp.maximum(x @ layers[1], 0) @ layers[2]

    model = ae.load_model(apply, input_shape=(8,), name="network")
    x = random.uniform(0, 1, (80, 8)).astype(np.float32)
    y = model.logits(x).argmax(axis=1).astype(np.int64)
    y[:3] = (y[:3] + 1) % 5
    return model, x, y


FAST = (ae.attacks.APGD(steps=20), ae.attacks.Square(queries=200))


def same(a, b):
    for name in ("sample", "label", "verdict", "x_adv", "x_clean", "margin", "margin_lower"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.frame.equals(b.frame)
    assert (a.flags, a.info, a.model_digest) == (b.flags, b.info, b.model_digest)


@pytest.mark.parametrize("eps", ["1/50", "1/20"])
def test_a_linear_model_is_decided_exactly(eps):
    model, x, y, weight = linear()
    e = ae.evaluate(model, x, y, ae.Linf(eps, bounds=(-9, 9)), attacks=FAST)
    wide = x.astype(np.float64)
    difference = weight[y][:, None] - weight
    margins = np.einsum("nd,nkd->nk", wide, difference) - float(Fraction(eps)) * abs(
        difference
    ).sum(axis=2)
    margins[np.arange(len(y)), y] = np.inf
    expected = np.where(margins.min(axis=1) > 0, CERTIFIED, BROKEN)
    expected[(wide @ weight.T).argmax(axis=1) != y] = MISCLASSIFIED
    assert set(expected) == {MISCLASSIFIED, BROKEN, CERTIFIED}
    assert np.array_equal(e.verdict, expected)
    proven = e.verdict == CERTIFIED
    np.testing.assert_allclose(e.margin_lower[proven], margins.min(axis=1)[proven], rtol=1e-5)
    assert e.bracket.open == 0
    assert e.bracket.certified == proven.mean()


def test_evidence_stands_alone(network):
    model, x, y = network
    for threat in (ae.Linf("0.05"), ae.L2("0.1")):
        e = ae.evaluate(model, x, y, threat, attacks=FAST)
        broken = e.verdict == BROKEN
        assert broken.sum() == len(e.x_adv) == len(e.x_clean) > 0
        assert np.array_equal(e.x_clean, x[broken])
        assert (e.x_adv >= 0).all()
        assert (e.x_adv <= 1).all()
        logits = model.logits(e.x_adv)
        assert (logits.argmax(axis=1) != y[broken]).all()
        for clean, adv in zip(e.x_clean, e.x_adv, strict=True):
            delta = [
                abs(Fraction(float(a)) - Fraction(float(b)))
                for a, b in zip(adv, clean, strict=True)
            ]
            if threat.norm == "linf":
                assert max(delta) <= threat.eps
            else:
                assert sum(d * d for d in delta) <= threat.eps**2
        assert (e.margin[broken] < 0).all()
        assert (e.distance[broken] <= float(threat.eps) * (1 + 1e-12)).all()
        assert np.isnan(e.distance[~broken]).all()


def test_verdicts_fit_together(network):
    model, x, y = network
    e = ae.evaluate(model, x, y, ae.Linf("0.03"), attacks=FAST)
    assert set(e.verdict) >= {MISCLASSIFIED, BROKEN, CERTIFIED}
    clean = model.logits(x).argmax(axis=1) == y
    assert np.array_equal(e.verdict == MISCLASSIFIED, ~clean)
    certified = e.verdict == CERTIFIED
    assert (e.margin_lower[certified] > 0).all()
    assert (e.margin >= e.margin_lower).all()
    assert not (e.margin_lower[~certified] > 0).any()
    named = {(v, name) for v, name in zip(e.verdict.tolist(), e.found_by, strict=True)}
    undecided, attacked = (
        {(MISCLASSIFIED, ""), (OPEN, "")},
        {(BROKEN, "apgd-ce"), (BROKEN, "square")},
    )
    assert named <= {*undecided, *attacked, (CERTIFIED, "crown")}
    assert e.clean_accuracy == clean.mean()
    assert e.info["threat"] == {"norm": "linf", "eps": "3/100", "bounds": [0.0, 1.0]}


def test_certified_samples_are_not_attacked(network):
    model, x, y = network
    e = ae.evaluate(model, x, y, ae.Linf("0.03"), attacks=FAST)
    certified, misclassified = e.verdict == CERTIFIED, e.verdict == MISCLASSIFIED
    for settled in (certified, misclassified):
        assert (e.spent.forwards[settled] == 1).all()
        assert not e.spent.gradients[settled].any()
        assert not e.spent.queries[settled].any()
    assert (e.spent.forwards[~certified & ~misclassified] > 1).all()


@pytest.mark.parametrize("threat", [ae.Linf("0.04"), ae.L2("0.08"), ae.L1("0.2")])
def test_no_attack_contradicts_a_certificate(network, threat):
    model, x, y = network
    e = ae.evaluate(model, x, y, threat, attacks=FAST)
    a = ae.attack(model, x, y, threat, method=[ae.attacks.APGD(steps=60, restarts=2), *FAST])
    certified = e.verdict == CERTIFIED
    assert certified.any()
    assert not (a.verdict[certified] == BROKEN).any()
    assert (a.margin[certified] >= e.margin_lower[certified] - 1e-6).all()


def test_order_and_batches_do_not_change_a_bit(network):
    model, x, y = network
    threat = ae.Linf("0.05")
    ids = np.arange(100, 180)
    whole = ae.evaluate(model, x, y, threat, attacks=FAST, sample_ids=ids, seed=3)
    order = np.random.default_rng(0).permutation(80)
    shuffled = ae.evaluate(
        model, x[order], y[order], threat, attacks=FAST, sample_ids=ids[order], seed=3,
        memory_limit=100_000,
    )  # fmt: skip
    assert shuffled.frame.sort("sample").equals(whole.frame)
    adversarial = {
        int(sample): point
        for sample, point in zip(
            shuffled.sample[shuffled.verdict == BROKEN], shuffled.x_adv, strict=True
        )
    }
    for sample, point in zip(whole.sample[whole.verdict == BROKEN], whole.x_adv, strict=True):
        assert np.array_equal(adversarial[int(sample)], point)
    part = ae.evaluate(
        model, x[20:50], y[20:50], threat, attacks=FAST, sample_ids=ids[20:50], seed=3
    )
    assert part.frame.equals(whole.frame[20:50])


def test_saved_and_read_back(network, tmp_path):
    model, x, y = network
    e = ae.evaluate(model, x, y, ae.Linf("0.05"), attacks=FAST)
    run = ae.load_run(e.save(tmp_path / "run"))
    same(run.evaluations[0], e)
    assert run.summary["model"].to_list() == ["network"]


def test_without_certifier_or_radius(network):
    model, x, y = network
    attacked = ae.evaluate(model, x, y, ae.Linf("0.03"), attacks="apgd-ce", certify=None)
    assert attacked.bracket.certified == 0
    assert np.isneginf(attacked.margin_lower).all()
    exact = ae.evaluate(model, x, y, ae.Linf(0), attacks=FAST)
    assert set(exact.verdict) == {MISCLASSIFIED, CERTIFIED}


def test_box(network):
    model, x, y = network
    low, high = x[5] - np.float32(0.002), x[5] + np.float32(0.002)
    e = ae.evaluate(model, x[5:6], y[5:6], ae.Box(low, high), certify="ibp")
    assert e.verdict.tolist() == [CERTIFIED]
    assert e.info["threat"]["norm"] == "box"
    assert e.info["threat"]["lower"] == low.astype(float).tolist()


def test_a_model_that_cannot_be_lowered_is_attacked():
    model = ae.load_model(lambda x: jnp.arctan(jnp.sin(3 * x)), input_shape=(4,), name="sine")
    assert model.graph is None
    random = np.random.default_rng(0)
    x = random.uniform(0, 1, (12, 4)).astype(np.float32)
    y = model.logits(x).argmax(axis=1)
    e = ae.evaluate(model, x, y, ae.Linf("0.2"), attacks=FAST)
    assert e.bracket.certified == 0
    assert (e.verdict == BROKEN).sum() > 0
    [flag] = [flag for flag in e.flags if "not certifiable" in flag]
    assert "operator atan" in flag


class Fragile(Model):
    """Scores only, and fails on any batch that holds a sample with a first value above 0.9."""

    name, digest, input_shape, num_classes = "fragile", "0" * 64, (3,), 3
    capabilities = Capabilities(gradient=False, graph=False)
    report = LoadReport(not_certifiable="a remote endpoint")

    def logits(self, x):
        if (x[:, 0] > 0.9).any():
            raise RuntimeError("boom\nwith a second line")
        return (x * np.float32(2)).astype(np.float32)


def test_errors_stay_with_their_samples():
    random = np.random.default_rng(0)
    x = random.uniform(0.3, 0.6, (10, 3)).astype(np.float32)
    x[4, 0] = 0.95
    y = x.argmax(axis=1)
    e = ae.evaluate(Fragile(), x, y, ae.Linf("0.02"), attacks="fast")
    assert np.flatnonzero(e.verdict == ERROR).tolist() == [4]
    assert e.bracket.attacked <= 0.9
    assert any("boom" in flag and "\n" not in flag for flag in e.flags)
    assert any("apgd-ce skipped" in flag for flag in e.flags)
    assert any(flag == "not certifiable: a remote endpoint; attacked only" for flag in e.flags)


class Certifier:
    """Wraps CROWN; `change` may raise or lie."""

    name = "test"

    def __init__(self, change):
        self.change = change

    def lower_bounds(self, graph, regions, spec, *, memory_limit=None):
        bounds = ae.certifiers.CROWN().lower_bounds(graph, regions, spec, memory_limit=memory_limit)
        return self.change(regions, bounds)


def test_a_certifier_that_fails_on_one_sample_keeps_the_others(network):
    model, x, y = network
    threat = ae.Linf("0.02")
    expected = ae.evaluate(model, x, y, threat, attacks=FAST)
    row = int(np.flatnonzero(expected.verdict == CERTIFIED)[2])

    def fail(regions, bounds):
        if (regions.center == x[row].astype(np.float64)).all(axis=1).any():
            raise ArithmeticError("no bound")
        return bounds

    e = ae.evaluate(model, x, y, threat, attacks=FAST, certify=Certifier(fail))
    others = np.arange(len(x)) != row
    assert np.array_equal(e.verdict[others], expected.verdict[others])
    assert e.verdict[row] == OPEN
    assert any("failed on 1 sample" in flag and "no bound" in flag for flag in e.flags)


def test_a_bound_above_the_clean_margin_is_not_believed(network):
    model, x, y = network

    def lie(_regions, bounds):
        bounds = bounds.copy()
        bounds[0] = 1e6
        return bounds

    e = ae.evaluate(model, x[3:20], y[3:20], ae.Linf("0.9"), attacks=FAST, certify=Certifier(lie))
    assert e.verdict[0] in (BROKEN, OPEN)
    assert any(
        "claims more than the clean margin on 1 sample (the first: sample 0, 1e+06 certified" in f
        for f in e.flags
    )


def test_bounds_that_are_not_numbers_certify_nothing(network):
    model, x, y = network
    for value in (np.nan, np.inf):
        certifier = Certifier(lambda _, bounds, value=value: np.full_like(bounds, value))
        e = ae.evaluate(model, x, y, ae.Linf("0.01"), attacks=FAST, certify=certifier)
        assert not (e.verdict == CERTIFIED).any()


def test_an_engine_that_fails_is_an_error_not_robust(network, monkeypatch):
    model, x, y = network

    def refuse(self, target, problem, restart):
        if 7 in problem.ids:
            raise MemoryError("no room")
        return run(self, target, problem, restart)

    run = ae.attacks.APGD.run
    monkeypatch.setattr(ae.attacks.APGD, "run", refuse)
    e = ae.evaluate(model, x, y, ae.Linf("0.3"), attacks=FAST[0])
    assert np.flatnonzero(e.verdict == ERROR).tolist() == [7]
    assert any("failed on 1 sample" in flag and "no room" in flag for flag in e.flags)


def test_an_interrupt_is_passed_on(network):
    model, x, y = network

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ae.evaluate(model, x, y, ae.Linf("0.1"), progress=interrupt)


def test_progress_counts_up_to_all_samples(network):
    model, x, y = network
    calls = []
    ae.evaluate(
        model, x, y, ae.Linf("0.03"), attacks=FAST, progress=lambda *call: calls.append(call)
    )
    assert {total for _, total, _ in calls} == {len(x)}
    stages = [note.partition(":")[0] for _, _, note in calls]
    assert stages == sorted(stages, reverse=True)
    assert max(done for done, _, _ in calls) <= len(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 7), np.float32)}, "the model takes"),
        ({"x": np.zeros((0, 8), np.float32), "y": []}, "no samples"),
        ({"x": np.full((2, 8), np.nan, np.float32)}, "finite"),
        ({"x": np.full((2, 8), 2, np.float32)}, "outside"),
        ({"y": [0, 5]}, "classes 0..4"),
        ({"y": [0.0, 1.0]}, "integers"),
        ({"y": [0]}, "expected one label a sample"),
        ({"sample_ids": [1, 1]}, "distinct"),
        ({"seed": -1}, "seed=-1"),
        ({"attacks": "pgd"}, "unknown"),
        ({"attacks": []}, "no attacks"),
        ({"attacks": 5}, "not an attack"),
        ({"certify": 5}, "neither a name nor a certifier"),
        ({"certify": "magic"}, "choose one of ibp, crown"),
        ({"backend": "cuda"}, "choose auto, native or jax"),
        ({"memory_limit": 0}, "memory_limit=0"),
    ],
)
def test_refusals_are_one_line(network, change, message):
    options = {"x": np.zeros((2, 8), np.float32), "y": [0, 1], **change}
    with pytest.raises(ae.InputError) as caught:
        ae.evaluate(network[0], options.pop("x"), options.pop("y"), ae.Linf("0.1"), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_attacked_is_still_certified(network, monkeypatch):
    model, x, y = network
    monkeypatch.setattr(NativeAttack, "unsupported", lambda *_: "not this norm")
    e = ae.evaluate(model, x, y, ae.Linf("0.02"))
    assert (e.verdict == CERTIFIED).any()
    assert np.flatnonzero(e.verdict == MISCLASSIFIED).tolist() == [0, 1, 2]
    assert any("not attacked" in flag for flag in e.flags)
    with pytest.raises(ae.CapabilityError):
        ae.evaluate(model, x, y, ae.Linf("0.02"), attacks=FAST)
    with pytest.raises(ae.CapabilityError):
        ae.evaluate(model, x, y, ae.Linf("0.02"), certify=None)


def test_warnings_of_the_model_are_flags(network, monkeypatch):
    model, x, y = network
    report = replace(model.report, warnings=("the outputs look like probabilities",))
    monkeypatch.setattr(model, "report", report)
    e = ae.evaluate(model, x[:4], y[:4], ae.Linf("0.01"), attacks=FAST)
    assert e.flags[0] == "the outputs look like probabilities"
