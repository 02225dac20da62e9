"""Arrays in `.npy` files: mapped, never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError
from .base import Raw

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read(path: Path, labels: Any) -> Raw:
    """Return the samples in `path` with `labels`: a path to another `.npy` file, or an array."""
    if labels is None:
        raise DatasetError(f'{path}: holds no labels; pass labels="labels.npy" or an array')
    y = load(Path(labels)) if isinstance(labels, str | Path) else np.asarray(labels)
    return Raw(str(path), load(path), y)


def load(path: Path) -> NDArray[Any]:
    """Map the array in a `.npy` file read-only.

    Raises:
        DatasetError: missing, damaged, or an array of Python objects.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, SyntaxError) as error:
        reason = " ".join(str(error).split())[:200]
        if "Python objects" in reason or "pickle" in reason.lower():
            reason = "it holds Python objects, which are not loaded; save plain numbers"
        raise DatasetError(f"{path}: not a readable .npy array ({reason})") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise DatasetError(f"{path}: is an archive, not a .npy array; name it .npz")
    return array
