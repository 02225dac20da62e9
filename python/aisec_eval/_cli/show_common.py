"""How the tables of all verbs write shares, counts and accuracies under corruptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .console import line, table

if TYPE_CHECKING:
    from ..cases import Cases


def percent(value: float) -> str:
    """Write a fraction as a percentage."""
    return f"{100 * value:.1f} %"


def count(number: int) -> str:
    """Write a count in few characters: 950, 12.3k, 4.56M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def cases_json(cases: Cases) -> dict[str, Any]:
    """Return accuracies under corruptions as plain values."""
    accuracy = dict(zip(cases.names, cases.accuracy.tolist(), strict=True))
    return {"mean_accuracy": cases.mean_accuracy, "accuracy": accuracy}


def cases_table(title: str, cases: Cases) -> None:
    """Print accuracy by kind of corruption and severity."""
    frame = cases.table
    rows = [
        (row[0], *("" if value is None else percent(value) for value in row[1:]))
        for row in frame.iter_rows()
    ]
    table(title, tuple(frame.columns), rows)
    line(f"mean accuracy under corruptions: {percent(cases.mean_accuracy)}")
