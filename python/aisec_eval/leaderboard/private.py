"""What a bundle must not carry: paths of somebody's home, names of machines, keys."""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGES = ("jax", "jaxlib", "numpy", "onnx", "polars", "ray")
_SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    rb"|\bglpat-[A-Za-z0-9_-]{20}\b|\bxox[abprs]-[A-Za-z0-9-]{20}|\bhf_[A-Za-z]{34}\b"
    rb"|\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32}"
)
_PATHS = re.compile(rb"(?:/home/|/Users/|/root/|/tmp/|[A-Za-z]:\\Users\\)[\x21-\x7e]+")


def environment() -> dict[str, Any]:
    """Return what the bundle was made with: versions and kind of machine, no names."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def refuse_private(members: Mapping[str, bytes]) -> None:
    """Look through everything that is to be published.

    Raises:
        RunError: a member holds an absolute path, a key, or this machine's or user's own name for
            something; says which and where.
    """
    own = _own()
    for name, data in members.items():
        for pattern, what in ((_SECRETS, "a key"), (_PATHS, "a path of a machine"), own):
            found = pattern.search(data)
            if found is not None:
                shown = "" if what == "a key" else f' "{found[0][:60].decode(errors="replace")}"'
                raise RunError(
                    f"not bundled: {name} holds {what}{shown}; a bundle is published, "
                    "so remove it (models: export them without doc strings)"
                )


def _own() -> tuple[re.Pattern[bytes], str]:
    """A pattern of this machine's home and working folder and of its name, where they are long."""
    names = {str(Path.home()), os.getcwd(), socket.getfqdn()}
    words = [re.escape(name.encode()) for name in names if len(name) > 8]
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = ""
    words += [rb"[/\\]" + re.escape(user.encode()) + rb"[/\\]"] if len(user) > 2 else []
    return re.compile(b"|".join(words) or rb"(?!)"), "a name of this machine"
