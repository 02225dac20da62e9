"""Attacks: they look for a perturbation that changes the verdict."""

from ._attack import attack
from .apgd import APGD
from .base import Attack, Found, Problem
from .carlini_wagner import CarliniWagner
from .ddn import DDN
from .deepfool import DeepFool
from .fmn import FMN
from .min_norm import Nearest, nearest
from .sigma_zero import SigmaZero
from .square import Square
from .target import Target

__all__ = [
    "APGD",
    "DDN",
    "FMN",
    "Attack",
    "CarliniWagner",
    "DeepFool",
    "Found",
    "Nearest",
    "Problem",
    "SigmaZero",
    "Square",
    "Target",
    "attack",
    "nearest",
]
