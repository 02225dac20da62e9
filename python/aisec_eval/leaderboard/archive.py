"""The bundle as a file: a zip of stored members in one canonical form, read without trust.

Names come from a short list of patterns, nothing is compressed, and the file must be byte for byte
what `pack` would write from its members. So no reader can see other members than another one,
nothing can hide between, before or behind them, and nothing grows when it is read.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
from typing import TYPE_CHECKING

from ..errors import RunError, UnsafeArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES = 512 << 20
"""Largest bundle; it is held in memory while it is checked."""
MAX_MEMBERS = 10_000

_ENTRY = r"[0-9]{3,6}-[a-z0-9](?:[a-z0-9.-]{0,98}[a-z0-9])?"
MEMBER = re.compile(
    r"(?:statement|suite\.lock|aggregate|flags|env)\.json|results\.parquet"
    rf"|evidence/{_ENTRY}\.npz|model/{_ENTRY}\.onnx|scans/{_ENTRY}/(?:scores\.parquet|scan\.json)"
)
"""What a member may be called."""


def pack(members: Mapping[str, bytes]) -> bytes:
    """Return the one zip file that holds `members`: sorted, stored, without times.

    Raises:
        RunError: too much for one bundle.
    """
    if len(members) > MAX_MEMBERS or sum(map(len, members.values())) > MAX_BYTES:
        raise RunError(
            f"a bundle holds at most {MAX_MEMBERS} files of {MAX_BYTES >> 20} MiB together; "
            "bundle a smaller suite"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def unpack(path: Path) -> dict[str, bytes]:
    """Read the members of a bundle.

    Raises:
        RunError: missing or unreadable.
        UnsafeArtifactError: not a zip, or not in the form `pack` writes; says which member and why.
    """
    try:
        if not path.is_file():
            raise RunError(f"{path}: no such bundle")
        if path.stat().st_size > MAX_BYTES:
            raise UnsafeArtifactError(f"{path}: larger than {MAX_BYTES >> 20} MiB; not read")
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _refuse_unsafe(path, members, len(data))
            found = {member.filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnsafeArtifactError(f"{path}: not a whole zip file ({reason})") from None
    if pack(found) != data:
        raise UnsafeArtifactError(
            f"{path}: holds bytes that `aisec-eval bundle` does not write; get it from its author"
        )
    return found


def _refuse_unsafe(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    """Look at the directory alone, before anything is read."""
    if len(members) > MAX_MEMBERS:
        raise UnsafeArtifactError(f"{path}: {len(members)} members, more than {MAX_MEMBERS}")
    seen: set[str] = set()
    for member in members:
        reason = _unsafe(member, seen)
        if reason is not None:
            raise UnsafeArtifactError(f"{path}: member {member.orig_filename[:200]!r} {reason}")
        seen.add(member.filename.casefold())
    if sum(member.file_size for member in members) > size:
        raise UnsafeArtifactError(f"{path}: its members claim to be larger than the file")


def _unsafe(member: zipfile.ZipInfo, seen: set[str]) -> str | None:
    name = member.orig_filename
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "has an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "climbs out of its folder"
    if name.casefold() in seen:
        return "is there twice (or differs in case alone)"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG) or member.is_dir():
        return "is a link or another special file"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        return "is compressed; bundles store their members as they are"
    if not MEMBER.fullmatch(name):
        return "is no part of a bundle"
    return None
