"""Radii of voting ensembles checked again, from the votes alone, and files to carry them in.

The checker shares no code with what found the radii: for each sample it asks whether so much poison
can change the election, and for bagging whether the votes prove that it cannot.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _files
from ..errors import DatasetError, InputError, RunError
from .aggregation import METHODS, VoteCertificates, _blocks, _checked, _feeds, _open

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_FORMAT = {"format": "aisec radii of votes", "version": 1}
_KEYS = {*_FORMAT, "method", "options", "votes", "prediction", "radius"}
_OPTIONS = {"num_classes", "feeds", "training_size", "subsample", "alpha"}


def check_votes(votes: Any, claims: VoteCertificates | str | Path) -> list[str]:
    """Check predictions and radii against the votes they were derived from.

    Args:
        votes: what `certify_votes` was given: an array, or a path to a `.npy` file.
        claims: what it returned, or a path to a file of `save_radii`.

    Returns:
        One line for each sample whose claim does not hold, `sample 3: ...`; none where all do.

    Raises:
        InputError: votes and claims do not fit each other.
        DatasetError: a file cannot be read, or is of other votes.
    """
    array = _open(votes)
    if not isinstance(claims, VoteCertificates):
        claims, digest = _read(Path(claims))
        if digest != _digest(array):
            raise DatasetError(f"{votes}: not the votes that the radii were derived from")
    if array.ndim < 2 or len(array) != len(claims.radius):
        raise InputError(
            f"votes have shape {list(array.shape)}, the claims are of {len(claims.radius)} samples"
        )
    reasons, first = [], 0
    for block in _blocks(array):
        rows = slice(first, first + len(block))
        found = _check(block, claims, claims.prediction[rows], claims.radius[rows])
        reasons += [f"sample {first + i}: {why}" for i, why in enumerate(found) if why]
        first += len(block)
    return reasons


def save_radii(claims: VoteCertificates, votes: Any, path: str | Path) -> Path:
    """Write predictions and radii for others to check: JSON, with the digest of the votes.

    Args:
        claims: what `certify_votes` returned, of
        votes: these.
        path: the file to write.

    Raises:
        DatasetError: the votes cannot be read.
        RunError: the file cannot be written.
    """
    options = dict(claims.options)
    if options.get("feeds") is not None:
        options["feeds"] = np.asarray(options["feeds"]).tolist()
    about = {
        **_FORMAT,
        "method": claims.method,
        "options": options,
        "votes": _digest(_open(votes)),
        "prediction": claims.prediction.tolist(),
        "radius": claims.radius.tolist(),
    }
    return _files.write_json(Path(path), about)


def _check(
    votes: NDArray[Any],
    claims: VoteCertificates,
    prediction: NDArray[np.int64],
    radius: NDArray[np.int64],
) -> list[str]:
    from .. import _core

    options = claims.options
    of = np.ascontiguousarray(prediction), np.ascontiguousarray(radius)
    try:
        feeds = options.get("feeds")
        if claims.method == "run-off":
            if votes.ndim != 3 or votes.dtype.kind != "f":
                raise InputError("run-off takes logits, floats [n, models, num_classes]")
            logits = np.ascontiguousarray(votes, dtype=np.float32)
            return _core.check_run_off(logits, *of, _buckets(feeds, votes.shape[1]))
        if votes.ndim != 2:
            raise InputError(f"{claims.method} takes votes [n, models]")
        classes = int(options["num_classes"])
        counted = _checked(votes, classes)
        if claims.method != "bagging":
            return _core.check_votes(counted, classes, *of, _buckets(feeds, votes.shape[1]))
        return _core.check_bagging(
            counted,
            classes,
            *of,
            training_size=int(options["training_size"]),
            subsample=int(options["subsample"]),
            alpha=float(options["alpha"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"options of {claims.method} do not fit the votes: {error}") from None


def _buckets(feeds: Any, models: int) -> NDArray[np.uint32] | None:
    return None if feeds is None else _feeds(feeds, models)


def _digest(votes: NDArray[Any]) -> str:
    found = hashlib.sha256(f"{votes.dtype.str}{list(votes.shape)}".encode())
    for block in _blocks(votes) if votes.ndim and votes.size else _nothing():
        found.update(np.ascontiguousarray(block).data)
    return found.hexdigest()


def _nothing() -> Iterator[NDArray[Any]]:
    yield from ()


def _read(path: Path) -> tuple[VoteCertificates, str]:
    try:
        about = _files.read_json(path)
    except RunError as error:
        raise DatasetError(str(error)) from None
    try:
        if set(about) != _KEYS or {key: about[key] for key in _FORMAT} != _FORMAT:
            raise ValueError("another format")
        prediction, radius = (_integers(about[name]) for name in ("prediction", "radius"))
        options: Mapping[str, Any] = about["options"]
        fits = set(options) <= _OPTIONS and len(prediction) == len(radius)
        if not fits or about["method"] not in METHODS:
            raise ValueError("other options")
        return VoteCertificates(prediction, radius, None, about["method"], options), about["votes"]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DatasetError(f"{path}: not a file of radii that save_radii wrote") from None


def _integers(values: Any) -> NDArray[np.int64]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError("not a list of integers")
    return np.array(values, dtype=np.int64)
