"""AutoAttack: the ensembles that published robustness figures come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .apgd import APGD, APGDT
from .fab import FAB, FABT
from .square import Square

if TYPE_CHECKING:
    from ..threats import ThreatModel
    from .base import Attack

EOT = 20
"""Draws a randomised model is averaged over."""


def standard(threat: ThreatModel) -> tuple[Attack, ...]:
    """AutoAttack's standard version (Croce & Hein 2020, arXiv:2003.01690), step by step.

    APGD-CE, APGD-T and FAB-T towards 9 classes each, Square with 5000 queries; every stage only
    on the samples that are left. For L1 (2021, arXiv:2103.01208) APGD-CE has 5 restarts and
    APGD-T 5 classes, both beginning at larger radii. Budgets and constants are the reference
    implementation's. Different are only what decides nothing by design: every sample draws its
    own random numbers, a sample is left at its first success, and every success is re-checked.

    Models with two or three classes: see `APGD` and `APGDT`; runs towards classes that do not
    exist do nothing.
    """
    if threat.norm == "l1":
        first = APGD(restarts=5, large_radius=True), APGDT(targets=5, large_radius=True)
    else:
        first = APGD(), APGDT()
    return (*first, FABT(), Square())


def plus(threat: ThreatModel) -> tuple[Attack, ...]:
    """AutoAttack's longer version, for every norm the same.

    APGD-CE and APGD-DLR with 5 restarts each, untargeted FAB with 5 restarts, Square with 5000
    queries, APGD-T and FAB-T towards 9 classes.
    """
    del threat
    white_box = APGD(restarts=5), APGD(loss="dlr", restarts=5), FAB(restarts=5)
    return (*white_box, Square(), APGDT(), FABT())


def rand(threat: ThreatModel) -> tuple[Attack, ...]:
    """AutoAttack's version for randomised models: APGD-CE and APGD-DLR on expectations.

    Loss, gradient and success are those of the logits' mean over 20 draws, two standard errors
    clear of luck (the reference implementation averages gradients only and takes the last draw
    for the rest); broken is what further draws misclassify more often than not.
    """
    del threat
    return (APGD(eot=EOT), APGD(loss="dlr", eot=EOT))
