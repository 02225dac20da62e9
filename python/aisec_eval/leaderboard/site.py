"""The site: static pages from checked bundles, that open from disk and load nothing from elsewhere.

```
index.html               a table a track, with the report of each bundle a link away
leaderboard.json         the same numbers
bundles/<digest>.html    the report of a bundle
```
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _files
from ..errors import RunError
from ..report import html, write_report
from ..report.document import asset, document, promise
from ..report.html import Element, el, name
from ..report.tables import badge, bar, cell, legend, table
from ..report.words import NONE, between, count, percent, plural
from .board import Board, Row, Track
from .check import LEVELS, MEANING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .check import BundleCheck

DIGITS = 32
"""Hexadecimal digits of a bundle's digest that name its page."""


def build_site(checks: Iterable[BundleCheck], out: str | Path) -> Path:
    """Write the leaderboard of checked bundles.

    The same bundles in any order give the same bytes. Bundles are taken one at a time, so the
    checks may be made as they are asked for.

    Args:
        checks: what `check_bundle` said; all of them must hold.
        out: the folder; an older site in it is replaced.

    Returns:
        The path of `index.html`.

    Raises:
        RunError: no bundle, one that does not hold, or the folder cannot be written.
    """
    folder, board, seen = Path(out), Board(), dict[str, str]()
    for check in checks:
        if not check.holds or check.run is None:
            reason = check.failures[0] if check.failures else "not read"
            raise RunError(f"{check.path}: does not hold ({reason}); leave it out")
        if check.digest in seen:
            continue
        seen[check.digest] = page_name(check.digest)
        write_report(check.run, folder / seen[check.digest])
        board.add(check)
    if not seen:
        raise RunError("no bundles; give at least one that holds")
    tracks = board.tracks()
    _files.write_json(folder / "leaderboard.json", as_json(tracks))
    index = _files.write_bytes(folder / "index.html", page(tracks).encode())
    _forget(folder / "bundles", {Path(name).name for name in seen.values()})
    return index


def page_name(digest: str) -> str:
    """Return where the report of a bundle is, relative to the index."""
    return f"bundles/{digest[:DIGITS]}.html"


def _forget(folder: Path, keep: set[str]) -> None:
    """Remove pages of bundles that an older site had."""
    with _files._write_errors(folder):
        for old in folder.iterdir():
            if re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}\.html", old.name) and old.name not in keep:
                old.unlink()


def page(tracks: Sequence[Track]) -> str:
    """Return the index as text."""
    code = (files(__package__) / "site.js").read_text(encoding="utf-8")
    models = {row.evaluation.model_digest for found in tracks for row in found.rows}
    bundles = {source.digest for found in tracks for row in found.rows for source in row.sources}
    return document(
        "Robustness leaderboard",
        [
            el(
                "header",
                el("p", "Leaderboard", class_="eyebrow"),
                el("h1", "How often can an attacker win?"),
                el(
                    "p",
                    f"{plural(len(models), 'model')}, {plural(len(tracks), 'track')}, "
                    f"{plural(len(bundles), 'bundle')}. Every number was computed again from "
                    "the evidence in its bundle.",
                    class_="lead",
                ),
                el("nav", id="tracks", aria_label="Tracks"),
            ),
            el(
                "main",
                el("section", legend(), _reading(), id="reading"),
                [_track(index, found) for index, found in enumerate(tracks)],
            ),
            el(
                "footer",
                el("p", "Written by aisec_eval. ", promise()),
                el("p", el("a", "The same as JSON", href="leaderboard.json")),
            ),
        ],
        [html.script(asset("tables.js") + code)],
    )


def _reading() -> Element:
    return el(
        "details",
        el("summary", "How to read this"),
        el(
            "p",
            "A class is one more than the number of models that are surely ahead: by the exact "
            "McNemar test on the same samples, whatever the open ones turn out to be, at 5 % for "
            "all pairs of a table together. Models of one class cannot be told apart.",
        ),
        el(
            "p",
            "Open samples withstood the attacks that were run. Nothing checked here shows that "
            "they withstand others.",
        ),
        el(
            "dl",
            [(el("dt", level), el("dd", _done(level))) for level in LEVELS],
            class_="facts",
        ),
    )


def _done(level: str) -> str:
    said = {
        "L0": "whole: structure, digests, Merkle root",
        "L1": "and every accuracy, interval and gate recomputed from the rows",
        "L2": "and every adversarial example replayed; claims that need the data stand unchecked",
        "L2+": "and on the data itself: clean verdicts compared, bounds proven again by the "
        "engine's own certifier. Only this level is ranked",
    }
    return said[level]


def _track(index: int, found: Track) -> Element:
    title = _title(found)
    several = len({row.evaluation.model for row in found.rows}) < len(found.rows)
    return el(
        "section",
        el("h2", name(title)),
        table(
            "Models, those that are surely ahead first",
            ["Class", "Model", "Bracket", "Checked"],
            [_row(row, several) for row in found.rows],
            numeric=["Robust accuracy", "95 % interval", "Clean", "Open", "Flags", "Report"],
        ),
        id=f"track-{index}",
        class_="track",
        data_title=title,
    )


def _title(found: Track) -> str:
    return f"{found.rows[0].evaluation.threat} on {found.cell.data}, {found.cell.rows} samples"


def _row(row: Row, with_digest: bool) -> Element:
    e, bracket = row.evaluation, row.evaluation.bracket
    low, high = bracket.interval
    return el(
        "tr",
        cell(NONE if row.rank is None else row.rank, float(row.rank or 10**9), class_="main"),
        el(
            "th",
            name(e.model),
            [" ", el("small", el("code", e.model_digest[:8]))] if with_digest else None,
            scope="row",
            data_value=e.model,
        ),
        cell(bar(e), bracket.certified, class_="wide"),
        cell(_checked(row), float(LEVELS.index(row.level))),
        cell(between(bracket.certified, bracket.attacked), bracket.certified, class_="num main"),
        cell(between(low, high), low, class_="num"),
        cell(percent(e.clean_accuracy), e.clean_accuracy, class_="num"),
        cell(percent(bracket.open), bracket.open, class_="num"),
        cell(
            count(len(e.flags)),
            float(len(e.flags)),
            class_="num",
            title="; ".join(e.flags)[:1000] or None,
        ),
        cell([[_link(source.digest, source.suite), " "] for source in row.sources], class_="num"),
    )


def _checked(row: Row) -> Any:
    if row.conflict:
        return badge(False, "evidence disagrees")
    if row.rank is None:
        return el("span", row.level, title=MEANING[row.level])
    return el("span", badge(True, row.level), title=MEANING[row.level])


def _link(digest: str, suite: str) -> Element:
    return el("a", name(suite), href=page_name(digest), title=digest)


def as_json(tracks: Sequence[Track]) -> dict[str, Any]:
    """Return the board as plain values."""
    return {
        "schema": 1,
        "tracks": [
            {
                "track": found.key,
                "data": found.cell.data,
                "threat": None
                if found.cell.threat is None
                else found.cell.threat.model_dump(mode="json", exclude={"id"}),
                "samples": found.cell.rows,
                "models": [_plain(row) for row in found.rows],
            }
            for found in tracks
        ],
    }


def _plain(row: Row) -> dict[str, Any]:
    e = row.evaluation
    return {
        "class": row.rank,
        "model": e.model,
        "digest": e.model_digest,
        "level": row.level,
        "evidence_disagrees": row.conflict,
        "clean": e.clean_accuracy,
        "certified": e.bracket.certified,
        "attacked": e.bracket.attacked,
        "open": e.bracket.open,
        "interval": list(e.bracket.interval),
        "flags": list(e.flags),
        "bundles": [
            {"digest": source.digest, "suite": source.suite, "report": page_name(source.digest)}
            for source in row.sources
        ],
    }
