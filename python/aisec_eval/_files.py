"""Reading and writing run files: the same bytes for the same content, whole or not at all.

Writes go to a temporary file that is flushed to disk and renamed over the target, so a killed
process leaves either the old file or the new one. Reads trust nothing: sizes are checked against
the file before anything is allocated, and no format here can carry code.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

MAX_JSON = 64 << 20
"""Largest JSON file that is read, in bytes."""
MAX_ROWS = 100_000_000
"""Most rows a table is believed to have."""


def write_bytes(path: Path, data: bytes) -> Path:
    """Write `data` to `path` atomically and durably; parent folders are made.

    Raises:
        RunError: the folder cannot be written.
    """
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        sync_folder(path.parent)
    return path


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as JSON with sorted keys.

    Raises:
        RunError: `value` holds something JSON cannot, or the folder cannot be written.
    """
    try:
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        data = text.encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise RunError(f"cannot write {path}: not plain JSON ({error})") from None
    return write_bytes(path, data)


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write arrays as an uncompressed `.npz` without timestamps, entries in the order given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(
                    file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False
                )
    return write_bytes(path, buffer.getvalue())


def write_parquet(path: Path, frame: pl.DataFrame) -> Path:
    """Write a frame as Parquet with every setting fixed, so equal frames give equal bytes."""
    return write_bytes(path, parquet_bytes(frame))


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Return a frame as the bytes of a Parquet file; see `write_parquet`."""
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(
        buffer, compression="zstd", compression_level=3, statistics=False, row_group_size=1 << 16
    )
    return buffer.getvalue()


def read_json(path: Path) -> Any:
    """Read a JSON file of at most `MAX_JSON` bytes.

    Raises:
        RunError: missing, too large or not JSON.
    """
    with _read_errors(path):
        _regular(path)
        if path.stat().st_size > MAX_JSON:
            raise RunError(f"{path}: larger than {MAX_JSON >> 20} MiB; not a file of a run")
        try:
            return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: not valid JSON ({_line(error)}); restore the file") from None


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read the arrays `names` from an uncompressed `.npz` that holds exactly those.

    Entries are stored, so nothing larger than the file is ever allocated.

    Raises:
        RunError: missing, damaged, compressed, or holding other entries.
    """
    with _read_errors(path):
        _regular(path)
        try:
            with zipfile.ZipFile(path) as archive:
                if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in names):
                    raise RunError(f"{path}: expected the arrays {', '.join(names)}")
                return {name: _entry(archive, f"{name}.npy") for name in names}
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise RunError(f"{path}: damaged archive ({_line(error)}); restore the file") from None


def _entry(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise ValueError(f"{name} is compressed or inconsistent")
    if info.file_size > os.path.getsize(archive.filename or ""):
        raise ValueError(f"{name} claims to be larger than its archive")
    file = io.BytesIO(archive.read(name))
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} is not a version 1.0 array")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {dtype}, expected numbers")
    data = file.getbuffer()[file.tell() :]
    count = 1
    for axis in shape:
        count *= axis
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data):
        raise ValueError(f"{name} does not hold the {shape} it declares")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C").copy()


def read_parquet(
    path: Path, schema: Mapping[str, pl.DataType], *, max_rows: int = MAX_ROWS
) -> pl.DataFrame:
    """Read a Parquet table that has exactly the columns and types of `schema`, without nulls.

    Raises:
        RunError: missing, damaged, or of another schema.
    """
    import polars as pl

    with _read_errors(path):
        _regular(path)
        try:
            lazy = pl.scan_parquet(path, glob=False, cache=False)
            found = dict(lazy.collect_schema())
            if found != dict(schema):
                raise RunError(
                    f"{path}: expected columns {', '.join(map(str, schema))} of this version's "
                    f"types, found {', '.join(found) or 'none'}"
                )
            rows = lazy.select(pl.len()).collect().item()
            if rows > max_rows:
                raise RunError(f"{path}: claims {rows} rows; more than {max_rows} are not read")
            frame = lazy.collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise RunError(f"{path}: damaged table ({_line(error)}); restore the file") from None
        if any(frame.null_count().row(0)):
            raise RunError(f"{path}: holds null values; restore the file")
        return frame


def confined(folder: Path, name: str) -> Path:
    """Return `folder / name` after checking that it is really inside `folder`.

    Raises:
        RunError: the name climbs out of the folder, or a link does.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path.is_symlink():
        raise RunError(f"{path}: leaves the run folder; a run may only refer to its own files")
    return path


def _regular(path: Path) -> None:
    if path.is_symlink():
        raise RunError(f"{path}: is a link; a run may only hold its own files")
    if path.exists() and not path.is_file():
        raise RunError(f"{path}: is not a regular file")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise RunError(f"{path}: missing; the run is incomplete or was moved") from None
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise RunError(f"{path}: cannot be read ({reason})") from None


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}; choose a folder that can be written"
        ) from None
