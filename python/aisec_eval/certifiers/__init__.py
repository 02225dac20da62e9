"""Certifiers prove samples safe: bounds that hold for every perturbation, in real arithmetic."""

from __future__ import annotations

from .base import Certifier
from .certify import METHODS, certify
from .crown import CROWN
from .ibp import IBP
from .region import Regions

__all__ = ["CROWN", "IBP", "METHODS", "Certifier", "Regions", "certify"]
