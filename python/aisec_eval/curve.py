"""robustness_curve(): brackets at many radii for little more than the price of one.

An adversarial example within one radius is one for every larger radius, and a certificate for one
radius holds for every smaller one. Radii are therefore visited from the largest down: a sample is
attacked only where an adversarial example is known at the next larger radius and no certificate
covers the radius itself, and an adversarial example is first drawn towards the clean input by a
minimum-norm search, which often carries it below several radii at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _core
from ._validate import check_samples, check_seed
from .attacks import attack
from .attacks.base import FOUND, Problem
from .attacks.engine import run_native
from .attacks.fmn import FMN
from .attacks.judge import COMPARISONS
from .attacks.portfolio import DataStarts
from .attacks.registry import METHODS, resolve
from .attacks.replay import distances, margins, replay
from .attacks.target import Target
from .certifiers import METHODS as CERTIFIERS
from .certifiers import certify as run_certifier
from .errors import CapabilityError, InputError
from .results import (
    BROKEN,
    CERTIFIED,
    ERROR,
    MISCLASSIFIED,
    OPEN,
    VERDICTS,
    CurveResult,
    Spent,
)
from .threats import L1, L2, Linf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

    from ._validate import Samples
    from .attacks import Attack
    from .certifiers import Certifier
    from .models import Model
    from .threats import ThreatModel

_CODE = {verdict: np.int8(code) for code, verdict in enumerate(VERDICTS)}
_INWARD = FMN(steps=40)
"""Draws adversarial examples towards the clean input."""
_NORMS: dict[str, type[ThreatModel]] = {"linf": Linf, "l2": L2, "l1": L1}


def robustness_curve(
    model: Model,
    x: Any,
    y: Any,
    *,
    norm: Literal["linf", "l2", "l1"],
    eps: Iterable[float | int | str | Fraction],
    bounds: tuple[float, float] = (0.0, 1.0),
    attacks: str | Attack | Iterable[str | Attack] = "light",
    certify: str | Certifier | None = "crown",
    seed: int = 0,
    sample_ids: Any = None,
    batch_size: int | None = None,
    backend: Literal["auto", "native", "jax"] = "auto",
    memory_limit: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> CurveResult:
    """Say how often an attacker can win at each of several radii.

    Verdicts are monotone in the radius. A sample that the attacks could not break at one radius
    is not attacked at smaller ones. Every adversarial example was re-checked at each radius it
    counts for. On models with a native graph the result does not depend on order or batch.

    Args:
        model: as `load_model` returns it. A model without a graph is attacked, not certified, and
            a flag says so.
        x: inputs [n, *input_shape], float32 in `bounds`.
        y: integer labels [n].
        norm: of the perturbation.
        eps: distinct radii >= 0, in the units of `bounds`; the result has them ascending.
        bounds: input range.
        attacks: what `attack(method=...)` takes. "light" is "fast" without its long searches: on a
            curve nearly every failed attack is one just inside the boundary, where those spend
            most and change least.
        certify: "crown", "ibp", a certifier, or None to attack only.
        seed: of all random numbers, 0..2**64-1.
        sample_ids: distinct integers [n] that key the random numbers; 0..n-1 when None.
        batch_size: most samples evaluated together; 256 when None.
        backend: of attacks: "native", "jax" or "auto".
        memory_limit: bytes that one batch may take.
        progress: called as `progress(radii done, radii in all, note)`.

    Returns:
        One row of verdicts a radius, the nearest adversarial examples, and what was spent.

    Raises:
        InputError: arrays, radii or options do not fit; one line says which.
        CapabilityError: the model lacks what the attacks or the backend asked for need.
    """
    threats = _threats(norm, eps, bounds)
    samples = check_samples(model, x, y, threats[-1], sample_ids)
    if isinstance(attacks, Iterable) and not isinstance(attacks, str):
        attacks = tuple(attacks)
    resolve(attacks, threats[-1])
    if isinstance(certify, str) and certify not in CERTIFIERS:
        raise InputError(f"certify={certify!r} is unknown; choose one of {', '.join(CERTIFIERS)}")
    options: dict[str, Any] = {
        "method": attacks,
        "seed": check_seed(seed),
        "batch_size": batch_size,
        "backend": backend,
        "memory_limit": memory_limit,
    }
    target = Target.of(model, backend, batch_size=batch_size, memory_limit=memory_limit)
    curve = _Curve(target, samples, threats, options["seed"], progress)
    curve.check_clean()
    if certify is not None:
        curve.certify(certify, memory_limit)
    curve.attack(options)
    return curve.result()


def _threats(
    norm: str, eps: Iterable[float | int | str | Fraction], bounds: tuple[float, float]
) -> list[ThreatModel]:
    if norm not in _NORMS:
        raise InputError(f"norm={norm!r} is unknown; choose one of {', '.join(_NORMS)}")
    if isinstance(eps, str) or not isinstance(eps, Iterable):
        raise InputError(f'eps={eps!r} must be several radii, e.g. eps=["2/255", "4/255"]')
    threats = sorted((_NORMS[norm](e, bounds=bounds) for e in eps), key=lambda t: t.eps)
    if not threats:
        raise InputError("eps is empty; give at least one radius")
    for one, next_ in pairwise(threats):
        if one.eps == next_.eps:
            raise InputError(f"eps holds {one.label} twice; radii must be distinct")
    return threats


class _Curve:
    """What is known about every sample so far; radii are positions in ascending order."""

    def __init__(
        self,
        target: Target,
        samples: Samples,
        threats: Sequence[ThreatModel],
        seed: int,
        progress: Callable[[int, int, str], None] | None,
    ) -> None:
        n = len(samples)
        self.target = target
        self.seed = seed
        self.samples = samples
        self.threats = threats
        self.progress = progress
        self.decided = np.full(n, _CODE[OPEN])
        """misclassified, error, or open where the radius decides."""
        self.certified = np.zeros(n, np.int64)
        """How many of the smallest radii a certificate covers."""
        self.broken = np.full(n, len(threats))
        """The smallest radius with an adversarial example."""
        self.held = np.zeros(n, np.bool_)
        """Withstood an attack: smaller radii are not attacked."""
        self.x_adv = samples.x.copy()
        self.found_by = [""] * n
        self.spent = Spent.zeros(n)
        self.flags: dict[str, str] = {}
        """By code: the first of each."""
        self.compared = False

    def check_clean(self) -> None:
        logits = self.target.logits(self.samples.x)
        self.spent.forwards[:] += 1
        failed = np.isnan(margins(logits, self.samples.y))
        self.decided[logits.argmax(axis=1) != self.samples.y] = _CODE[MISCLASSIFIED]
        self.decided[failed] = _CODE[ERROR]

    def certify(self, method: str | Certifier, memory_limit: int | None) -> None:
        """Find the largest certified radius of every sample by bisection."""
        model = self.target.model
        if model.graph is None:
            why = model.report.not_certifiable or "no graph of it could be built"
            self.flags["not certifiable"] = f"not certifiable: {why}; attacked only"
            return
        open_ = self.decided == _CODE[OPEN]
        low = np.zeros(len(self.samples), np.int64)
        high = np.where(open_, len(self.threats), 0)
        while (rows := np.flatnonzero(low < high)).size:
            middle = (low + high) // 2
            for position in np.unique(middle[rows]):
                part = rows[middle[rows] == position]
                self._tell(0, f"certify: {self.threats[position]}")
                found = run_certifier(
                    model,
                    self.samples.x[part],
                    self.samples.y[part],
                    self.threats[position],
                    method=method,
                    memory_limit=memory_limit,
                    sample_ids=self.samples.ids[part],
                )
                low[part[found.certified]] = position + 1
                high[part[~found.certified]] = position
        self.certified = low

    def attack(self, options: dict[str, Any]) -> None:
        """Attack from the largest radius down."""
        for position in reversed(range(len(self.threats))):
            self._tell(len(self.threats) - 1 - position, f"attack: {self.threats[position]}")
            undecided = (self.decided == _CODE[OPEN]) & ~self.held & (position >= self.certified)
            rows = np.flatnonzero(undecided & (self.broken == position + 1))
            rows = rows[~self._draw_in(rows, position)]
            if len(rows) == 0:
                continue
            try:
                found = attack(
                    self.target.model,
                    self.samples.x[rows],
                    self.samples.y[rows],
                    self.threats[position],
                    sample_ids=self.samples.ids[rows],
                    **self._options(options, position),
                )
            except CapabilityError as error:
                # A general method was asked for: certificates are still worth having.
                if options["method"] not in METHODS or not self.certified.any():
                    raise
                self.flags["not attacked"] = f"not attacked: {error}"
                return
            self._merge(rows, found, position)
            if position > 0 and self._descends(options["method"]):
                self._come_back(rows[found.verdict == _CODE[BROKEN]], position)

    def _descends(self, method: Any) -> bool:
        """Whether adversarial examples are searched inwards: general methods, with gradients."""
        general = isinstance(method, str) and method in METHODS
        return general and _INWARD.unsupported(self.target, self.threats[0]) is None

    def _options(self, options: dict[str, Any], position: int) -> dict[str, Any]:
        """Leave out data starts where every sample has an adversarial example to start from."""
        method, threat = options["method"], self.threats[position]
        if position + 1 == len(self.threats) or not self._descends(method):
            return options
        stages = [
            stage
            for stage in resolve(method, threat)
            if not isinstance(stage, DataStarts) and stage.unsupported(self.target, threat) is None
        ]
        return {**options, "method": stages}

    def _come_back(self, rows: NDArray[np.int64], position: int) -> None:
        """Search from new adversarial examples towards the clean input; keep what is nearer."""
        if len(rows) == 0:
            return
        samples, norm = self.samples, self.threats[0].norm
        x, y, ids = samples.x[rows], samples.y[rows], samples.ids[rows]
        # The search ends within the smallest radius, and else at the nearest point.
        problem = Problem(x, y, ids, self.threats[0], self.seed)
        found = run_native(_INWARD, self.target, problem, 0, starts=self.x_adv[rows])
        for name in ("forwards", "gradients", "queries"):
            getattr(self.spent, name)[rows] += getattr(found, name)
        nearer = distances(x, found.x, norm) < distances(x, self.x_adv[rows], norm)
        near = np.flatnonzero((found.status == FOUND) & nearer)
        if len(near) == 0:
            return
        problem = Problem(x, y, ids, self.threats[position], self.seed).take(near)
        points = np.ascontiguousarray(found.x[near])
        checked = replay(self.target, problem, points)
        self.spent.forwards[rows[near]] += checked.forwards
        self.x_adv[rows[near[checked.confirmed]]] = points[checked.confirmed]

    def _merge(self, rows: NDArray[np.int64], found: Any, position: int) -> None:
        for name in ("forwards", "gradients", "queries"):
            getattr(self.spent, name)[rows] += getattr(found.spent, name)
        for flag in found.flags:
            code = flag.split(":")[0]
            # After the first attack the samples are chosen by what attacks did to them.
            if self.compared and code in COMPARISONS:
                continue
            self.flags.setdefault(code, flag)
        self.compared = True
        broken = found.verdict == _CODE[BROKEN]
        self.broken[rows[broken]] = position
        self.x_adv[rows[broken]] = found.x_adv[broken]
        for i in np.flatnonzero(broken):
            self.found_by[rows[i]] = found.found_by[i]
        self.held[rows[found.verdict == _CODE[OPEN]]] = True
        failed = rows[found.verdict == _CODE[ERROR]]
        self.held[failed] = True
        self.decided[failed] = _CODE[ERROR]

    def _draw_in(self, rows: NDArray[np.int64], position: int) -> NDArray[np.bool_]:
        """Project known adversarial examples onto a smaller ball; return which still are."""
        still = np.zeros(len(rows), np.bool_)
        known = np.flatnonzero(self.broken[rows] < len(self.threats))
        if len(known) == 0:
            return still
        part = rows[known]
        samples = self.samples
        problem = Problem(
            samples.x[part], samples.y[part], samples.ids[part], self.threats[position], 0
        )
        points = _core.project(problem.x, self.x_adv[part], **problem.region)
        logits = self.target.logits(points)
        self.spent.forwards[part] += 1
        hit = np.flatnonzero(margins(logits, problem.y) < 0)
        checked = replay(self.target, problem.take(hit), np.ascontiguousarray(points[hit]))
        self.spent.forwards[part[hit]] += checked.forwards
        hit = hit[checked.confirmed]
        self.broken[part[hit]] = position
        self.x_adv[part[hit]] = points[hit]
        still[known[hit]] = True
        return still

    def result(self) -> CurveResult:
        samples, k = self.samples, len(self.threats)
        at = np.arange(k)[:, None]
        verdict = np.broadcast_to(self.decided, (k, len(samples))).copy()
        verdict[at < self.certified] = _CODE[CERTIFIED]
        broken = (at >= self.broken) & (self.broken < k)
        verdict[broken] = _CODE[BROKEN]
        found = self.broken < k
        distance = np.full(len(samples), np.nan)
        if found.any():
            norm = self.threats[0].norm
            distance[found] = distances(samples.x[found], self.x_adv[found], norm)
        self._tell(k, "done")
        return CurveResult(
            sample=samples.ids,
            label=samples.y,
            norm=self.threats[0].norm,
            eps=tuple(threat.eps for threat in self.threats),
            labels=tuple(threat.label for threat in self.threats),
            verdict=verdict,
            x_adv=self.x_adv,
            distance=distance,
            found_by=tuple(self.found_by),
            spent=self.spent,
            flags=tuple(self.flags.values()),
        )

    def _tell(self, done: int, note: str) -> None:
        if self.progress is not None:
            self.progress(done, len(self.threats), note)
