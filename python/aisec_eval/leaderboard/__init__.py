"""Runs packed for others, their check, and the site that ranks them.

`bundle` packs a finished run into one file, `check_bundle` believes nothing in it, `build_site`
draws what was checked. Names load when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundle import bundle
    from .check import BundleCheck, check_bundle
    from .site import build_site

__all__ = ["BundleCheck", "build_site", "bundle", "check_bundle"]

_HOME = {"BundleCheck": "check", "build_site": "site", "bundle": "bundle", "check_bundle": "check"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
