"""Datasets that are lists of URLs: manifests of what was there, and checks of what is there now.

Whoever downloads such a dataset later may get something else than what was reviewed (split-view
poisoning: Carlini et al., "Poisoning web-scale training datasets is practical", 2024). A manifest
records hash, size, type and perceptual hash of everything, under one Merkle root that can be
signed; `verify` downloads again and says of each URL whether it is identical, similar or changed.
"""

from __future__ import annotations

from .build import build_manifest
from .fetch import Fetch
from .manifest import Manifest, load_manifest
from .merkle import check_inclusion, inclusion_proof, merkle_root
from .perceptual import perceptual_distance, perceptual_hash
from .verify import Verification, verify

__all__ = [
    "Fetch",
    "Manifest",
    "Verification",
    "build_manifest",
    "check_inclusion",
    "inclusion_proof",
    "load_manifest",
    "merkle_root",
    "perceptual_distance",
    "perceptual_hash",
    "verify",
]
