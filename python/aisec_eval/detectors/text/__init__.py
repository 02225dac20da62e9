"""Texts: near-duplicates, exact duplicates of substrings, n-grams that trigger a label.

Every function reads its documents in batches and keeps in memory what it says; documents are
lists or arrays of str or bytes, polars columns, or files (see `documents`).
"""

from __future__ import annotations

from .documents import documents
from .duplicates import DuplicateSubstrings, duplicate_substrings
from .near import NearDuplicates, jaccard, near_duplicates
from .shards import merge_shards, write_shard
from .triggers import TriggerNgrams, trigger_ngrams

__all__ = [
    "DuplicateSubstrings",
    "NearDuplicates",
    "TriggerNgrams",
    "documents",
    "duplicate_substrings",
    "jaccard",
    "merge_shards",
    "near_duplicates",
    "trigger_ngrams",
    "write_shard",
]
