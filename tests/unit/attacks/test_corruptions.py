"""Common corruptions: the library made a pure function, and everything that is said of it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.attacks import corruption_library
from aisec_eval.attacks.corruption_library import corrupted, refuse
from aisec_eval.cases import CORRECT
from aisec_eval.errors import CapabilityError, InputError
from aisec_eval.report import write_report
from aisec_eval.suite import load_suite
from aisec_eval.suite.execute_shard import execute_shard
from aisec_eval.suite.plan import make_plan
from aisec_eval.suite.recheck import recheck, suite_inputs
from aisec_eval.threats import CORRUPTIONS, parse
from helpers.tiny_bundle import run_here

pytest.importorskip("imagecorruptions", reason="needs the extra `corruptions`")

ALL = ae.Corruptions()
SHAPES = [(1, 28, 28), (3, 32, 32), (28, 28), (40, 32, 3)]


def image(shape: tuple[int, ...], seed: int = 0) -> Any:
    """A smooth picture with edges, on 8-bit levels, as blurs and compression need to be seen."""
    random = np.random.default_rng(seed)
    coarse = random.random([max(1, size // 4) if size > 4 else size for size in shape])
    for axis, size in enumerate(shape):
        coarse = np.repeat(coarse, -(-size // coarse.shape[axis]), axis=axis)
    cut = coarse[tuple(slice(size) for size in shape)]
    return (np.rint(255 * (0.2 + 0.6 * cut)) / 255).astype(np.float32)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_a_function_of_seed_sample_and_case(name: str) -> None:
    for shape in SHAPES:
        x = image(shape)
        state = np.random.get_state()  # noqa: NPY002
        first = corrupted(x, ALL, name, 3, seed=7, sample=11)
        after = np.random.get_state()  # noqa: NPY002
        assert all(np.array_equal(a, b) for a, b in zip(state, after, strict=True))
        np.random.random(5)  # noqa: NPY002
        again = corrupted(x, ALL, name, 3, seed=7, sample=11)
        np.testing.assert_array_equal(first, again)
        assert first.shape == shape
        assert first.dtype == np.float32
        assert ((first >= 0) & (first <= 1)).all()
        assert np.abs(first - x).max() > 0.02
        on_levels = np.rint(first.astype(np.float64) * 255) / 255
        np.testing.assert_array_equal(first, on_levels.astype(np.float32))


RANDOM = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur"),
    *("snow", "frost", "fog", "elastic_transform"),
)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_is_random_differs_between_samples_and_seeds(name: str) -> None:
    x = image((3, 32, 32))
    drawn = [
        corrupted(x, ALL, name, 3, seed=seed, sample=sample)
        for seed, sample in ((0, 0), (0, 1), (1, 0))
    ]
    differ = [not np.array_equal(drawn[0], other) for other in drawn[1:]]
    assert differ == [name in RANDOM] * 2


def test_severities_get_worse() -> None:
    x = image((3, 32, 32))
    for name in ("gaussian_noise", "impulse_noise", "contrast", "brightness", "zoom_blur"):
        away = [
            np.abs(corrupted(x, ALL, name, s, seed=0, sample=0) - x).mean() for s in (1, 2, 3, 4, 5)
        ]
        assert away == sorted(away), name


def test_grey_noise_is_as_strong_as_the_papers() -> None:
    x = np.full((1, 32, 32), 0.5, np.float32)
    away = corrupted(x, ALL, "gaussian_noise", 1, seed=0, sample=0) - x
    assert 0.07 < away.std() < 0.09  # 0.08 at severity 1
    moved = np.abs(corrupted(x, ALL, "impulse_noise", 5, seed=0, sample=0) - x)
    changed = (moved > 0.4).mean()
    assert 0.22 < changed < 0.36  # 0.27 of all pixels, half of them black, half white


def test_other_ranges_are_the_same_image() -> None:
    x = image((3, 32, 32))
    wide = ae.Corruptions(bounds=(-1, 3))
    got = corrupted((4 * x - 1).astype(np.float32), wide, "fog", 2, seed=0, sample=0)
    np.testing.assert_allclose(
        (got + 1) / 4, corrupted(x, ALL, "fog", 2, seed=0, sample=0), atol=1e-6
    )
    assert got.min() >= -1
    assert got.max() <= 3


@pytest.fixture(scope="module")
def problem() -> Any:
    weight = np.random.default_rng(3).normal(size=(784, 6)).astype(np.float32)
    x = np.stack([image((1, 28, 28), seed) for seed in range(6)])
    model = ae.load_model(lambda x: x.reshape(len(x), -1) @ weight, input_shape=(1, 28, 28))
    y = model.labels(x)
    y[0] = (y[0] + 1) % 6
    return model, x, y


THREAT = ae.Corruptions(("gaussian_noise", "fog", "contrast"), (1, 5))


def test_verdicts_and_cases_are_brute_force(problem: Any) -> None:
    model, x, y = problem
    found = ae.attack(model, x, y, THREAT, seed=2, sample_ids=[5, 3, 9, 1, 0, 7])
    assert found.cases is not None
    assert found.cases.names == THREAT.cases
    for row, sample in enumerate(found.sample):
        right = {}
        for case in THREAT.cases:
            name, severity = case.split("/")
            made = corrupted(x[row], THREAT, name, int(severity), seed=2, sample=int(sample))
            right[case] = bool(model.labels(made[None])[0] == y[row])
            if found.transform[row] == case:
                np.testing.assert_array_equal(found.x_adv[row], made)
                assert not right[case]
        assert [code == CORRECT for code in found.cases.correct[row]] == list(right.values())
        verdict = ae.VERDICTS[found.verdict[row]]
        assert (verdict == "misclassified") == (row == 0)
        if row:
            assert (verdict == "broken") == (not all(right.values()))
            mild = any(not ok for case, ok in right.items() if case.endswith("/1"))
            assert not mild or found.transform[row].endswith("/1")
    assert found.found_by.count("common-corruptions") == (found.verdict == 1).sum() > 0
    assert (found.spent.queries == 6).all()
    accuracy = (found.cases.correct == CORRECT).mean()
    assert found.cases.mean_accuracy == pytest.approx(accuracy)


def test_results_do_not_depend_on_order_or_parts(problem: Any) -> None:
    model, x, y = problem
    whole = ae.attack(model, x, y, THREAT)
    rows = np.array([4, 1, 3])
    part = ae.attack(model, x[rows], y[rows], THREAT, sample_ids=rows, batch_size=2)
    np.testing.assert_array_equal(whole.x_adv[rows], part.x_adv)
    assert whole.cases is not None
    assert part.cases is not None
    np.testing.assert_array_equal(whole.cases.correct[rows], part.cases.correct)


def test_evidence_is_recomputed(problem: Any) -> None:
    x = problem[1][1]
    made = corrupted(x, THREAT, "fog", 5, seed=0, sample=4)
    assert refuse(THREAT, x, made, "fog/5", seed=0, sample=4) == ""
    for about in ({"seed": 1, "sample": 4}, {"seed": 0, "sample": 5}):
        assert refuse(THREAT, x, made, "fog/5", **about) == "not the corrupted image"
    assert refuse(THREAT, x, made, "fog/1", seed=0, sample=4) == "not the corrupted image"
    for other in ("fog/3", "snow/1", "fog", "", "fog/5/5"):
        assert "no corruption" in refuse(THREAT, x, made, other, seed=0, sample=4)


def test_saved_and_loaded(problem: Any, tmp_path: Any) -> None:
    model, x, y = problem
    e = ae.evaluate(model, x, y, THREAT)
    assert e.info["library"]["imagecorruptions-imaug"]
    assert parse(e.info["threat"]) == THREAT
    assert e.cases is not None
    folder = e.save(tmp_path / "run")
    again = ae.load_run(folder).evaluations[0]
    assert again.cases is not None
    np.testing.assert_array_equal(again.cases.correct, e.cases.correct)
    assert again.transform == e.transform
    [path] = folder.rglob("cases.parquet")
    path.unlink()
    with pytest.raises(ae.RunError, match=r"cases\.parquet"):
        ae.load_run(folder)


SUITE = """schema = 1
name = "weather"
version = "1"

[[model]]
id = "linear"
path = "linear.onnx"

[[data]]
id = "images"
source = "images.npz"

[[threat]]
kind = "corruptions"
names = ["fog", "contrast"]
severities = [1, 4]

[[task]]
kind = "evaluate"
"""


def test_suite_report_and_recheck(tmp_path: Any, monkeypatch: Any) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(3).normal(size=(784, 6)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, tmp_path / "linear.onnx")
    x = np.stack([image((1, 28, 28), seed) for seed in range(20)])
    y = (x.reshape(20, -1) @ weight).argmax(1)
    y[:6] = range(6)  # every class has a sample
    np.savez(tmp_path / "images.npz", x=x, y=y)
    (tmp_path / "weather.toml").write_text(SUITE)
    monkeypatch.setattr("aisec_eval.suite.plan.SHARD_SAMPLES", (1, 8))
    run = run_here(tmp_path / "weather.toml", tmp_path / "run")
    [e] = run.evaluations
    assert e.cases is not None
    assert e.cases.correct.shape == (20, 4)  # joined from its shards
    assert len(run.manifest["cells"][0]["shards"]) == 3
    models, data = suite_inputs(tmp_path / "weather.toml")
    [checked] = recheck(run, models, data)
    assert checked.confirmed == checked.broken > 0
    page = write_report(run, tmp_path / "r.html").read_text()
    assert "mean of all" in page
    assert "Common corruptions" in page
    assert e.transform[np.flatnonzero(e.verdict == 1)[0]] in page
    monkeypatch.setattr(corruption_library, "versions", lambda: {"numpy": "1"})
    shard = make_plan(load_suite(tmp_path / "weather.toml")).shards[0]
    monkeypatch.undo()
    with pytest.raises(ae.RunError, match="other versions of what computes corruptions"):
        execute_shard(shard)


def test_what_does_not_fit_is_one_line(problem: Any, monkeypatch: Any) -> None:
    model, x, y = problem
    small = ae.load_model("suites/models/digits_normal.onnx")
    with pytest.raises(CapabilityError, match="8 x 8 pixels are too small"):
        ae.attack(small, np.zeros((1, 1, 8, 8), np.float32), [0], ALL)
    for wrong, message in (
        ({"names": ["fogg"]}, "'fogg' is unknown"),
        ({"names": []}, "at least one"),
        ({"names": ["fog", "fog"]}, "distinct"),
        ({"severities": [0]}, "severity 0 is unknown"),
        ({"severities": [True]}, "severity True is unknown"),
    ):
        with pytest.raises(InputError, match=message):
            ae.Corruptions(**wrong)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(CapabilityError, match=r'pip install "aisec-eval\[corruptions\]"'):
        ae.attack(model, x, y, THREAT)
