"""Findings: what diagnostics are judged on, counted so that a set may be evaluated in parts.

An evaluation, or a shard of one, gathers counts, tables and the samples with the smallest ids.
`merge` puts the findings of parts together, and the result is that of the whole whatever the
parts were. Thresholds are applied and sentences written afterwards, once (`attacks.judge`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

LEVELS = 64
"""Different margins that are told apart; with more of them outputs are not coarse."""
INPUTS = 4 * LEVELS + 1
"""Different inputs that are counted."""
PROBES = 16
"""Samples on which a suspicion is confirmed."""
REPEATS = 4
"""Samples that a model without graph is asked again about."""


@dataclass(frozen=True)
class Stage:
    """One run of an attack: what it was and how many samples it broke."""

    order: int
    """Its position among the runs of the evaluation."""
    name: str
    needs_gradient: bool
    broken: int
    loss: str = ""
    from_data: bool = False
    """Whether it starts at inputs of other classes."""
    from_model: bool = False
    """Whether it tries what another model is fooled by."""


@dataclass(frozen=True)
class Probe:
    """A sample that gradient attacks could not move, looked at again."""

    sample: int
    flat: bool
    """Whether its input gradient is zero everywhere."""
    stuck: bool
    """Whether gradients do not break it without a limit on the perturbation either."""


@dataclass(frozen=True)
class Repeat:
    """A clean input evaluated twice."""

    sample: int
    differs: bool


@dataclass(frozen=True)
class Fault:
    """Something that went wrong on some samples."""

    count: int
    sample: int
    """The smallest id among them."""
    text: str
    """What happened there, in one line."""


@dataclass(frozen=True)
class Findings:
    """Counts over the samples of an evaluation, or of a part of one."""

    notes: tuple[str, ...] = ()
    """What is true of the model and the attacks, whatever the samples."""
    classes: int = 0
    attacked: int = 0
    """Samples that attacks began on: classified correctly and not certified."""
    broken: int = 0
    fragile: int = 0
    """Broken ones whose margin is close to zero."""
    softmax: int = 0
    """Attacked samples whose clean outputs are a probability distribution."""
    saturated: int = 0
    """Attacked samples whose clean margin hides the gradient of cross-entropy."""
    open: int = 0
    """Attacked samples that withstood."""
    unfinished: int = 0
    """Those of them whose margin still fell at the end of every gradient attack."""
    stuck: int = 0
    """Attacked samples whose margin gradients hardly lowered."""
    probes: tuple[Probe, ...] = ()
    """Of the stuck samples those with the smallest ids, at most `PROBES`."""
    repeats: tuple[Repeat, ...] = ()
    """Of the attacked samples those with the smallest ids, at most `REPEATS`."""
    levels: tuple[float, ...] | None = ()
    """The different clean margins of attacked samples, None for more than `LEVELS`."""
    inputs: tuple[str, ...] | None = ()
    """Hashes of the different inputs they belong to, the `INPUTS` smallest; None with `levels`."""
    stages: tuple[Stage, ...] = ()
    refused: Mapping[str, Fault] = field(default_factory=dict)
    """Candidates that the re-check did not confirm, by attack."""
    uncertified: Mapping[str, Fault] = field(default_factory=dict)
    """Samples on which a certifier failed, by certifier."""
    contradicted: Mapping[str, Fault] = field(default_factory=dict)
    """Samples whose certified margin exceeds their clean one, by certifier."""
    crashed: Mapping[str, Fault] = field(default_factory=dict)
    """Samples on which the engine failed, by what it was doing."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Evaluations on which the model failed, by what happened."""
    errors: int = 0
    """Samples that could not be evaluated."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: the same for the same findings."""
        return asdict(self)

    @staticmethod
    def from_json(value: Any) -> Findings:
        """Read what `to_json` gave.

        Raises:
            ValueError: not that; the message names the field.
        """
        if not isinstance(value, Mapping) or set(value) != {f.name for f in fields(Findings)}:
            raise ValueError("findings: not those of this version")
        known: dict[str, Any] = {}
        for name, read in _READERS.items():
            try:
                known[name] = read(value[name])
            except (AttributeError, KeyError, TypeError, ValueError):
                raise ValueError(f"findings: {name} is not what it should be") from None
        return Findings(**known)


def merge(parts: Iterable[Findings]) -> Findings:
    """Put findings of parts that share no sample together; the order of the parts is free.

    Only `notes` are kept in the order they come in.
    """
    found = list(parts)
    if len(found) == 1:
        return found[0]

    def total(name: str) -> int:
        return sum(getattr(part, name) for part in found)

    def smallest(name: str, most: int) -> tuple[Any, ...]:
        rows = [row for part in found for row in getattr(part, name)]
        return tuple(sorted(rows, key=lambda row: row.sample)[:most])

    def faults(name: str) -> dict[str, Fault]:
        return join_faults(getattr(part, name) for part in found)

    levels, inputs = coarse((part.levels, part.inputs) for part in found)
    failures: dict[str, int] = {}
    for part in found:
        for message, count in part.failures.items():
            failures[message] = failures.get(message, 0) + count
    return Findings(
        notes=tuple(dict.fromkeys(note for part in found for note in part.notes)),
        classes=max((part.classes for part in found), default=0),
        **{name: total(name) for name in _COUNTS},
        probes=smallest("probes", PROBES),
        repeats=smallest("repeats", REPEATS),
        levels=levels,
        inputs=inputs,
        stages=_joined(stage for part in found for stage in part.stages),
        refused=faults("refused"),
        uncertified=faults("uncertified"),
        contradicted=faults("contradicted"),
        crashed=faults("crashed"),
        failures=dict(sorted(failures.items())),
    )


def coarse(
    parts: Iterable[tuple[Iterable[float] | None, Iterable[str] | None]],
) -> tuple[tuple[float, ...] | None, tuple[str, ...] | None]:
    """Return `levels` and `inputs` of parts put together."""
    levels: set[float] = set()
    inputs: set[str] = set()
    for margins, hashes in parts:
        if margins is None or hashes is None:
            return None, None
        levels.update(margins)
        if len(levels) > LEVELS:
            return None, None
        inputs.update(hashes)
    return tuple(sorted(levels)), tuple(sorted(inputs)[:INPUTS])


def join_faults(parts: Iterable[Mapping[str, Fault]]) -> dict[str, Fault]:
    """Add faults up.

    Of each kind the text of the smallest sample is kept, and of one sample's the first.
    """
    found: dict[str, Fault] = {}
    for part in parts:
        for kind, fault in part.items():
            known = found.get(kind)
            if known is None:
                found[kind] = fault
                continue
            first = fault if fault.sample < known.sample else known
            found[kind] = Fault(known.count + fault.count, first.sample, first.text)
    return dict(sorted(found.items()))


def _joined(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    found: dict[tuple[Any, ...], int] = {}
    for s in stages:
        key = (s.order, s.name, s.needs_gradient, s.loss, s.from_data, s.from_model)
        found[key] = found.get(key, 0) + s.broken
    return tuple(
        Stage(order, name, gradient, broken, loss, from_data, from_model)
        for (order, name, gradient, loss, from_data, from_model), broken in sorted(found.items())
    )


_COUNTS = (
    "attacked",
    "broken",
    "open",
    "fragile",
    "softmax",
    "saturated",
    "stuck",
    "unfinished",
    "errors",
)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if _whole(value) < 0:
        raise ValueError
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _real(value: Any) -> float:
    if not isinstance(value, float):
        raise TypeError
    return value


def _list(read: Any, most: int | None = None) -> Any:
    def several(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) > (most or len(value)):
            raise TypeError
        return tuple(read(item) for item in value)

    return several


def _optional(read: Any) -> Any:
    return lambda value: None if value is None else read(value)


def _table(read: Any) -> Any:
    return lambda value: {_text(key): read(item) for key, item in value.items()}


def _record(kind: type, **readers: Any) -> Any:
    def one(value: Any) -> Any:
        if set(value) != set(readers):
            raise ValueError
        return kind(**{name: read(value[name]) for name, read in readers.items()})

    return one


_FAULTS = _table(_record(Fault, count=_count, sample=_whole, text=_text))
_READERS: dict[str, Any] = {
    "notes": _list(_text),
    "classes": _count,
    **dict.fromkeys(_COUNTS, _count),
    "probes": _list(_record(Probe, sample=_whole, flat=_flag, stuck=_flag), PROBES),
    "repeats": _list(_record(Repeat, sample=_whole, differs=_flag), REPEATS),
    "levels": _optional(_list(_real, LEVELS)),
    "inputs": _optional(_list(_text, INPUTS)),
    "stages": _list(
        _record(
            Stage,
            order=_count,
            name=_text,
            needs_gradient=_flag,
            broken=_count,
            loss=_text,
            from_data=_flag,
            from_model=_flag,
        )
    ),
    **dict.fromkeys(("refused", "uncertified", "contradicted", "crashed"), _FAULTS),
    "failures": _table(_count),
}
