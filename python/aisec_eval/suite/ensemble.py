"""Ensembles for certificates against poisoning: base learners trained in shards, their votes kept.

Every model is trained on a few buckets of the training set, which a hash of each sample decides
(`certifiers.partition`), by a function of the user's. Shards are ranges of models; they run on the
executors of suites, so training is resumed where it stopped, and votes do not depend on executor,
workers or being killed.

```
<folder>/ensemble.json    what was trained, on what, and how
<folder>/votes.npy        class of each model on each input, integers [n, models]
<folder>/logits.npy       float32 [n, models, classes], where they were asked for
<folder>/feeds.npy        models that each bucket feeds, integers [buckets, d]
<folder>/inputs/          the arrays, for the workers
<folder>/shards/          finished ranges of models
```
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import _files
from .._validate import check_count
from ..certifiers.aggregation import VoteCertificates, certify_votes, spread
from ..errors import IncompleteRunError, InputError, RunError
from .ensemble_shards import describe, map_array, shards, vote_dtype, write_array, write_inputs
from .train_function import find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from .shard import Shard
    from .store import Store

_ABOUT = "ensemble.json"


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What the models of an ensemble say of some inputs, from the files in its folder."""

    folder: Path
    votes: NDArray[Any]
    """Class of each model on each input, integers [n, models], memory-mapped."""
    feeds: NDArray[np.uint32]
    """Models that each bucket of training data feeds [buckets, d]."""
    logits: NDArray[np.float32] | None
    """[n, models, classes], where they were asked for, memory-mapped."""
    bucket_sizes: NDArray[np.int64]
    """Training samples in each bucket."""
    about: Mapping[str, Any]

    def certify(
        self, labels: ArrayLike | None = None, method: str | None = None
    ) -> VoteCertificates:
        """Certify the ensemble's predictions: `certify_votes` of these votes and feeds.

        Args:
            labels: true classes [n], for accuracies.
            method: "dpa" (the default where each bucket feeds one model), "finite-aggregation" (the
                default elsewhere) or, with logits, "run-off".

        Raises:
            InputError: the method does not fit the ensemble.
        """
        shared = self.feeds.shape[1] > 1
        method = method or ("finite-aggregation" if shared else "dpa")
        if method not in ("dpa", "finite-aggregation", "run-off"):
            raise InputError(f"method={method!r} does not fit an ensemble trained on buckets")
        if method == "dpa" and shared:
            raise InputError('its buckets feed several models: method="finite-aggregation"')
        if method == "run-off":
            if self.logits is None:
                raise InputError("run-off takes logits: train_votes(..., logits=True)")
            return certify_votes(self.logits, labels, method=method, feeds=self.feeds)
        feeds = None if method == "dpa" else self.feeds
        classes = int(self.about["num_classes"])
        return certify_votes(self.votes, labels, method=method, num_classes=classes, feeds=feeds)


def train_votes(
    train: str | Callable[..., Any],
    x: ArrayLike,
    y: ArrayLike,
    inputs: ArrayLike,
    *,
    folder: str | Path,
    models: int,
    d: int = 1,
    num_classes: int | None = None,
    logits: bool = False,
    seed: int = 0,
    executor: Literal["local", "ray"] = "local",
    workers: int | None = None,
    shard_models: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Ensemble:
    """Train an ensemble on buckets of a training set and keep what its models say of some inputs.

    With `d=1` each model has a bucket of its own, deep partition aggregation (Levine & Feizi 2021,
    arXiv:2006.14768); else each bucket feeds `d` models and each model is fed by `d` buckets,
    finite aggregation (Wang et al. 2022, arXiv:2202.02628). A certificate speaks of retraining by
    the same function, so training must be reproducible: the same arrays and seed, the same answers.
    Each shard trains one of its models twice and refuses a function that answers differently.

    Args:
        train: `"module:function"` or `"file.py:function"`, or the function itself where workers can
            import it. It is called as `train(x, y, seed)` with the samples of one model (in an
            order that does not depend on the rows given here) and returns a function of inputs that
            answers labels [n], or logits [n, num_classes]. It must depend on nothing else.
        x: training inputs [m, ...].
        y: their labels [m], in 0..num_classes-1.
        inputs: what the models vote on [n, ...].
        folder: where everything is kept; the same call resumes what is there.
        models: how many.
        d: buckets that each model is fed by.
        num_classes: one more than the largest label when None.
        logits: whether to keep logits, for the run-off election.
        seed: of the hash, of the shifts of finite aggregation and, with the number of the model, of
            the seed that `train` is given (0 to 2**32 - 1).
        executor: `"local"` for processes on this machine, `"ray"` for a Ray cluster, whose nodes
            must see `folder` and the file of `train` under the same path.
        workers: processes or tasks at once; chosen from the number of cores when None.
        shard_models: models that are trained between two saves; a sixteenth of them when None.
        progress: called with models done, models in total, and what was last done.

    Returns:
        The votes, and what certifies them. A model whose buckets are empty votes for class 0.

    Raises:
        InputError: an option, an array or the function does not fit.
        RunError: the folder holds something else, or cannot be written.
        IncompleteRunError: models failed; the same call trains them again.
        Interrupted: Ctrl-C or SIGTERM; the same call resumes.
    """
    from .runner import Interrupted, _collect, _Reporter, locked, stoppable
    from .store import Store

    if executor not in ("local", "ray"):
        raise InputError(f'executor={executor!r} is not known; there are "local" and "ray"')
    if workers is not None:
        check_count("workers", workers)
    function = find(train)
    arrays = _arrays(x, y, inputs)
    about = describe(function, arrays, models, d, num_classes, logits=logits, seed=seed)
    size = -(-models // 16) if shard_models is None else check_count("shard_models", shard_models)
    root = Path(folder).resolve()
    if executor == "ray":
        from .ray_executor import execute, import_ray

        import_ray()
    else:
        from .local import execute
    _claim(root, about)
    with locked(root), stoppable() as stopping:
        store = Store(root)
        store.prepare()
        write_inputs(root, arrays, about)
        cells = shards(about, function, size)
        todo, damaged = store.missing(cells)
        report = _Reporter(cells, todo, progress)
        for line in damaged:
            report.note(line)
        errors: dict[str, str] = {}
        if todo:
            with contextlib.closing(
                execute(todo, root, workers=workers, stopping=stopping)
            ) as outcomes:
                _collect(outcomes, todo, root, errors, report)
        store.clean()
        done = sum((store.shards / shard.key).is_dir() for shard in cells)
        if done + len(errors) < len(cells):
            raise Interrupted(root, done, len(cells))
        if errors:
            first = next(iter(errors.values()))
            more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
            raise IncompleteRunError(f"{root}: {len(errors)} shards failed ({first}{more})")
        _join(root, cells, store, about)
    return load_votes(root)


def load_votes(folder: str | Path) -> Ensemble:
    """Read the votes that `train_votes` left in a folder.

    Raises:
        RunError: there are none, or they are not whole.
    """
    root = Path(folder)
    about = _files.read_json(root / _ABOUT)
    try:
        models, d, kept = int(about["models"]), int(about["d"]), bool(about["logits"])
        shape = (int(about["inputs"]), models, int(about["num_classes"]))
        sizes = np.array(about["bucket_sizes"], dtype=np.int64)
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{root / _ABOUT}: does not describe an ensemble") from None
    votes = map_array(root / "votes.npy")
    feeds = np.array(map_array(root / "feeds.npy"))
    logits = map_array(root / "logits.npy") if kept else None
    for name, found, expected in (
        ("votes.npy", votes, shape[:2]),
        ("feeds.npy", feeds, (models, d)),
        ("logits.npy", logits, shape),
    ):
        if found is not None and found.shape != expected:
            raise RunError(f"{root / name}: has shape {list(found.shape)}, not {list(expected)}")
    return Ensemble(root, votes, feeds, logits, sizes, about)


def _arrays(x: Any, y: Any, inputs: Any) -> dict[str, NDArray[Any]]:
    try:
        found = {"x": np.asarray(x), "y": np.asarray(y), "inputs": np.asarray(inputs)}
    except ValueError as error:
        raise InputError(f"x, y and inputs must be arrays: {error}") from None
    for name in ("x", "inputs"):
        array = found[name]
        if array.ndim < 2 or not len(array) or array.dtype.kind not in "fiub":
            raise InputError(
                f"{name} must be numbers [n, ...], got {array.dtype} {list(array.shape)}"
            )
    if found["x"].shape[1:] != found["inputs"].shape[1:]:
        raise InputError(
            f"inputs have shape {list(found['inputs'].shape[1:])}, x {list(found['x'].shape[1:])}"
        )
    labels = found["y"]
    if labels.shape != (len(found["x"]),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(
            f"y must be integers [{len(found['x'])}] from 0, got {labels.dtype} "
            f"{list(labels.shape)}"
        )
    found["y"] = labels.astype(np.int64)
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def _claim(root: Path, about: Mapping[str, Any]) -> None:
    """Take a folder for an ensemble.

    Raises:
        RunError: it holds something else, or cannot be written.
    """
    path = root / _ABOUT
    if root.exists() and not root.is_dir():
        raise RunError(f"{root}: is not a folder")
    if path.exists():
        found = _files.read_json(path)
        other = [
            key for key in about if not isinstance(found, dict) or found.get(key) != about[key]
        ]
        if other:
            raise RunError(
                f"{root}: holds an ensemble with another {', '.join(other)}; give another folder"
            )
        return
    if root.is_dir() and any(root.iterdir()):
        raise RunError(f"{root}: holds something that is no ensemble; give another folder")
    with _files._write_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    _files.write_json(path, about)


def _join(root: Path, shards: Sequence[Shard], store: Store, about: Mapping[str, Any]) -> None:
    """Write the votes of all models side by side, each file whole or not at all."""
    shape = (about["inputs"], about["models"])
    files: dict[str, tuple[tuple[int, ...], str]] = {
        "votes": (shape, vote_dtype(about["num_classes"]))
    }
    if about["logits"]:
        files["logits"] = ((*shape, about["num_classes"]), "f4")
    for name, (whole, dtype) in files.items():
        path = root / f"{name}.npy"
        with _files._write_errors(path):
            handle, temporary = tempfile.mkstemp(dir=root, prefix=f".{name}.", suffix=".tmp")
            os.close(handle)
            try:
                out = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=whole)
                for shard in shards:
                    part = store.read_part(shard.key)
                    out[:, slice(*shard.rows)] = part.arrays[name]
                out.flush()
                del out
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
    write_array(root / "feeds.npy", spread(about["models"], about["d"], seed=about["seed"]))
    _files.sync_folder(root)
