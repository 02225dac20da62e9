"""Lies in bundles, also those whose digests all fit: each fails at the level that can see it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from aisec_eval import _files
from aisec_eval.errors import UnsafeArtifactError
from aisec_eval.leaderboard import check_bundle
from aisec_eval.leaderboard.archive import pack, unpack
from aisec_eval.suite.identity import canonical
from helpers.tiny_bundle import Members, edit_rows, forge, reseal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Bundled


def test_a_true_bundle_reaches_the_top(tiny: Bundled) -> None:
    found = check_bundle(tiny.path, data=tiny.data)
    assert (found.level, found.failures, found.notes) == ("L2+", (), ())
    assert found.run is not None
    assert found.run.path == tiny.path
    assert len(found.run.evaluations) == 6
    verdicts = {v for e in found.run.evaluations for v in e.frame["verdict"]}
    assert {"broken", "certified", "open"} <= verdicts


def test_without_the_data_claims_stand_unchecked(tiny: Bundled) -> None:
    found = check_bundle(tiny.path)
    assert (found.level, found.failures) == ("L2", ())
    assert [note.split(" (")[0] for note in found.notes] == ["data digits", "data poisoned"]
    assert "--data ID=PATH" in found.notes[0]


def test_other_data_is_noticed(tiny: Bundled, tmp_path: Path) -> None:
    with np.load(tiny.data["digits"]) as arrays:
        changed = dict(arrays)
    changed["x_test"] = changed["x_test"].copy()
    changed["x_test"][5, 0, 3, 3] = 0.5625
    np.savez(tmp_path / "digits.npz", **changed)
    found = check_bundle(tiny.path, data=tiny.data | {"digits": tmp_path / "digits.npz"})
    assert found.level == "L1"
    assert "digits: what is here is not what was evaluated" in found.failures[0]


def refused(path: Path) -> bool:
    try:
        return not check_bundle(path).holds
    except UnsafeArtifactError:
        return True


def test_one_byte_of_any_member(tiny: Bundled, tmp_path: Path) -> None:
    """With the archive written anew around it, so that only digests can tell."""
    members = unpack(tiny.path)
    random = np.random.default_rng(0)
    for name, data in members.items():
        for place in {0, len(data) - 1, *random.integers(len(data), size=4).tolist()}:
            changed = bytearray(data)
            changed[place] ^= 1 << int(random.integers(8))
            path = tmp_path / "changed.zip"
            path.write_bytes(pack(members | {name: bytes(changed)}))
            assert refused(path), f"byte {place} of {name}"


def test_one_byte_of_the_file(tiny: Bundled, tmp_path: Path) -> None:
    data, path = tiny.path.read_bytes(), tmp_path / "changed.zip"
    path.write_bytes(data)
    random = np.random.default_rng(1)
    directory = data.index(b"PK\1\2")
    with path.open("r+b", buffering=0) as file:
        for place in {*range(directory, len(data), 13), *random.integers(len(data), size=30)}:
            file.seek(place)
            file.write(bytes([data[place] ^ 1 << int(random.integers(8))]))
            with pytest.raises(UnsafeArtifactError):
                unpack(path)
            file.seek(place)
            file.write(data[place : place + 1])
    assert not refused(path)


def test_a_member_less_or_more(tiny: Bundled, tmp_path: Path) -> None:
    members, path = unpack(tiny.path), tmp_path / "changed.zip"
    for name in members:
        path.write_bytes(pack({n: d for n, d in members.items() if n != name}))
        assert refused(path), name
    path.write_bytes(pack(members | {"model/007-more.onnx": b"x"}))
    found = check_bundle(path)
    assert found.failures == ("model/007-more.onnx: not named by the statement",)


def lock_edit(change: Callable[[dict[str, object]], None]) -> Callable[[Members], Members]:
    def apply(members: Members) -> Members:
        lock = json.loads(members["suite.lock.json"])
        change(lock)
        return members | {"suite.lock.json": canonical(lock)}

    return apply


def row_of(verdict: str) -> pl.Expr:
    """The first row with a verdict."""
    hits = pl.col("verdict") == verdict
    return hits & (hits.cast(pl.Int64).cum_sum() == 1)


def claim(verdict: str, instead: str, **values: float) -> Callable[[Members], Members]:
    """State another verdict for the first sample that has `verdict`; both have no witness."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        here = row_of(verdict)
        kind = frame["verdict"].dtype
        return frame.with_columns(
            pl.when(here).then(pl.lit(instead, dtype=kind)).otherwise("verdict").alias("verdict"),
            *(
                pl.when(here).then(value).otherwise(name).alias(name)
                for name, value in values.items()
            ),
        )

    return lambda members: edit_rows(members, change)


def column(name: str, verdict: str, value: pl.Expr) -> Callable[[Members], Members]:
    here = row_of(verdict)
    return lambda members: edit_rows(
        members,
        lambda frame: frame.with_columns(pl.when(here).then(value).otherwise(name).alias(name)),
    )


def swap_witnesses(members: Members) -> Members:
    return evidence(members, lambda arrays: {"x_adv": np.roll(arrays["x_adv"], 1, axis=0)})


def cleaned(members: Members) -> Members:
    return evidence(members, lambda arrays: {"x_adv": arrays["x_clean"]})


def moved_centre(members: Members) -> Members:
    """The clean input is moved towards the adversarial example: then it is close enough."""
    return evidence(members, lambda arrays: {"x_clean": arrays["x_adv"]})


def evidence(
    members: Members, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
) -> Members:
    import io
    import tempfile
    from pathlib import Path

    name = max((n for n in members if n.startswith("evidence/")), key=lambda n: len(members[n]))
    with np.load(io.BytesIO(members[name])) as archive:
        arrays = dict(archive)
    with tempfile.TemporaryDirectory() as home:
        path = _files.write_npz(Path(home) / "e.npz", arrays | change(arrays))
        return members | {name: path.read_bytes()}


def other_model(members: Members) -> Members:
    first, second = sorted(n for n in members if n.startswith("model/"))
    return members | {first: members[second], second: members[first]}


def other_radius(lock: dict[str, object], old: str, eps: str) -> None:
    for cell in lock["cells"]:  # type: ignore[attr-defined]
        if cell["threat"] is not None and cell["threat"]["eps"] == old:
            cell["threat"]["eps"] = eps


def flag_others(members: Members) -> Members:
    import io

    name = next(n for n in members if n.endswith("scores.parquet"))
    frame = pl.read_parquet(io.BytesIO(members[name]))
    flagged = frame["flagged"].to_numpy().copy()
    flagged[np.flatnonzero(~flagged)[0]] = True
    frame = frame.with_columns(pl.Series("flagged", flagged))
    return members | {name: _files.parquet_bytes(frame)}


LIES: dict[str, tuple[Callable[[Members], Members], str, str]] = {
    "open as certified": (
        claim("open", "certified", margin_lower=0.5, margin=1.0), "L2", "claimed certified"
    ),
    "wrong as open": (claim("misclassified", "open"), "L1", "classified wrong, claimed open"),
    "right as wrong": (claim("open", "misclassified"), "L1", "classified right, claimed"),
    "certified without a bound": (
        claim("open", "certified", margin_lower=0.0), "L1", "certified with margin 0"
    ),
    "a larger bound": (
        column("margin_lower", "certified", pl.col("margin_lower") * 1.01),
        "L2",
        "is claimed, .* is proven",
    ),
    "attacked below its bound": (
        column("margin", "certified", pl.col("margin_lower") - 1), "L1", "below its certified"
    ),
    "another label": (
        column("label", "open", (pl.col("label") + 1) % 10), "L1", "the data says"
    ),
    "witnesses of others": (swap_witnesses, "L1", "adversarial example refused"),
    "clean inputs as witnesses": (cleaned, "L1", "adversarial example refused"),
    "another centre": (moved_centre, "L1", "its clean input is not the data's"),
    "models swapped": (other_model, "L1", "was .* when it was evaluated"),
    "a smaller radius": (
        lock_edit(lambda lock: other_radius(lock, "1/16", "1/20")), "L1", "example refused"
    ),
    "a larger radius": (
        lock_edit(lambda lock: other_radius(lock, "1/64", "1/32")), "L2", "claimed certified"
    ),
    "poison found elsewhere": (flag_others, "L1", "other samples are flagged"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lies_with_fitting_digests(lie: str, tiny: Bundled, tmp_path: Path) -> None:
    change, level, line = LIES[lie]
    found = check_bundle(forge(tiny.path, tmp_path / "forged.zip", change), data=tiny.data)
    assert found.level == level, found.failures
    assert pl.Series(found.failures).str.contains(line).any(), found.failures
    assert all("\n" not in failure for failure in found.failures)


def test_a_forged_bundle_that_tells_the_truth_holds(tiny: Bundled, tmp_path: Path) -> None:
    """So that the lies above fail for what they say, not for how they were packed."""
    path = forge(tiny.path, tmp_path / "same.zip", lambda members: members)
    assert path.read_bytes() == tiny.path.read_bytes()


@pytest.mark.parametrize(
    ("key", "value"), [("certified", 0.99), ("interval", [0.9, 1.0]), ("clean", 1.5)]
)
def test_numbers_that_do_not_follow(key: str, value: object, tiny: Bundled, tmp_path: Path) -> None:
    members = unpack(tiny.path)
    numbers = json.loads(members["aggregate.json"])
    numbers["evaluations"][0][key] = value
    members["aggregate.json"] = canonical(numbers)
    path = tmp_path / "forged.zip"
    path.write_bytes(pack(reseal(members, tmp_path / "run", recompute=False)))
    found = check_bundle(path)
    assert (found.level, found.failures) == ("L0", ("aggregate.json: not what the rows give",))


def test_gates_that_did_not_pass(tiny: Bundled, tmp_path: Path) -> None:
    members = unpack(tiny.path)
    stated = json.loads(members["statement.json"])
    stated["predicate"]["gates"][0]["sampleSize"] += 1
    path = tmp_path / "forged.zip"
    path.write_bytes(pack(members | {"statement.json": canonical(stated)}))
    found = check_bundle(path)
    assert found.level == "L0"
    assert found.failures == ("statement.json: its gates are not how the rows fare",)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("predicate", "samples", "root"), "0" * 64),
        (("predicate", "samples", "leaves"), 3),
        (("predicate", "suite", "id"), "0" * 64),
        (("predicateType",), "urn:other"),
        (("more",), 1),
        (("predicate", "assuranceLevel"), "L5"),
        (("subject", 0, "more"), 1),
        (("subject", 0, "digest", "sha256"), "0" * 64),
        (("subject",), 7),
    ],
)
def test_statements_of_other_files(
    path: tuple[str | int, ...], value: object, tiny: Bundled, tmp_path: Path
) -> None:
    members = unpack(tiny.path)
    stated = json.loads(members["statement.json"])
    place = stated
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    target = tmp_path / "forged.zip"
    target.write_bytes(pack(members | {"statement.json": canonical(stated)}))
    found = check_bundle(target)
    assert found.level == ""
    assert not found.holds


@pytest.mark.parametrize(
    "change",
    [
        lambda lock: lock.update(more=1),
        lambda lock: lock.update(schema=2),
        lambda lock: lock["cells"].pop(),
        lambda lock: lock["cells"][0].update(model="nobody"),
        lambda lock: lock["cells"][0].update(entry="../../000-x"),
        lambda lock: lock["cells"][0].update(ids=[[0, 10**12]]),
        lambda lock: lock["cells"][0].update(ids=[[1, 49]]),
        lambda lock: lock["cells"][0].update(ids=[]),
        lambda lock: lock["cells"][0]["threat"].update(eps="1e999999999"),
        lambda lock: lock["cells"][0]["threat"].update(eps="1/0"),
        lambda lock: lock["cells"][0]["threat"].update(eps="7"),
        lambda lock: lock["cells"][0]["threat"].update(norm="linf2"),
        lambda lock: lock["cells"][0]["threat"].update(bounds=[0, 1, 2]),
        lambda lock: lock["cells"][1].update(entry=lock["cells"][0]["entry"]),
        lambda lock: lock["models"][0].update(file="../../etc/passwd"),
        lambda lock: lock["models"][0].update(input_shape=[64]),
        lambda lock: lock["models"].append(lock["models"][0]),
        lambda lock: lock["gates"].append({"metric": "luck", "claim": ">= 1"}),
    ],
)
def test_locks_that_contradict(
    change: Callable[[dict[str, object]], None], tiny: Bundled, tmp_path: Path
) -> None:
    """The digests fit; each is refused in one line, and nothing large is allocated."""
    members = lock_edit(change)(unpack(tiny.path))
    from aisec_eval.leaderboard.statement import subjects

    stated = json.loads(members["statement.json"]) | {"subject": subjects(members)}
    path = tmp_path / "forged.zip"
    path.write_bytes(pack(members | {"statement.json": canonical(stated)}))
    found = check_bundle(path)
    assert found.level == ""
    assert len(found.failures) == 1
    assert "\n" not in found.failures[0]
    assert str(tmp_path) not in found.failures[0]
