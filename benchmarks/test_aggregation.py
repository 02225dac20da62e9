"""Radii of voting ensembles beside one NumPy pass that counts the votes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from aisec_eval.certifiers import certify_votes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

InTurn: TypeAlias = "Callable[..., dict[str, float]]"


def test_dpa_radii(
    in_turn: InTurn, report: Callable[[str], None], benchmark: BenchmarkFixture
) -> None:
    samples, models, classes = 10_000, 1_200, 10
    random = np.random.default_rng(0)
    share = [0.55, *[0.05] * (classes - 1)]
    votes = random.choice(classes, size=(samples, models), p=share).astype(np.uint8)

    def count() -> None:
        for label in range(classes):
            (votes == label).sum(axis=1)

    spent = in_turn(
        {"dpa": lambda: certify_votes(votes, num_classes=classes), "numpy counts": count}
    )
    benchmark.extra_info.update(spent)
    report(
        f"DPA radii, {samples:,} samples x {models:,} models: {spent['dpa']:.3f} s; counting alone "
        f"in NumPy {spent['numpy counts']:.3f} s"
    )
    benchmark(lambda: certify_votes(votes, num_classes=classes))
    assert spent["dpa"] < spent["numpy counts"]
