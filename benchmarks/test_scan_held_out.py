"""What `method="auto"` finds in data that none of its constants was chosen on.

Networks are trained: about ten minutes on two cores. The figures are reported, and of the worst of
them it is asserted that they are not worse than chance allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from scan_sets import CLEAN, PLANTED, Planted, features

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DRAWS = 4
"""Of each clean family."""
RESAMPLES = 100
ALARMS = 0.02
"""Datasets without poison that may be accused."""


@pytest.mark.parametrize("spec", PLANTED, ids=lambda spec: spec.name)
def test_planted(
    spec: Planted, reference: Path, benchmark: Any, report: Callable[[str], None]
) -> None:
    """One line: alarm, class named, TPR at 1 % FPR, rate, and how well the attack works."""
    given = features(spec, reference)
    result = benchmark.pedantic(lambda: ae.scan(given.x, given.y, method="auto"), rounds=1)
    info, poison = result.info, given.poison | given.wrong
    found = np.nan
    if given.poison.any():
        line = np.quantile(result.score[~poison], 0.99)
        found = float((result.score[given.poison] > line).mean())
    named = given.target in info["target_classes"] if given.target >= 0 else None
    report(
        f"{spec.name:44} attack {given.success:4.2f}  alarm {info['dataset']['poisoned']!s:5} "
        f"p {info['dataset']['p']:7.1e}  target named {named!s:5} ({info['target_classes']})  "
        f"TPR at 1 % {found:5.3f}  rate {info['rate']:.3f} {info['rate_interval']} of "
        f"{poison.mean():.3f}  by {'+'.join(info['alarming'])}"
    )
    if spec.attack == "none":
        assert not info["dataset"]["poisoned"]
    if given.target < 0 and not given.poison.any():
        assert not info["target_classes"]


def test_clean_families(benchmark: Any, report: Callable[[str], None]) -> None:
    """Alarms among odd clean sets."""
    alarms: list[str] = []

    def run() -> None:
        for name, family in CLEAN.items():
            for draw in range(DRAWS):
                x, y = family(np.random.default_rng([draw, 7]))
                if ae.scan(x, y, method="auto").info["dataset"]["poisoned"]:
                    alarms.append(f"{name} #{draw}")

    benchmark.pedantic(run, rounds=1)
    count = DRAWS * len(CLEAN)
    report(f"clean families: {len(alarms)} alarms on {count} sets {alarms}")
    assert len(alarms) <= ALARMS * count


def test_clean_resamples(reference: Path, benchmark: Any, report: Callable[[str], None]) -> None:
    """Alarms among halves and bootstrap samples of the clean reference features."""
    with np.load(reference / "poison" / "mnist_clean_0.npz") as data:
        x, y = data["features"].astype(np.float32), data["labels"].astype(np.int64)
    alarms: list[int] = []

    def run() -> None:
        for draw in range(RESAMPLES):
            random = np.random.default_rng([2026, draw])
            half = random.permutation(len(y))[: len(y) // 2]
            rows = half if draw % 2 else random.integers(0, len(y), len(y))
            if ae.scan(x[rows], y[rows], method="auto").info["dataset"]["poisoned"]:
                alarms.append(draw)

    benchmark.pedantic(run, rounds=1)
    report(f"clean resamples: {len(alarms)} alarms of {RESAMPLES} {alarms}")
    assert len(alarms) <= ALARMS * RESAMPLES
