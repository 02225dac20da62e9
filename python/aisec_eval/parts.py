"""join(): one evaluation from those of its parts."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .attacks.judge import judge
from .cases import Cases
from .findings import merge
from .results import Spent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .results import Evaluation


def join(parts: Sequence[Evaluation]) -> Evaluation:
    """Join evaluations of parts of a set, made with `part=True`: rows in the order given.

    Flags are judged on the findings of all parts together, so that they are those of the set
    whatever the parts were. Where a part has none (as in a bundle) each part's flags are kept.

    Args:
        parts: at least one, of one model, threat model and choice of methods, sharing no sample.
    """
    first = parts[0]

    def rows(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    known = [part.findings for part in parts if part.findings is not None]
    findings = merge(known) if len(known) == len(parts) else None
    flags = tuple(dict.fromkeys(flag for part in parts for flag in part.flags))
    return replace(
        first,
        **{name: rows(name) for name in _ROWS},
        found_by=tuple(found for part in parts for found in part.found_by),
        evidence=tuple(kind for part in parts for kind in part.evidence),
        spent=Spent(
            *(
                np.concatenate([getattr(part.spent, counter.name) for part in parts])
                for counter in fields(Spent)
            )
        ),
        flags=flags if findings is None else judge(findings),
        findings=findings,
        transform=_join_transforms(parts),
        draws=_join_draws(parts),
        cases=_join_cases(parts),
    )


def _join_transforms(parts: Sequence[Evaluation]) -> tuple[str, ...]:
    if not any(part.transform for part in parts):
        return ()
    return tuple(each for part in parts for each in (part.transform or ("",) * len(part.verdict)))


def _join_draws(parts: Sequence[Evaluation]) -> NDArray[np.int64] | None:
    """Join draws; a part in which nothing showed that the model is randomised has none."""
    if all(part.draws is None for part in parts):
        return None
    none = (np.zeros(len(part.verdict), np.int64) for part in parts)
    return np.concatenate(
        [zero if part.draws is None else part.draws for part, zero in zip(parts, none, strict=True)]
    )


def _join_cases(parts: Sequence[Evaluation]) -> Cases | None:
    """Join the cases of parts; of a part that could not be evaluated none are known."""
    known = next((part.cases for part in parts if part.cases is not None), None)
    if known is None:
        return None
    all_ = [part.cases or Cases.unknown(known.names, len(part.verdict)) for part in parts]
    return Cases(known.names, np.concatenate([cases.correct for cases in all_]))


_ROWS = ("sample", "label", "verdict", "x_adv", "x_clean", "margin", "margin_lower", "distance")
