"""A small fabricated run with every kind of verdict, for tests that read runs.

The images are real digits; verdicts and margins are drawn from a seeded generator such that they
are consistent with each other and get worse as the radius grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aisec_eval.results import VERDICTS, Evaluation, Scan, ScanResult, Spent
from aisec_eval.runs import load_run, write_run
from aisec_eval.threats import L2, Linf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aisec_eval.results import Run
    from aisec_eval.threats import ThreatModel

THREATS: tuple[ThreatModel, ...] = (
    Linf("0.02"), Linf("0.05"), Linf("0.1"), Linf("0.2"), L2("0.25"), L2("0.5"),
)  # fmt: skip


def make_evaluation(
    model: str, threat: ThreatModel, *, samples: int = 40, seed: int = 0
) -> Evaluation:
    """Fabricate one evaluation of `samples` digits; verdicts worsen with the radius."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = (digits.images[:samples, None] / 16).astype(np.float32)
    label = digits.target[:samples].astype(np.int64)
    random = np.random.default_rng([seed, len(model)])
    strength = random.uniform(0.02, 0.4, samples)
    radius = float(threat.eps) / (1 if threat.norm == "linf" else 4)
    clean = strength > 0.03
    broken = clean & (strength < radius * 1.6)
    certified = clean & (strength > radius * 2.2)
    verdict = np.full(samples, VERDICTS.index("open"), dtype=np.int8)
    verdict[~clean] = VERDICTS.index("misclassified")
    verdict[broken] = VERDICTS.index("broken")
    verdict[certified] = VERDICTS.index("certified")
    rows = np.flatnonzero(broken)
    step = np.float32(radius) * np.sign(random.normal(size=x[rows].shape)).astype(np.float32)
    x_adv = np.clip(x[rows] + step, 0, 1).astype(np.float32)
    flat = (x_adv.astype(np.float64) - x[rows]).reshape(len(rows), x[0].size)
    distance = np.full(samples, np.nan)
    distance[rows] = (
        abs(flat).max(1, initial=0) if threat.norm == "linf" else np.sqrt((flat**2).sum(1))
    )
    attacked = clean & ~certified
    by = np.where(random.random(samples) < 0.8, "APGD-CE", "Square")
    margin = np.where(clean, np.where(broken, -1, 1) * (0.1 + strength), -0.3 - strength)
    return Evaluation(
        sample=np.arange(samples, dtype=np.int64),
        label=label,
        verdict=verdict,
        x_adv=x_adv,
        x_clean=x[rows],
        margin=margin,
        margin_lower=np.where(certified, strength - radius * 2.1, -5 * radius),
        distance=distance,
        found_by=tuple(
            str(by[i]) if broken[i] else "crown" if certified[i] else "" for i in range(samples)
        ),
        spent=Spent(
            forwards=np.where(clean, 2, 1).astype(np.int64),
            gradients=np.where(attacked, np.where(broken, 17, 100), 0).astype(np.int64),
            queries=np.where(attacked & (by == "Square"), 800, 0).astype(np.int64),
        ),
        model=model,
        model_digest=f"{seed:064x}",
        threat=str(threat),
        flags=("fabricated: for tests of the report",),
        info={
            "threat": {"norm": threat.norm, "eps": str(threat.eps), "bounds": list(threat.bounds)},
            "attacks": "fast",
            "certify": "crown",
            "seed": seed,
        },
    )


def make_scan(*, samples: int = 200, seed: int = 0) -> Scan:
    """Fabricate a scan in which the planted samples mostly score highest."""
    random = np.random.default_rng(seed)
    poison = np.zeros(samples, dtype=np.bool_)
    poison[::20] = True
    score = random.chisquare(1, samples) + 9.0 * poison
    return Scan(
        data="digits with a planted patch",
        result=ScanResult(
            score=score,
            flagged=score > 8,
            p_value=np.exp(-score / 2),
            label=np.arange(samples, dtype=np.int64) % 10,
            method="spectral",
            classes=np.arange(10, dtype=np.int64),
            eigenvalues=np.linspace(3, 1, 10),
            info={"rate": None, "rule": "Benjamini-Hochberg at 0.01"},
        ),
        poison=poison,
    )


def make_run(
    folder: Path, *, models: Sequence[str] = ("standard", "robust"), errors: Sequence[str] = ()
) -> Run:
    """Write a fabricated suite run into `folder` and read it back."""
    write_run(
        folder,
        {"kind": "suite", "name": "fabricated", "version": "1.0.0", "seed": 0},
        [make_evaluation(m, t, seed=i) for i, m in enumerate(models) for t in THREATS],
        [make_scan()],
        errors,
    )
    return load_run(folder)
