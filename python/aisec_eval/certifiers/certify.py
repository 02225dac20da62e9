"""certify(): which samples no perturbation in the threat model can change, with certificates."""

from __future__ import annotations

import math
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from .._validate import check_count, check_range, check_samples
from ..errors import CapabilityError, InputError
from ..results import CertifyResult
from ..threats import L0, ThreatModel, Transformation
from .alpha_crown import AlphaCROWN
from .attacking import broken
from .certificate import Ball, Certificate
from .complete import Complete
from .crown import CROWN
from .crown_ibp import CROWNIBP
from .ibp import IBP
from .radius import bracket_radii, check_threat
from .region import Regions, describe
from .smoothing import Smoothing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from aisec_eval._core import Graph

    from .._validate import Samples
    from ..models.base import Model
    from .base import Certifier

METHODS: Mapping[str, Certifier] = MappingProxyType(
    {
        "ibp": IBP(),
        "crown-ibp": CROWNIBP(),
        "crown": CROWN(),
        "alpha-crown": AlphaCROWN(),
        "complete": Complete(),
    }
)
"""Certifiers by the name `certify(method=...)` takes."""

_FEW = 32
"""Classes up to which the margins of every label are kept."""
_BLOCK = 64
"""Samples a native call bounds when memory does not ask for fewer: progress moves between."""


def certify(
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    threat: ThreatModel | Sequence[ThreatModel],
    *,
    method: str | Certifier | Smoothing = "crown",
    radius: bool = False,
    memory_limit: int | None = None,
    sample_ids: ArrayLike | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> CertifyResult:
    """Prove, for as many samples as possible, that no perturbation changes their label.

    A sample is certified when, for every other class, a sound lower bound of its margin over the
    whole threat model is above zero. Bounds hold for the network in real arithmetic: they are
    computed in float64 and every rounding error is taken off them.

    Args:
        model: a model that was lowered to the engine's graph.
        x: inputs, float32 [n, *input_shape], inside the threat model's range.
        y: labels, int [n], below `model.num_classes`.
        threat: `Linf`, `L2`, `L1` or `Box`; or a sequence of n of one kind, one a sample, so that
            each has a radius or box of its own.
        method: "ibp", "crown-ibp", "crown", "alpha-crown", "complete" (up to 60 seconds a
            sample, see `certifiers.Complete`) or a certifier. With `Smoothing` it is not the model
            that is certified but its smoothed vote; any model will do, and the threat model is
            `L2`.
        radius: also bracket each sample's distance to the decision boundary, whatever the threat
            model's radius: `radius` from below by the method, to about 1 % or up to twelve radii
            a sample ("complete" takes 1.5 times its seconds besides), `radius_upper` from above by
            an attack. For `Linf`, `L2` and `L1`; smoothing gives radii always.
        memory_limit: bytes that working memory may take; bounds do not depend on it.
        sample_ids: distinct int [n]; 0..n-1 when None.
        progress: called with samples done, samples in all, and what is running.

    Returns:
        Verdicts, margins and certificates, one a sample in the order given.

    Raises:
        InputError: arrays, labels, memory limit or method do not fit; says what is expected.
        CapabilityError: the model has no graph; names the operator in the way. Or the threat
            model is `L0`.
    """
    threats = [threat] if isinstance(threat, ThreatModel) else _of_one_kind(threat)
    samples = check_samples(model, x, y, threats[0] if len(threats) == 1 else None, sample_ids)
    if isinstance(threat, ThreatModel):
        threats *= len(samples)
    elif len(threats) != len(samples):
        raise InputError(f"there are {len(threats)} threat models for {len(samples)} samples")
    if memory_limit is not None:
        check_count("memory_limit", memory_limit)
    if isinstance(method, Smoothing):
        if not isinstance(threat, ThreatModel):
            raise InputError("smoothing takes one threat model for all samples, not a sequence")
        return method.certify(model, samples, threat, memory_limit=memory_limit, progress=progress)
    certifier = _certifier(method)
    graph = _certifiable(model, threats[0])
    _check_each(samples, threats, radius=radius)
    n, classes = len(samples), model.num_classes
    margins, clean = np.full((n, classes - 1), -np.inf), np.zeros(n)
    correct = np.zeros(n, dtype=np.bool_)
    why = [""] * n
    points: dict[int, NDArray[np.float32]] = {}
    block = _block(graph, classes, memory_limit)
    for start in range(0, n, block):
        part = slice(start, min(start + block, n))
        logits = model.logits(samples.x[part])
        correct[part] = logits.argmax(axis=1) == samples.y[part]
        rows = np.flatnonzero(correct[part]) + start
        if len(rows):
            each = [threats[row] for row in rows]
            regions = Regions.around(
                samples.x[rows], threat if isinstance(threat, ThreatModel) else each
            )
            spec = margin_spec(samples.y[rows], classes)
            if radius:
                clean[rows] = (spec @ logits[rows - start, :, None]).min(
                    axis=(1, 2), initial=np.inf
                )
            if isinstance(certifier, Complete):
                explained = certifier.explain(
                    graph,
                    regions,
                    spec,
                    memory_limit=memory_limit,
                    broken=_attack(graph, samples.take(rows), each),
                    progress=_counted(progress, start, n, certifier.name),
                )
                found = explained.bounds
                for row, reason in zip(rows.tolist(), explained.why, strict=True):
                    why[row] = reason
                for at, point in explained.points.items():
                    points[int(rows[at])] = point.astype(np.float32)
            else:
                found = certifier.lower_bounds(graph, regions, spec, memory_limit=memory_limit)
            margins[rows] = found
        if progress is not None:
            progress(part.stop, n, certifier.name)
    margin = margins.min(axis=1, initial=np.inf)
    # A comparison with NaN is false, and a bound that is not finite proves nothing.
    certified = correct & (margins > 0.0).all(axis=1) & np.isfinite(margins).all(axis=1)
    reach = upper = None
    if radius:
        rows = np.flatnonzero(correct)
        reach, upper = np.zeros(n), np.zeros(n)
        if len(rows):
            radii = bracket_radii(
                certifier,
                graph,
                samples.take(rows),
                margin_spec(samples.y[rows], classes),
                [threats[row] for row in rows],
                margin[rows],
                clean=clean[rows],
                block=block,
                memory_limit=memory_limit,
                progress=progress,
            )
            reach[rows], upper[rows] = radii.certified, radii.upper
    return CertifyResult(
        sample=samples.ids,
        label=samples.y,
        certified=certified,
        margin_lower=np.where(correct, margin, -np.inf),
        margins_lower=margins,
        certificate=_certificates(certifier.name, graph, threats, samples, certified, margins),
        method=certifier.name,
        reason=tuple(map(_reason, correct, certified, margin, why)),
        radius=reach,
        radius_upper=upper,
        counterexamples=points,
    )


def margin_spec(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return the rows `z_y - z_i` for each other class i ascending, float64 [n, K - 1, K]."""
    if classes <= _FEW:
        return _specs(classes)[labels]
    return _spec(labels, classes)


@lru_cache(maxsize=_FEW)
def _specs(classes: int) -> NDArray[np.float64]:
    """Return the rows of every label."""
    return _spec(np.arange(classes), classes)


def _spec(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    n, samples, rows = len(labels), np.arange(len(labels)), np.arange(classes - 1)
    spec = np.zeros((n, classes - 1, classes))
    spec[samples[:, None], rows, rows + (rows >= labels[:, None])] = -1.0
    spec[samples, :, labels] = 1.0
    return spec


def _of_one_kind(threats: Sequence[ThreatModel]) -> list[ThreatModel]:
    each = list(threats)
    kinds = sorted({type(one).__name__ for one in each})
    if len(kinds) != 1 or not isinstance(each[0], ThreatModel):
        raise InputError(
            f"a sequence of threat models must be of one kind, one a sample; this holds {kinds}"
        )
    return each


def _certifiable(model: Model, threat: ThreatModel) -> Graph:
    """Return the model's graph; refuse what certifiers do not cover."""
    if isinstance(threat, Transformation):
        raise CapabilityError(
            f"certifiers do not cover {threat.norm}: it is no region around the input; attack only"
        )
    if threat.constraint is not None:
        raise CapabilityError(f"certifiers do not cover {threat.norm} threat models; attack only")
    if isinstance(threat, L0):
        raise CapabilityError("certifiers do not cover L0; use certify=None, or another norm")
    if model.graph is None:
        obstacle = model.report.not_certifiable or "it was not lowered to the engine's graph"
        raise CapabilityError(
            f"model {model.name!r} is not certifiable: {obstacle}; attacks still work on it"
        )
    return model.graph


def _check_each(samples: Samples, threats: Sequence[ThreatModel], *, radius: bool) -> None:
    if radius:
        check_threat(threats[0])
        if len({threat.bounds for threat in threats}) > 1:
            raise InputError("radius=True needs threat models of one input range")
    if any(threat is not threats[0] for threat in threats):
        for row, threat in enumerate(threats):
            check_range(samples.x[row : row + 1], threat)


def _attack(
    graph: Graph, samples: Samples, threats: Sequence[ThreatModel]
) -> Callable[[NDArray[np.int64]], Mapping[int, NDArray[np.float32]]]:
    return lambda rows: broken(graph, samples.take(rows), [threats[row] for row in rows])


def _counted(
    progress: Callable[[int, int, str], None] | None, start: int, total: int, note: str
) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(start + done, total, note)


def _certifier(method: str | Certifier) -> Certifier:
    if not isinstance(method, str):
        if hasattr(method, "lower_bounds") and hasattr(method, "name"):
            return method
        raise InputError(f"method={method!r} is neither a name nor a certifier")
    if method not in METHODS:
        raise InputError(f"method={method!r} is not known; there are {', '.join(METHODS)}")
    return METHODS[method]


def _block(graph: Graph, classes: int, memory_limit: int | None) -> int:
    """Return how many samples to bound in one call, within a quarter of the limit."""
    if memory_limit is None:
        return _BLOCK
    # Float64: the region's arrays, bounds and lines of every node, the specification.
    nodes = sum(math.prod(graph.node_shape(node)) for node in range(graph.num_nodes))
    held = 8 * (6 * math.prod(graph.input_shape) + 8 * nodes + 2 * classes * classes)
    return max(1, min(_BLOCK, memory_limit // 4 // held))


def _certificates(
    method: str,
    graph: Graph,
    threats: Sequence[ThreatModel],
    samples: Samples,
    certified: NDArray[np.bool_],
    margins: NDArray[np.float64],
) -> tuple[Certificate | None, ...]:
    digest = graph.digest
    unlike = {id(threat): threat for threat in threats}  # most often one for all
    described = {key: describe(threat) for key, threat in unlike.items()}
    certificates: list[Certificate | None] = [None] * len(samples)
    for row in np.flatnonzero(certified).tolist():
        threat, label, bounds = threats[row], int(samples.y[row]), margins[row]
        about = {
            "method": method,
            "graph": digest,
            "region": described[id(threat)],
            "label": label,
            "margins_lower": [bound.hex() for bound in bounds.tolist()],
        }
        ball = Ball(samples.x[row], label, threat, bounds, method)
        certificates[row] = Certificate(about, digest, (ball,))
    return tuple(certificates)


def _reason(correct: np.bool_, certified: np.bool_, margin: np.float64, why: str) -> str:
    if certified:
        return ""
    if not correct:
        return "misclassified"
    return why or ("bound" if np.isfinite(margin) else "not finite")
