"""Certifiers prove samples safe: bounds that hold for every perturbation, in real arithmetic."""

from __future__ import annotations

from .aggregation import VoteCertificates, certify_votes, spread
from .alpha_crown import AlphaCROWN
from .base import Certifier
from .certify import METHODS, certify
from .complete import Complete
from .crown import CROWN
from .crown_ibp import CROWNIBP
from .ibp import IBP
from .partition import Partition, partition
from .region import Regions
from .smoothing import Smoothing
from .vote_check import check_votes, save_radii

__all__ = [
    "CROWN",
    "CROWNIBP",
    "IBP",
    "METHODS",
    "AlphaCROWN",
    "Certifier",
    "Complete",
    "Partition",
    "Regions",
    "Smoothing",
    "VoteCertificates",
    "certify",
    "certify_votes",
    "check_votes",
    "partition",
    "save_radii",
    "spread",
]
