"""Where a run came from: suite, engine, models, data and settings, as the manifest has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .html import Element, el, name
from .tables import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..results import Run
    from .select import Entry

MAX_TEXT = 200_000
"""Characters of a JSON document that are shown; the whole is in the run folder."""


def facts(run: Run) -> dict[str, str]:
    """What a reader looks for first: suite, version, seed, engine, plan."""
    manifest = run.manifest
    suite, plan = _object(manifest, "suite") or manifest, _object(manifest, "plan")
    engine = _object(manifest, "engine") or _object(manifest, "versions")
    found = {
        "Kind": manifest.get("kind"),
        "Suite": suite.get("name"),
        "Suite version": suite.get("version"),
        "Seed": suite.get("seed"),
        **{f"Engine {key.replace('_', ' ')}": value for key, value in engine.items()},
        "Plan": plan.get("digest"),
        "Shards": plan.get("shards"),
        "Schema": manifest.get("schema"),
    }
    return {
        key: str(value)
        for key, value in found.items()
        if isinstance(value, (str, int, float)) and value != ""
    }


def section(run: Run, found: Sequence[Entry]) -> list[Element]:
    """Facts, models, data, the settings of each evaluation, and the manifest itself."""
    return [
        el(
            "dl",
            [(el("dt", key), el("dd", name(value))) for key, value in facts(run).items()],
            class_="facts",
        ),
        *_records(run.manifest.get("models"), "Models", ("id", "path", "digest")),
        *_records(run.manifest.get("data"), "Data", ("id", "source", "samples", "digest")),
        el(
            "details",
            el("summary", "Settings of each evaluation"),
            [
                el(
                    "div",
                    el("h3", name(entry.evaluation.model), " · ", name(entry.evaluation.threat)),
                    el("p", el("code", entry.evaluation.model_digest), class_="digest"),
                    el("pre", pretty(entry.evaluation.info)),
                )
                for entry in found
            ],
        ),
        el("details", el("summary", "Manifest"), el("pre", pretty(run.manifest))),
    ]


def pretty(value: Any) -> str:
    """Return a value as indented JSON, cut where it is very long."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n… cut here; the whole is in the run folder"


def _records(records: Any, caption: str, keys: Sequence[str]) -> list[Element]:
    rows = [
        el("tr", [el("td", name(str(record.get(key, ""))), class_=f"of-{key}") for key in keys])
        for record in (records if isinstance(records, list) else ())
        if isinstance(record, dict)
    ]
    return [table(caption, [key.capitalize() for key in keys], rows)] if rows else []


def _object(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
