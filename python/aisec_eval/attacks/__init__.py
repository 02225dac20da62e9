"""Attacks: they look for a perturbation that changes the verdict."""

from ._attack import attack
from .apgd import APGD
from .base import Attack, Found, Problem
from .square import Square
from .target import Target

__all__ = ["APGD", "Attack", "Found", "Problem", "Square", "Target", "attack"]
