"""Attacks: they look for a perturbation that changes the verdict."""

from . import poisoning
from ._attack import attack
from .apgd import APGD, APGDT
from .base import Attack, Found, Problem
from .carlini_wagner import CarliniWagner
from .corruptions import CommonCorruptions
from .ddn import DDN
from .deepfool import DeepFool
from .evolution import Evolution
from .fab import FAB, FABT
from .fmn import FMN
from .hop_skip_jump import HopSkipJump
from .min_norm import Nearest, nearest
from .rays import RayS
from .sigma_zero import SigmaZero
from .sparse_rs import SparseRS
from .spatial import SpatialGrid, WorstOfK
from .square import Square
from .target import Target
from .transfer import Transfer

__all__ = [
    "APGD",
    "APGDT",
    "DDN",
    "FAB",
    "FABT",
    "FMN",
    "Attack",
    "CarliniWagner",
    "CommonCorruptions",
    "DeepFool",
    "Evolution",
    "Found",
    "HopSkipJump",
    "Nearest",
    "Problem",
    "RayS",
    "SigmaZero",
    "SparseRS",
    "SpatialGrid",
    "Square",
    "Target",
    "Transfer",
    "WorstOfK",
    "attack",
    "nearest",
    "poisoning",
]
