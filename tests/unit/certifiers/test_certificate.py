"""Certificates of samples and properties: written, read, checked; and what must be refused."""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.certifiers.certificate import (
    PLAIN_METHODS,
    Case,
    Certificate,
    check_certificate,
    margin_rows,
    proves,
    read_text,
)
from aisec_eval.certifiers.property import Case as PropertyCase
from aisec_eval.certifiers.property import Clause, Property
from aisec_eval.certifiers.prove_again import prove_again
from aisec_eval.certifiers.verify import verify
from aisec_eval.errors import InputError, RunError
from helpers.networks import LayeredModel, random_model, random_samples

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model() -> LayeredModel:
    return random_model(3, (6,), 4)


def certified(model: LayeredModel, threat: ae.Linf | ae.L2 | ae.L1, **options: Any) -> Any:
    x, y = random_samples(model, 24)
    result = ae.certify(model, x, y, threat, **options)
    assert result.certified.any()
    return result, x


@pytest.mark.parametrize("method", PLAIN_METHODS)
@pytest.mark.parametrize("threat", [ae.Linf("1/64"), ae.L2(0.05), ae.L1(0.05)], ids=str)
def test_samples_have_certificates(model: LayeredModel, method: str, threat: Any) -> None:
    result, x = certified(model, threat, method=method)
    for row in np.flatnonzero(result.certified):
        found = check_certificate(model.graph, result.certificate[row])
        assert (found.holds, found.reason) == (True, "")
        (case,) = found.cases
        assert len(case.clauses) == 3
        assert case.leaves == 1
        # The region holds the ball, and the bounds proven are those that were reported.
        eps = float(threat.eps)
        assert (case.lower <= np.clip(x[row].astype(float) - eps, 0, 1)).all()
        assert (case.upper >= np.clip(x[row].astype(float) + eps, 0, 1)).all()
        assert (case.ball is None) == (threat.norm == "linf")
        if case.ball is not None:
            assert case.ball[0] == threat.norm
            assert case.ball[2] >= threat.eps
        margins = result.margins_lower[row]
        assert (case.bounds <= margins).all()
        assert (case.bounds > margins - 1e-7).all()


def test_exact_arithmetic_agrees(model: LayeredModel) -> None:
    result, _ = certified(model, ae.Linf("1/64"))
    row = int(result.certified.argmax())
    assert check_certificate(model.graph, result.certificate[row], exact=True).holds


def test_files(model: LayeredModel, tmp_path: Path) -> None:
    result, _ = certified(model, ae.Linf("1/64"))
    certificate = result.certificate[int(result.certified.argmax())]
    plain, packed = certificate.save(tmp_path / "a.cert"), certificate.save(tmp_path / "a.cert.gz")
    assert read_text(plain) == read_text(packed) == certificate.text().encode()
    assert packed.stat().st_size < plain.stat().st_size
    assert certificate.save(tmp_path / "b.cert.gz").read_bytes() == packed.read_bytes()
    assert check_certificate(model.graph, packed).holds
    again = pickle.loads(pickle.dumps(certificate))
    assert again == certificate
    assert again.text() == certificate.text()


def test_another_network_is_refused(model: LayeredModel) -> None:
    result, _ = certified(model, ae.Linf("1/64"))
    certificate = result.certificate[int(result.certified.argmax())]
    found = check_certificate(random_model(4, (6,), 4).graph, certificate)
    assert not found.holds
    assert "is of graph" in found.reason


def test_claims_that_are_too_good_are_refused(model: LayeredModel) -> None:
    result, x = certified(model, ae.Linf("1/64"))
    row = int(result.certified.argmax())
    certificate = result.certificate[row]
    (ball,) = certificate.cases
    for change in (
        {"bounds": ball.bounds + 1e-6 * np.eye(3)[1]},
        {"threat": ae.Linf("1/63")},
        {"x": x[row] + np.float32(1e-3)},
        {"label": (ball.label + 1) % 4},
    ):
        lie = Certificate({}, model.graph.digest, (replace(ball, **change),))
        assert not check_certificate(model.graph, lie).holds, change


@pytest.mark.parametrize("bound", [0.0, -1.0, np.nan, np.inf])
def test_nothing_is_written_of_bounds_that_prove_nothing(bound: float) -> None:
    with pytest.raises(ValueError, match="proves nothing"):
        _core.plain_proof("crown", [1.0, bound])
    with pytest.raises(ValueError, match="no plain proof"):
        _core.plain_proof("alpha-crown", [1.0])


def test_methods_without_a_rule_say_so(model: LayeredModel) -> None:
    result, _ = certified(model, ae.Linf("1/64"))
    (ball,) = result.certificate[int(result.certified.argmax())].cases
    with pytest.raises(InputError, match="keeps no proof"):
        Certificate({}, "", (replace(ball, method="mine"),)).text()


@pytest.mark.parametrize("method", ["alpha-crown", "complete"])
def test_proofs_that_are_not_kept_are_found_again(model: LayeredModel, method: str) -> None:
    result, _ = certified(model, ae.Linf("1/16"), method=method)
    for row in np.flatnonzero(result.certified)[:4]:
        with pytest.raises(InputError, match="keeps no proof"):
            result.certificate[row].text()
        found = check_certificate(model.graph, result.certificate[row].proven(model.graph))
        assert (found.holds, found.reason) == (True, "")
    with pytest.raises(InputError, match="is of graph"):
        result.certificate[row].proven(random_model(4, (6,), 4).graph)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"{}", mtime=0)[:-4], "cut short"),
        (gzip.compress(b"{}", mtime=0) + b"more", "more than one"),
        (b"\x1f\x8bnot gzip", "damaged"),
    ],
)
def test_damaged_files(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.cert"
    path.write_bytes(data)
    with pytest.raises(RunError, match=message):
        read_text(path)


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.cert.gz"
    path.write_bytes(gzip.compress(b" " * 2_000_000, mtime=0))
    monkeypatch.setattr("aisec_eval.certifiers.certificate.MAX_TEXT", 1_000_000)
    with pytest.raises(RunError, match="once decompressed"):
        read_text(path)
    monkeypatch.setattr("aisec_eval.certifiers.certificate.MAX_FILE", 100)
    with pytest.raises(RunError, match="larger than"):
        read_text(path)
    with pytest.raises(RunError, match="missing"):
        read_text(tmp_path / "none.cert")


def question(model: LayeredModel, rhs: float, *, eps: float = 0.15) -> Property:
    """Ask whether the margin of the label at the middle can fall below `rhs`; in two boxes."""
    center = np.full(6, 0.5)
    label = int(model.graph.forward64(center[None]).argmax())
    clauses = tuple(
        Clause(row[None], np.array([rhs]), np.array([rhs])) for row in margin_rows(label, 4)
    )
    joint = Clause(margin_rows(label, 4)[:2], np.full(2, rhs), np.full(2, rhs))
    boxes = [(center - eps, center), (center, center + eps)]
    cases = tuple(PropertyCase(low, high, low, high, (*clauses, joint)) for low, high in boxes)
    return Property(6, 4, cases)


EPS = 0.3


@pytest.fixture(scope="module")
def rhs(model: LayeredModel) -> float:
    """A right-hand side that no output meets, which takes splits to see."""
    cases = question(model, 0.0, eps=EPS).cases
    rows = np.concatenate([clause.rows for clause in cases[0].clauses[:3]])
    low, high = np.stack([case.lower for case in cases]), np.stack([case.upper for case in cases])
    spec = np.stack([rows, rows])
    bound = float(_core.margin_bounds(model.graph, low, high, spec=spec, method="crown").min())
    points = np.random.default_rng(0).random((20_000, 6))
    met = [
        (model.graph.forward64(lo + (hi - lo) * points) @ rows.T).min()
        for lo, hi in zip(low, high, strict=True)
    ]
    assert bound < min(met)
    return 0.6 * bound + 0.4 * float(min(met))


def test_properties_have_certificates(model: LayeredModel, rhs: float, tmp_path: Path) -> None:
    asked = question(model, rhs, eps=EPS)
    path = tmp_path / "p.cert.gz"
    result = verify(model, asked, certificate=path)
    assert (result.status, result.domains > 2) == ("unsat", True)
    found = check_certificate(model.graph, path)
    assert (found.holds, found.reason) == (True, "")
    assert sum(case.leaves for case in found.cases) >= 2
    assert proves(found, asked) == ""
    # It is no proof of more than that: a larger box, a larger right-hand side, another row.
    wider = question(model, rhs, eps=EPS + 0.01)
    harder = question(model, rhs + 1e-9, eps=EPS)
    (first, second) = asked.cases
    rows = [replace(clause, rows=clause.rows * 2) for clause in first.clauses]
    for other in (
        wider,
        harder,
        replace(asked, cases=(replace(first, clauses=(rows[0],)), second)),
    ):
        assert "is not in the certificate" in proves(found, other)
    assert "cannot be represented" in proves(found, replace(asked, unsupported="sin"))
    assert verify(model, asked).certificate is None


def test_no_certificate_of_what_is_not_proven(model: LayeredModel, tmp_path: Path) -> None:
    path = tmp_path / "p.cert"
    assert verify(model, question(model, 100.0), certificate=path).status == "sat"
    assert not path.exists()


def test_a_shift_of_any_cut_or_clause_is_refused(
    model: LayeredModel, rhs: float, tmp_path: Path
) -> None:
    path = tmp_path / "p.cert"
    assert verify(model, question(model, rhs, eps=EPS), certificate=path).status == "unsat"
    good = json.loads(path.read_text())
    for number, case in enumerate(good["cases"]):
        for key, to in (("lower", -50.0), ("upper", 50.0)):
            bad = json.loads(path.read_text())
            bad["cases"][number]["region"][key] = [to.hex()] * 6
            path.with_suffix(".bad").write_text(json.dumps(bad))
            assert not check_certificate(model.graph, path.with_suffix(".bad")).holds
        bad = json.loads(path.read_text())
        side = bad["cases"][number]["clauses"][0]["rhs"]
        side[0] = (float.fromhex(side[0]) + 3.0).hex()
        path.with_suffix(".bad").write_text(json.dumps(bad))
        assert not check_certificate(model.graph, path.with_suffix(".bad")).holds
        bad = json.loads(path.read_text())
        bad["cases"][number]["proof"] = case["proof"][:-1]
        path.with_suffix(".bad").write_text(json.dumps(bad))
        assert "ends before" in check_certificate(model.graph, path.with_suffix(".bad")).reason


@pytest.mark.parametrize("compact", [False, True])
def test_proofs_by_splits_are_accepted(compact: bool) -> None:
    split = 0
    for seed in range(12):
        model = random_model(seed, (6,), 4)
        rng = np.random.default_rng(seed)
        x = rng.uniform(0.2, 0.8, 6)
        low, high = x - 0.2, x + 0.2
        rows = margin_rows(int(model.graph.forward64(x[None]).argmax()), 4)
        rhs = np.full(3, -0.1)
        answer, _, _, domains, proof = _core.decide(
            model.graph, low[None], high[None], rows=rows, rhs_lower=rhs, rhs_upper=rhs,
            sizes=[1, 1, 1], record=True, most_domains=300,
        )  # fmt: skip
        if answer != "refuted":
            continue
        assert proof is not None
        split += domains > 3
        entries = proof.write(model.graph, low, high, clauses=3, compact=compact)
        clauses = tuple((row[None], rhs[:1]) for row in rows)
        case = Case(low, high, None, clauses, entries)
        found = check_certificate(model.graph, Certificate({}, model.graph.digest, (case,)))
        assert (found.holds, found.reason) == (True, "")
        # The same proof of a little more is none.
        lie = replace(case, clauses=tuple((rows, rhs + 3.0) for rows, rhs in clauses))
        assert not check_certificate(model.graph, Certificate({}, model.graph.digest, (lie,))).holds
    assert split > 0


@pytest.mark.parametrize("method", ["crown", "alpha-crown", "complete"])
def test_samples_are_proven_again(model: LayeredModel, method: str) -> None:
    threat = ae.Linf("1/16")
    x, y = random_samples(model, 24)
    result = ae.certify(model, x, y, threat, method=method)
    rows = np.flatnonzero(result.certified)
    margin = result.margin_lower[rows]
    again = list(prove_again(model, x[rows], y[rows], threat, margin, method))
    assert again == [""] * len(rows)
    assert len(rows) > 3
    best = model.graph.forward64(x[rows].astype(np.float64))
    clean = np.sort(best, axis=1)[:, -1] - np.sort(best, axis=1)[:, -2]
    for lie in (clean + 0.1, np.zeros(len(rows)), np.full(len(rows), np.nan)):
        assert all(prove_again(model, x[rows], y[rows], threat, lie, method))
