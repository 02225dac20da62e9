"""Suites: a TOML file of models x datasets x threat models x methods, planned, run and resumed.

`load` checks the file, `plan` cuts it into shards named by the hash of their inputs, an executor
(`local`, `ray_executor`) has each one computed and put into the `store`, `merge` joins them into a
run folder. Names load when first used: a worker process needs neither pydantic nor the planner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ensemble import Ensemble, load_votes, train_votes
    from .load import load_suite
    from .runner import Interrupted, run
    from .spec import Suite

__all__ = [
    "Ensemble",
    "Interrupted",
    "Suite",
    "load_suite",
    "load_votes",
    "run",
    "train_votes",
]

_HOME = {
    "Ensemble": "ensemble",
    "Interrupted": "runner",
    "Suite": "spec",
    "load_suite": "load",
    "load_votes": "ensemble",
    "run": "runner",
    "train_votes": "ensemble",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
