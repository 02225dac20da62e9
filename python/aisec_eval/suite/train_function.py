"""The user's training function: named, found again in other processes, and called.

It is code that the caller names in a call, never what a file from elsewhere names: nothing that is
read from a folder is imported. Workers import it from the file it was found in, which must not have
changed since.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError, InputError, RunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORM = "train must be 'module:function' or 'file.py:function'"


@dataclass(frozen=True)
class TrainFunction:
    """Where a function `train(x, y, seed) -> predict` is."""

    module: str
    """A module's name, or that of a file `name.py`."""
    name: str
    digest: str
    """SHA-256 of the file."""
    root: str
    """Folder of the file, or of the module's outermost package."""

    def to_json(self) -> dict[str, str]:
        """Return what results depend on, as plain JSON: all but where it lies."""
        return {"module": self.module, "name": self.name, "digest": self.digest}

    def load(self) -> Callable[..., Any]:
        """Import the function.

        Raises:
            RunError: the file is not what it was, or lacks the function.
        """
        if self.root not in sys.path:
            sys.path.append(self.root)  # behind everything else, so it hides nothing
        if self.module.endswith(".py"):
            function, _, digest = _from_file(Path(self.root) / self.module, self.name)
        else:
            function, _, digest = _from_module(self.module, self.name)
        if digest != self.digest:
            raise RunError(f"{self.module}:{self.name} is in another file than training began with")
        return function


def find(train: str | Callable[..., Any]) -> TrainFunction:
    """Find a training function by its name, or by itself where it has one.

    Raises:
        InputError: there is no such function, or workers could not import it.
    """
    if callable(train):
        module, name = train.__module__, train.__qualname__
        if module == "__main__" or "<" in name or "." in name:
            raise InputError(
                f"{_FORM}; workers cannot import {module}:{name}: move it to the top of a file"
            )
    else:
        module, colon, name = str(train).rpartition(":")
        if not colon or not module or not name.isidentifier():
            raise InputError(f"{_FORM}, got {train!r}")
    try:
        if module.endswith(".py"):
            path = Path(module).resolve()
            _, file, digest = _from_file(path, name)
            return TrainFunction(path.name, name, digest, str(path.parent))
        _, file, digest = _from_module(module, name)
    except RunError as error:
        raise InputError(f"{_FORM}; {error}") from None
    depth = module.count(".") + (file.name == "__init__.py")
    return TrainFunction(module, name, digest, str(file.parents[depth]))


def votes_of(
    predict: Any, inputs: NDArray[Any], classes: int, *, logits: bool
) -> tuple[NDArray[np.uint32], NDArray[np.float32] | None]:
    """Return a model's votes [n], and its logits [n, classes] where they are asked for.

    Raises:
        DatasetError: it answers something else than labels or logits.
    """
    if not callable(predict):
        raise DatasetError(f"train must return a function of inputs, got {type(predict).__name__}")
    answers = np.asarray(predict(inputs))
    n = len(inputs)
    if answers.shape == (n, classes) and answers.dtype.kind == "f":
        # Votes of float32 logits, as a run-off sees them.
        found = answers.astype(np.float32)
        votes = np.where(np.isnan(found), np.float32(-np.inf), found).argmax(1).astype(np.uint32)
        return votes, found if logits else None
    if logits or answers.shape != (n,) or answers.dtype.kind not in "iu":
        asked = f"logits [{n}, {classes}]"
        asked = asked if logits else f"integer labels [{n}] or {asked}"
        raise DatasetError(
            f"predict must return {asked}, got {answers.dtype} {list(answers.shape)}"
        )
    if n and not (answers.min() >= 0 and answers.max() < classes):
        raise DatasetError(f"predict returned labels outside 0..{classes - 1}")
    return answers.astype(np.uint32), None


_Found = tuple[Callable[..., Any], Path, str]
_modules: dict[str, str] = {}
"""Digests of the files of modules when this process first saw them."""


def _from_file(path: Path, name: str) -> _Found:
    """Load a file that is no module of anything, anew whenever it has changed."""
    digest = _digest(path)
    module = f"aisec_eval_train_{digest[:32]}"
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, path)
        if spec is None or spec.loader is None:
            raise RunError(f"{path}: is no Python file")
        made = importlib.util.module_from_spec(spec)
        sys.modules[module] = made
        try:
            spec.loader.exec_module(made)
        except BaseException as error:
            del sys.modules[module]
            if not isinstance(error, Exception):
                raise
            raise RunError(f"cannot run {path}: {_line(error)}") from None
    function = getattr(sys.modules[module], name, None)
    if not callable(function):
        raise RunError(f"{path} has no function {name!r}")
    return function, path, digest


def _from_module(module: str, name: str) -> _Found:
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise RunError(f"cannot import {module}: {_line(error)}") from None
    function, file = getattr(found, name, None), getattr(found, "__file__", None)
    if not callable(function) or file is None:
        raise RunError(f"module {module} has no function {name!r}, or no file")
    path = Path(file).resolve()
    digest = _digest(path)
    if _modules.setdefault(module, digest) != digest:
        raise RunError(f"{path}: changed after this process had imported it; start it anew")
    return function, path, digest


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(f"{file}: {error.strerror}") from None


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
