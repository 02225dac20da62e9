"""Hostile zips: every one is refused with exit code 4 and a line that names the member."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest

from aisec_eval.errors import RunError, UnsafeArtifactError
from aisec_eval.leaderboard import archive
from aisec_eval.leaderboard.archive import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD = {
    "statement.json": b"{}",
    "results.parquet": b"PAR1",
    "evidence/000-net-linf-0.1.npz": b"x" * 100,
    "scans/000-digits/scan.json": b"{}",
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes], method: int = 0) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as out:
        warnings.simplefilter("ignore")  # of double names
        for name, data in members:
            out.writestr(name, data)
    return buffer.getvalue()


def special(mode: int, name: str = "env.json") -> bytes:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return zipped((info, b"/etc/passwd"))


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes of every header with a signature."""
    out, place = bytearray(data), data.find(signature)
    assert place >= 0
    while place >= 0:
        out[place + offset : place + offset + len(value)] = value
        place = data.find(signature, place + 1)
    return bytes(out)


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
ONE = zipped(("env.json", b"{}"))


def encrypted() -> bytes:
    return patched(patched(ONE, LOCAL, 6, b"\1\0"), CENTRAL, 8, b"\1\0")


def lying_size() -> bytes:
    """A member that claims a gigabyte."""
    size = struct.pack("<II", 1 << 30, 1 << 30)
    return patched(patched(ONE, LOCAL, 18, size), CENTRAL, 20, size)


def descriptor() -> bytes:
    """Sizes behind the data, as streaming writers do: readers may differ about where it ends."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as out:  # type: ignore[arg-type]
        out.writestr("env.json", b"{}")
    return pipe.data


def overlapping() -> bytes:
    """Two directory entries for the same stored bytes."""
    data = pack({"env.json": b"{}", "flags.json": b"{}"})
    second = data.index(CENTRAL, data.index(CENTRAL) + 1)
    return data[: second + 42] + struct.pack("<I", 0) + data[second + 46 :]


def commented() -> bytes:
    buffer = io.BytesIO(pack(GOOD))
    with zipfile.ZipFile(buffer, "a") as out:
        out.comment = b"hidden"
    return buffer.getvalue()


def with_extra() -> bytes:
    info = zipfile.ZipInfo("env.json")
    info.extra = struct.pack("<HH", 0x7075, 4) + b"evil"  # another name, for some readers
    return zipped((info, b"{}"))


HOSTILE: dict[str, tuple[bytes, str]] = {
    "absolute": (zipped(("/etc/passwd", b"x")), "absolute path"),
    "windows": (zipped(("C:/Windows/x", b"x")), "absolute path"),
    "unc": (zipped(("\\\\host\\x", b"x")), "absolute path"),
    "dot dot": (zipped(("../env.json", b"x")), "climbs out"),
    "dot dot inside": (zipped(("evidence/../../env.json", b"x")), "climbs out"),
    "backslash": (zipped(("evidence\\..\\env.json", b"x")), "climbs out"),
    "twice": (zipped(("env.json", b"a"), ("env.json", b"b")), "twice"),
    "case": (zipped(("env.json", b"a"), ("ENV.JSON", b"b")), "twice"),
    "upper case": (zipped(("ENV.JSON", b"b")), "no part of a bundle"),
    "unknown": (zipped(("run.sh", b"x")), "no part of a bundle"),
    "pickle": (zipped(("model/000-net.pkl", b"x")), "no part of a bundle"),
    "deep": (zipped(("model/000-net/000-net.onnx", b"x")), "no part of a bundle"),
    "dots at the end": (zipped(("model/000-net..onnx.", b"x")), "no part of a bundle"),
    "unicode": (zipped(("env\u2024json", b"x")), "no part of a bundle"),
    "newline": (zipped(("env.json\n", b"x")), "no part of a bundle"),
    "device": (zipped(("scans/000-con/nul", b"x")), "no part of a bundle"),
    "folder": (zipped(("evidence/", b"")), "special file"),
    "symlink": (special(stat.S_IFLNK | 0o777), "special file"),
    "fifo": (special(stat.S_IFIFO | 0o644), "special file"),
    "character device": (special(stat.S_IFCHR | 0o644), "special file"),
    "socket": (special(stat.S_IFSOCK | 0o644), "special file"),
    "bomb": (zipped(("env.json", b"0" * 10**7), method=zipfile.ZIP_DEFLATED), "compressed"),
    "bzip2": (zipped(("env.json", b"0" * 10**6), method=zipfile.ZIP_BZIP2), "compressed"),
    "lzma": (zipped(("env.json", b"0" * 10**6), method=zipfile.ZIP_LZMA), "compressed"),
    "unknown method": (patched(ONE, CENTRAL, 10, b"\x5d\0"), "compressed"),
    "encrypted": (encrypted(), "encrypted"),
    "lying size": (lying_size(), "larger than the file"),
    "descriptor": (descriptor(), "does not write"),
    "overlapping": (overlapping(), "not a whole zip file"),
    "comment": (commented(), "does not write"),
    "extra field": (with_extra(), "does not write"),
    "prefix": (b"#!/bin/sh\n" + pack(GOOD), "does not write"),
    "suffix": (pack(GOOD) + b"\0" * 8, "does not write"),
    "gap": (pack(GOOD).replace(CENTRAL, b"\0\0" + CENTRAL, 1), "zip file|does not write"),
    "other order": (zipped(*sorted(GOOD.items(), reverse=True)), "does not write"),
    "other times": (zipped(*sorted(GOOD.items())), "does not write"),
    "two names": (patched(ONE, LOCAL, 30, b"ENV"), "not a whole zip file"),
    "wrong checksum": (patched(ONE, CENTRAL, 16, b"abcd"), "not a whole zip file"),
    "cut": (pack(GOOD)[:-30], "not a whole zip file"),
    "cut short": (pack(GOOD)[:50], "not a whole zip file"),
    "empty": (b"", "not a whole zip file"),
    "no zip": (b"\x80\x04pickle" * 10, "not a whole zip file"),
    "many entries": (patched(pack(GOOD), END, 8, b"\xff\xff\xff\xff"), "does not write"),
    "directory elsewhere": (patched(pack(GOOD), END, 16, b"\xff\xff\xff\x7f"), "whole zip file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_is_refused(name: str, tmp_path: Path) -> None:
    data, reason = HOSTILE[name]
    path = write(tmp_path / "hostile.zip", data)
    with pytest.raises(UnsafeArtifactError, match=reason) as refused:
        unpack(path)
    assert refused.value.exit_code == 4
    assert "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["hostile.zip"]


def test_round_trip(tmp_path: Path) -> None:
    path = write(tmp_path / "good.zip", pack(GOOD))
    assert unpack(path) == GOOD
    assert pack(dict(reversed(GOOD.items()))) == path.read_bytes()
    with zipfile.ZipFile(path) as other:
        assert other.testzip() is None
        assert {name: other.read(name) for name in other.namelist()} == GOOD


@pytest.mark.parametrize(
    "make", [lambda p: p / "none.zip", lambda p: p], ids=["missing", "a folder"]
)
def test_nothing_there(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such bundle"):
        unpack(make(tmp_path))


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "good.zip", pack(GOOD))
    monkeypatch.setattr(archive, "MAX_BYTES", 50)
    with pytest.raises(UnsafeArtifactError, match="larger than"):
        unpack(path)
    with pytest.raises(RunError, match="smaller suite"):
        pack(GOOD)


def test_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "good.zip", pack(GOOD))
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    with pytest.raises(UnsafeArtifactError, match="4 members, more than 3"):
        unpack(path)
