"""A tiny suite run in this process and bundled, and bundles forged from it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl

from aisec_eval import _files, load_run
from aisec_eval.leaderboard import contents, rows
from aisec_eval.leaderboard.aggregate import aggregate
from aisec_eval.leaderboard.archive import pack, unpack
from aisec_eval.leaderboard.lock import read_lock
from aisec_eval.leaderboard.statement import NAME, statement
from aisec_eval.suite import load_suite
from aisec_eval.suite.execute_shard import execute_shard
from aisec_eval.suite.identity import canonical
from aisec_eval.suite.merge import merge
from aisec_eval.suite.plan import make_plan
from aisec_eval.suite.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aisec_eval.results import Run

Members = dict[str, bytes]


def run_here(suite: Path, folder: Path) -> Run:
    """Run a suite without worker processes."""
    plan, store = make_plan(load_suite(suite)), Store(folder)
    store.prepare()
    for shard in plan.shards:
        store.write(shard, execute_shard(shard))
    merge(plan, store, {})
    store.clean()
    return load_run(folder)


def edit_rows(members: Members, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Members:
    """Rewrite `results.parquet`."""
    frame = change(pl.read_parquet(io.BytesIO(members["results.parquet"])))
    return members | {"results.parquet": _files.parquet_bytes(frame)}


def reseal(members: Members, home: Path, *, recompute: bool = True) -> Members:
    """Make everything that can be recomputed fit the members, as a clever liar would."""
    lock = read_lock(members["suite.lock.json"])
    run = contents.restore(members, lock, home)
    summary = aggregate(lock, contents.evaluations(run), contents.scans(run))
    if recompute:
        members = members | {"aggregate.json": canonical(summary)}
    tree = rows.root(contents.evaluations(run))
    return members | {NAME: canonical(statement(members, lock, summary, *tree))}


def forge(bundle: Path, out: Path, change: Callable[[Members], Members]) -> Path:
    """Write a bundle whose members were changed and whose digests fit again."""
    members = reseal(change(unpack(bundle)), out.with_suffix(".run"))
    out.write_bytes(pack(members))
    return out
