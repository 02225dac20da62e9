"""Poisoning attacks: training sets with known poison, to test detectors and training methods.

Each attack is a frozen dataclass whose `poison(x, y, rate=..., seed=...)` returns a `Poisoned` set
with the truth about it. `measure` trains on it and says how often the attack succeeds; what does
not work is no test case (`Measurement.require`).
"""

from .badnets import BadNets
from .base import Poisoned, PoisoningAttack
from .blended import Blended
from .gradient_matching import GradientMatching
from .label_consistent import LabelConsistent
from .label_flip import LabelFlip
from .measure import Measurement, measure
from .network import Network, ReferenceTrainer
from .sig import SIG
from .wanet import WaNet

__all__ = [
    "SIG",
    "BadNets",
    "Blended",
    "GradientMatching",
    "LabelConsistent",
    "LabelFlip",
    "Measurement",
    "Network",
    "Poisoned",
    "PoisoningAttack",
    "ReferenceTrainer",
    "WaNet",
    "measure",
]
