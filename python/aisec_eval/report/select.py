"""What the report shows, picked from a run: entries, curves and the headline threat."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..bracket import Bracket
    from ..results import Evaluation, Run

_RADIUS = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)(?:/([0-9]{1,30}))?")


@dataclass(frozen=True)
class Entry:
    """One evaluation of the run and where it stands in it."""

    evaluation: Evaluation
    data: str
    """Dataset id, empty where the run does not name one."""
    task: str

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What one curve is drawn for: model, digest, data, task."""
        return (self.evaluation.model, self.evaluation.model_digest, self.data, self.task)

    @property
    def norm(self) -> str:
        """Norm of the threat model, empty where the run does not say."""
        return str(_mapping(self.evaluation.info, "threat").get("norm", ""))

    @property
    def radius(self) -> float | None:
        """Radius of the threat model in input units; None for boxes and unreadable ones."""
        if self.norm in ("", "box"):
            return None
        return radius(_mapping(self.evaluation.info, "threat").get("eps"))

    @property
    def bounds(self) -> tuple[float, float]:
        """Input range, (0, 1) where the run does not say."""
        found = _mapping(self.evaluation.info, "threat").get("bounds")
        if (
            isinstance(found, (list, tuple))
            and len(found) == 2
            and all(isinstance(v, (int, float)) and abs(v) < 1e30 for v in found)
            and found[0] < found[1]
        ):
            return (float(found[0]), float(found[1]))
        return (0.0, 1.0)

    @property
    def bracket(self) -> Bracket:
        """The evaluation's bracket."""
        return self.evaluation.bracket


def entries(run: Run) -> list[Entry]:
    """List the run's evaluations with the dataset and task the manifest names for each."""
    names = run.manifest.get("evaluations")
    cells = run.manifest.get("cells")
    about: dict[str, Mapping[str, Any]] = {}
    for cell in cells if isinstance(cells, list) else ():
        if isinstance(cell, dict) and isinstance(cell.get("entry"), str):
            about[cell["entry"]] = cell
    found = []
    for index, evaluation in enumerate(run.evaluations):
        entry = names[index] if isinstance(names, list) and index < len(names) else None
        cell = about.get(entry, {}) if isinstance(entry, str) else {}
        found.append(Entry(evaluation, _text(cell, "data"), _text(cell, "task")))
    return found


def curves(found: Sequence[Entry]) -> dict[str, dict[tuple[str, ...], list[Entry]]]:
    """Group entries that have a radius: by norm, then by curve, each by ascending radius."""
    result: dict[str, dict[tuple[str, ...], list[Entry]]] = {}
    for entry in found:
        if entry.radius is not None:
            result.setdefault(entry.norm, {}).setdefault(entry.group, []).append(entry)
    for groups in result.values():
        for members in groups.values():
            members.sort(key=lambda entry: entry.radius or 0.0)
    return result


def headline(found: Sequence[Entry]) -> list[Entry]:
    """Pick the entries that answer the question in one look: one a model, under one threat model.

    With several models the threat model that separates their attacked accuracies most; with one
    the first that costs it half of its clean accuracy, else the strongest.
    """
    if not found:
        return []
    groups = list(dict.fromkeys(entry.group for entry in found))
    by_threat: dict[str, dict[tuple[str, ...], Entry]] = {}
    for entry in found:
        by_threat.setdefault(entry.evaluation.threat, {}).setdefault(entry.group, entry)
    shared = [members for members in by_threat.values() if len(members) == len(groups)]
    if not shared:
        return [next(entry for entry in found if entry.group == group) for group in groups]
    if len(groups) == 1:
        alone = [members[groups[0]] for members in shared]
        halved = (
            entry
            for entry in alone
            if entry.bracket.attacked <= entry.evaluation.clean_accuracy / 2
        )
        return [next(halved, min(alone, key=lambda entry: entry.bracket.attacked))]

    def spread(members: Mapping[tuple[str, ...], Entry]) -> float:
        attacked = [entry.bracket.attacked for entry in members.values()]
        return max(attacked) - min(attacked)

    chosen = max(shared, key=spread)
    return [chosen[group] for group in groups]


def radius(value: object) -> float | None:
    """Read a radius as the run folder spells it: a decimal or a ratio of short numbers."""
    match = _RADIUS.fullmatch(str(value))
    if match is None or (match[2] is not None and int(match[2]) == 0):
        return None
    return float(match[1]) / (int(match[2]) if match[2] else 1)


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""
