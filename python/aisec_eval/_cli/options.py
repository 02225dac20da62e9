"""Options that several verbs share, from text to objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..threats import (
    L0,
    L1,
    L2,
    SEVERITIES,
    Corruptions,
    Frame,
    Linf,
    Patch,
    Spatial,
    ThreatModel,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from ..datasets import Dataset
    from ..models.base import Model

_NORMS: dict[str, type[ThreatModel]] = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}


def parse_threat(text: str, bounds: tuple[float, float]) -> ThreatModel:
    """Read a threat model such as `"linf 8/255"`, `"spatial 30 3"` or `"corruptions fog,snow 1-3"`.

    Raises:
        InputError: the norm is unknown or the radius no number.
    """
    norm, _, radius = text.strip().replace(":", " ").partition(" ")
    if norm.lower() == "spatial":
        return _spatial(radius.split(), text, bounds)
    if norm.lower() == "corruptions":
        return _corruptions(radius.split(), text, bounds)
    if norm.lower() in ("patch", "frame"):
        return _pixels(norm.lower(), radius.strip(), text, bounds)
    ball = _NORMS.get(norm.lower())
    if ball is None or not radius.strip():
        raise InputError(
            f'threat "{text}" is not a norm and a radius; write "linf 8/255", "l2 0.5", "l1 2", '
            '"l0 10", "patch 5x5", "frame 2", "spatial 30 3" or "corruptions"'
        )
    return ball(radius.strip(), bounds=bounds)


def _pixels(kind: str, size: str, text: str, bounds: tuple[float, float]) -> ThreatModel:
    sides = size.split("x")
    if not all(side.isascii() and side.isdigit() for side in sides) or len(sides) > 2:
        raise InputError(f'threat "{text}" needs a size in pixels; write "patch 5x5" or "frame 2"')
    numbers = [int(side[:9]) for side in sides]
    if kind == "patch":
        return Patch(*numbers, bounds=bounds)
    if len(numbers) > 1:
        raise InputError(f'threat "{text}": a frame has one width; write "frame 2"')
    return Frame(numbers[0], bounds=bounds)


def _spatial(words: list[str], text: str, bounds: tuple[float, float]) -> ThreatModel:
    if len(words) != 2:
        raise InputError(
            f'threat "{text}" needs degrees of rotation and pixels of translation: "spatial 30 3"'
        )
    return Spatial(words[0], words[1], fill=min(max(0.0, bounds[0]), bounds[1]), bounds=bounds)


def _corruptions(words: list[str], text: str, bounds: tuple[float, float]) -> ThreatModel:
    """All of them, or names and a range of severities, in any order."""
    names: tuple[str, ...] | None = None
    severities: tuple[int, ...] = SEVERITIES
    for word in words:
        first, dash, last = word.partition("-")
        if first.isdigit() and (last.isdigit() or not dash):
            severities = tuple(range(int(first), min(int(last or first), 9) + 1))
        elif names is None:
            names = tuple(word.split(","))
        else:
            raise InputError(
                f'threat "{text}" is not corruptions, names and severities; write "corruptions" '
                'or "corruptions fog,snow 1-3"'
            )
    return Corruptions(names, severities, bounds=bounds)


def parse_ids(text: str | None) -> tuple[int, int] | None:
    """Read a range of samples such as `0:100`.

    Raises:
        InputError: not a range.
    """
    if text is None:
        return None
    first, colon, stop = text.partition(":")
    try:
        return (int(first or 0), int(stop)) if colon else (int(first), int(first) + 1)
    except ValueError:
        raise InputError(f'ids "{text}" is not a range; write 0:100 or one number') from None


def load_data(source: str, split: str, ids: str | None) -> Dataset:
    """Load a dataset as the verbs name it."""
    from ..datasets import load_dataset

    return load_dataset(source, split=split, ids=parse_ids(ids))


def load_checked_model(path: Path, data: Dataset) -> Model:
    """Load a model, its load checks running on the data it is for."""
    from ..models import load_model

    return load_model(
        path, name=path.stem, samples=data.x[:64], labels=data.y[:64], bounds=data.bounds
    )


def parse_attacks(method: str, steps: int | None, queries: int | None, restarts: int | None) -> Any:
    """Read `--method`: `fast`, `standard`, `plus`, `rand`, or names separated by commas.

    Raises:
        InputError: a name is unknown, or an option fits none of them.
    """
    from dataclasses import fields, replace

    from ..attacks.registry import METHODS, named

    if method in METHODS and (steps, queries, restarts) == (None, None, None):
        return method  # a method skips what a model cannot run; named attacks must run
    given = {"steps": steps, "queries": queries, "restarts": restarts}
    given = {name: value for name, value in given.items() if value is not None}
    used: set[str] = set()
    found: list[Any] = []
    for attack in [named(name.strip()) for name in method.split(",")]:
        fitting = {f.name: given[f.name] for f in fields(attack) if f.name in given}  # type: ignore[arg-type]
        used |= fitting.keys()
        found.append(replace(attack, **fitting))  # type: ignore[type-var]
    if unused := given.keys() - used:
        raise InputError(f"--{unused.pop()} fits no attack of --method {method}")
    return found


def parse_certifier(
    method: str, sigma: float | None, copies: int | None, seed: int, lattice: Fraction | None
) -> Any:
    """Read `--method` of `certify`: a name, or `smoothing` with its options.

    Data on a lattice is smoothed on it, so that the certificate holds for float32 arithmetic.

    Raises:
        InputError: smoothing without `--sigma`, or its options without smoothing.
    """
    if method != "smoothing":
        if sigma is not None or copies is not None:
            raise InputError("--sigma and --copies are options of --method smoothing")
        return method
    if sigma is None:
        raise InputError("--method smoothing needs --sigma, the noise's standard deviation")
    from dataclasses import replace

    from ..certifiers import Smoothing

    smoothing = Smoothing(sigma, seed=seed, lattice=lattice)
    return smoothing if copies is None else replace(smoothing, n=copies)


def named_files(option: str, pairs: list[str]) -> dict[str, Path]:
    """Read options of the form `ID=PATH`.

    Raises:
        InputError: one is not of that form.
    """
    found = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not name or not path:
            raise InputError(f'{option} "{pair}" must be ID=PATH, as in normal=models/normal.onnx')
        found[name] = Path(path)
    return found


def only_for_runs(given: Mapping[str, object]) -> None:
    """Refuse options that a bundle has no use for.

    Raises:
        InputError: one was given.
    """
    for option, value in given.items():
        if value:
            raise InputError(f"{option} is for run folders; a bundle brings its suite and models")


def only_for_bundles(given: Mapping[str, object]) -> None:
    """Refuse options that a run folder has no use for.

    Raises:
        InputError: one was given.
    """
    for option, value in given.items():
        if value:
            raise InputError(f"{option} is for bundles; give the run's suite with --suite")


def not_for_certificates(given: Mapping[str, object]) -> None:
    """Refuse options that a certificate has no use for.

    Raises:
        InputError: one was given.
    """
    for option, value in given.items():
        if value:
            raise InputError(f"{option} is for runs and bundles; a certificate is of one network")


def only_for_certificates(given: Mapping[str, object]) -> None:
    """Refuse options that only a certificate has a use for.

    Raises:
        InputError: one was given.
    """
    for option, value in given.items():
        if value:
            raise InputError(f"{option} is for certificates; give a network and a certificate")


def scan_source(data: str, split: str, labels: str | None) -> tuple[Any, Any, list[int] | None]:
    """Return features and labels as `scan` takes them, and sample ids where there are any.

    Files that can be streamed are handed on as paths.
    """
    if data.lower().endswith((".parquet", ".pq", ".npy")):
        return data, labels, None
    if labels is not None:
        raise InputError("--labels is for Parquet and .npy files; others bring their labels")
    samples = load_data(data, split, None)
    return samples.x.reshape(len(samples.x), -1), samples.y, samples.ids.tolist()
