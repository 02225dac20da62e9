"""Native attacks that certifiers run: what they find, no bound needs to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..threats import L2, Box, Linf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from .._validate import Samples
    from ..threats import ThreatModel

_DESCENT = {"fmn": '{"steps": 100}'}
_NEAREST = {
    "linf": {"deepfool": "{}", **_DESCENT},
    "l2": {"deepfool": "{}", **_DESCENT},
    "l1": _DESCENT,
}
"""Minimum-norm attacks with their options: the nearest plane first, which descents may miss."""
_INSIDE = {"apgd-ce": '{"steps": 50}', "apgd-margin": '{"steps": 50}'}
"""Attacks on one radius, with their options."""
_LANE = 64
"""Samples that are attacked together."""


def broken(
    graph: Graph, samples: Samples, threats: Sequence[ThreatModel]
) -> dict[int, NDArray[np.float32]]:
    """Return adversarial examples, by row, that gradient attacks find and float64 confirms.

    Args:
        graph: the network.
        samples: n of them.
        threats: `Linf`, `L2`, `L1` or `Box`, one a sample.
    """
    from .._core import check_adversarial, search

    found: dict[int, NDArray[np.float32]] = {}
    groups: dict[ThreatModel, list[int]] = {}
    for row, threat in enumerate(threats):
        groups.setdefault(threat, []).append(row)
    for threat, rows in groups.items():
        low, high = (threat.lower, threat.upper) if isinstance(threat, Box) else threat.bounds
        region: dict[str, Any] = {"norm": threat.norm, "lower": low, "upper": high}
        region["eps"] = threat.eps_lower
        left = np.array(rows)
        for attack, options in _INSIDE.items():
            part = samples.take(left)
            examples, *_ = search(
                graph,
                part.x,
                part.y,
                part.ids,
                attack=attack,
                options=options,
                seed=0,
                restart=0,
                batch=_LANE,
                **region,
            )
            holds, *_ = check_adversarial(graph, part.x, examples, part.y, **region)
            found |= zip(left[holds].tolist(), examples[holds], strict=True)
            left = left[~holds]
            if len(left) == 0:
                break
    return found


def nearest(graph: Graph, samples: Samples, threat: ThreatModel) -> NDArray[np.float64]:
    """Return the distance of the nearest adversarial example the attacks find [n], or inf."""
    from .._core import check_adversarial, search

    low, high = threat.bounds
    region: dict[str, Any] = {"norm": threat.norm, "lower": low, "upper": high}
    widest = float(farthest(samples.x, threat).max())
    distances = np.full(len(samples), np.inf)
    for attack, options in _NEAREST[threat.norm].items():
        examples, *_ = search(
            graph,
            samples.x,
            samples.y,
            samples.ids,
            attack=attack,
            options=options,
            eps=widest,
            seed=0,
            restart=0,
            batch=_LANE,
            **region,
        )
        holds, _, distance, _ = check_adversarial(
            graph, samples.x, examples, samples.y, eps=np.inf, **region
        )
        distances = np.where(holds, np.minimum(distances, distance), distances)
    return distances


def farthest(x: NDArray[np.float32], threat: ThreatModel) -> NDArray[np.float64]:
    """Return the distance of the farthest point of the input range from each sample [n]."""
    low, high = threat.bounds
    wide = x.reshape(len(x), -1).astype(np.float64)
    reach = np.maximum(wide - low, high - wide)
    if isinstance(threat, Linf):
        return np.asarray(reach.max(axis=1))
    order = 2 if isinstance(threat, L2) else 1
    return np.asarray(np.linalg.norm(reach, ord=order, axis=1))
