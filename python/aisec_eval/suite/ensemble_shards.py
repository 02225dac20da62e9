"""Shards of an ensemble: ranges of models, each trained on its buckets, and their votes.

A shard's inputs are arrays in the folder that it is computed for; workers check their digest once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _files
from .._validate import check_count, check_seed
from ..certifiers.aggregation import spread
from ..certifiers.partition import partition
from ..errors import DatasetError, InputError, RunError
from .identity import engine
from .inputs import DataSource
from .scan_shards import ScanPart
from .shard import Shard
from .train_function import TrainFunction, votes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from .store import Store

VOTES, LOGITS = "ensemble-votes", "ensemble-logits"
PARTS: dict[str, tuple[str, ...]] = {VOTES: ("votes",), LOGITS: ("votes", "logits")}
"""Arrays of each kind of shard."""
_INPUTS = ("x", "y", "inputs")


def describe(
    function: TrainFunction,
    arrays: Mapping[str, NDArray[Any]],
    models: int,
    d: int,
    num_classes: int | None,
    *,
    logits: bool,
    seed: int,
) -> dict[str, Any]:
    """Return what the votes of an ensemble depend on, and how large its buckets are.

    Raises:
        InputError: an option does not fit.
    """
    check_count("models", models)
    check_seed(seed)
    least = int(arrays["y"].max()) + 1
    classes = least if num_classes is None else check_count("num_classes", num_classes)
    if classes < least:
        raise InputError(f"num_classes={classes}, but y has labels up to {least - 1}")
    spread(models, d, seed=seed)
    cut = partition(arrays["x"], arrays["y"], models, seed=seed)
    return {
        "schema": 1,
        "kind": "ensemble",
        "train": function.to_json(),
        "digest": _digest([arrays[name] for name in _INPUTS]),
        "samples": len(arrays["x"]),
        "inputs": len(arrays["inputs"]),
        "bucket_sizes": np.bincount(cut.bucket, minlength=models).tolist(),
        "models": int(models),
        "d": int(d),
        "num_classes": classes,
        "logits": bool(logits),
        "seed": int(seed),
    }


def shards(about: Mapping[str, Any], function: TrainFunction, size: int) -> list[Shard]:
    """Cut an ensemble into ranges of `size` models."""
    # Where the code lies on this machine decides nothing, so it stays out of the identity.
    source = DataSource("ensemble", function.root)
    found = []
    for first in range(0, about["models"], size):
        rows = (first, min(first + size, about["models"]))
        identity = {
            "kind": LOGITS if about["logits"] else VOTES,
            "engine": engine(),
            "ensemble": about,
            "models": list(rows),
        }
        found.append(Shard(identity, None, source, rows))
    return found


def execute(shard: Shard, store: Store | None) -> ScanPart:
    """Train the models of a shard and have them vote; a function of the shard's inputs alone.

    Raises:
        RunError: the inputs or the training function changed, or training is not reproducible.
        DatasetError: a model answers something else than labels or logits.
    """
    if store is None:
        raise RunError(f"shard {shard.key}: its inputs are in a folder, and there is none")
    about = shard.identity["ensemble"]
    folder = store.folder / "inputs"
    arrays = _inputs(str(folder), about["digest"])
    train = TrainFunction(**about["train"], root=shard.data.source).load()
    fit = _Fit(train, arrays[0], arrays[1], arrays[2], about)
    first, stop = shard.rows
    votes = np.empty((len(arrays[2]), stop - first), dtype=vote_dtype(about["num_classes"]))
    kept = []
    for model in range(first, stop):
        answer, logits = fit(model)
        if model == first and not np.array_equal(answer, fit(model)[0]):
            raise RunError(
                f"model {model}, trained twice, votes differently: training must depend on "
                "(x, y, seed) alone"
            )
        votes[:, model - first] = answer
        if logits is not None:
            kept.append(logits)
    if about["logits"]:
        return ScanPart({"votes": votes, "logits": np.stack(kept, axis=1)})
    return ScanPart({"votes": votes})


class _Fit:
    """Trains a model of the ensemble and asks it."""

    def __init__(
        self,
        train: Callable[..., Any],
        x: NDArray[Any],
        y: NDArray[np.int64],
        inputs: NDArray[Any],
        about: Mapping[str, Any],
    ) -> None:
        self.train, self.x, self.y, self.inputs, self.about = train, x, y, inputs, about
        self.feeds = spread(about["models"], about["d"], seed=about["seed"])
        self.cut = partition(x, y, about["models"], seed=about["seed"])

    def __call__(self, model: int) -> tuple[NDArray[np.uint32], NDArray[np.float32] | None]:
        about = self.about
        rows = self.cut.rows((self.feeds == model).any(axis=1))
        classes, n = about["num_classes"], len(self.inputs)
        if not len(rows):
            none = np.zeros((n, classes), dtype=np.float32) if about["logits"] else None
            return np.zeros(n, dtype=np.uint32), none
        # Copies: what a function does to its arguments must not reach the next model.
        predict = self.train(self.x[rows], self.y[rows], _seed(about["seed"], model))
        return votes_of(predict, np.array(self.inputs), classes, logits=about["logits"])


def _seed(seed: int, model: int) -> int:
    return int(np.random.SeedSequence([seed, model]).generate_state(1)[0])


def write_inputs(root: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Put the arrays where workers find them, unless they are there."""
    folder = root / "inputs"
    with contextlib.suppress(RunError, DatasetError):
        _inputs(str(folder), about["digest"])
        return
    for name, array in arrays.items():
        write_array(folder / f"{name}.npy", array)


@cache
def _inputs(folder: str, expected: str) -> tuple[NDArray[Any], ...]:
    """Map the arrays of an ensemble; they are checked once in each process."""
    arrays = tuple(map_array(Path(folder) / f"{name}.npy") for name in _INPUTS)
    if _digest(arrays) != expected:
        raise RunError(f"{folder}: changed since training began; give another folder")
    return arrays


def map_array(path: Path) -> NDArray[Any]:
    """Map a `.npy` file into memory, to be read.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    except FileNotFoundError:
        raise RunError(f"{path}: missing; train_votes has not finished") from None
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path}: not a readable .npy file ({reason})") from None


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a `.npy` file, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    with _files._write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)


def _digest(arrays: Sequence[NDArray[Any]]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(array.data)
    return found.hexdigest()


def vote_dtype(classes: int) -> str:
    """Return the smallest type that holds a class."""
    return "u1" if classes <= 1 << 8 else "u2" if classes <= 1 << 16 else "u4"
