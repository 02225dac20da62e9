"""Archives of arrays: `.npz` files, never unpickled."""

from __future__ import annotations

import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError
from .base import Raw, check_memory

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read(path: Path, split: str, labels: Any) -> Raw:
    """Return `x` and `y`, or `x_<split>` and `y_<split>`; `labels` names another label array."""
    if labels is not None and not isinstance(labels, str):
        raise DatasetError(f"{path}: labels={labels!r} must be the name of an array in the file")
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
            x = _choose(path, found, "x", split)
            y = labels if labels is not None else _choose(path, found, "y", split)
            if y not in found:
                raise DatasetError(f"{path}: no array {y!r}; it holds {', '.join(found)}")
            return Raw(str(path), _array(path, archive, x), _array(path, archive, y))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{path}: not a readable .npz archive ({reason})") from None


def _choose(path: Path, found: list[str], kind: str, split: str) -> str:
    for name in (f"{kind}_{split}", kind):
        if name in found:
            return name
    raise DatasetError(
        f"{path}: no array {kind!r} or '{kind}_{split}'; it holds {', '.join(found) or 'nothing'}"
    )


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read one array after comparing what its header declares with the size of its entry."""
    where, entry = f"{path}, array {name!r}", archive.getinfo(f"{name}.npy")
    check_memory(where, entry.file_size)
    try:
        with archive.open(entry) as file:
            shape, fortran, dtype = _header(file)
            if dtype.hasobject:
                raise DatasetError(
                    f"{where}: holds Python objects, which are not loaded; save plain numbers"
                )
            count = 1
            for side in shape:
                count *= side
            data = file.read()
        if min(shape, default=0) < 0 or count * dtype.itemsize != len(data):
            raise ValueError(f"declares {shape} of {dtype}, holds {len(data)} bytes")
    except (ValueError, SyntaxError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{where}: damaged ({reason})") from None
    array = np.frombuffer(data, dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} arrays are not read")
