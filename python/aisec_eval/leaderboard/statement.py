"""`statement.json`: an in-toto Statement v1 that names every file and what they say together.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ..suite.gate import parse_gate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .lock import Lock

NAME = "statement.json"
TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:aisec-eval:eval-result:v1"


def subjects(members: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return name and SHA-256 of every member but the statement itself."""
    return [
        {"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
        for name, data in sorted(members.items())
        if name != NAME
    ]


def statement(
    members: Mapping[str, bytes], lock: Lock, aggregate: Mapping[str, Any], root: str, leaves: int
) -> dict[str, Any]:
    """Return the statement about a bundle.

    Args:
        members: the bundle's files.
        lock: the resolved suite.
        aggregate: the content of `aggregate.json`.
        root: Merkle root over the rows.
        leaves: number of rows.
    """
    sizes = {cell.where: cell.rows for cell in lock.cells}
    return {
        "_type": TYPE,
        "subject": subjects(members),
        "predicateType": PREDICATE,
        "predicate": {
            "suite": {"name": lock.suite.name, "version": lock.suite.version, "id": lock.id},
            "harness": {"name": "aisec_eval", "digest": lock.engine},
            "models": [{"name": m.id, "digest": m.digest} for m in lock.models],
            "datasets": [{"name": d.id, "digest": d.digest} for d in lock.data],
            "gates": [
                {
                    "metric": gate["gate"],
                    "comparator": parse_gate(gate["gate"], gate["claim"]).comparison,
                    "threshold": str(parse_gate(gate["gate"], gate["claim"]).threshold),
                    "where": gate["where"],
                    "passed": gate["passed"],
                    "sampleSize": sizes.get(gate["where"], 0),
                }
                for gate in aggregate["gates"]
            ],
            "samples": {"hash": "RFC 6962, SHA-256", "leaves": leaves, "root": root},
        },
    }
