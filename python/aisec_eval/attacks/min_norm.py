"""What minimum-norm attacks share: their runs, and the search for the nearest example itself."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from .._validate import check_samples, check_seed
from ..errors import CapabilityError, InputError
from ..results import Spent
from ..threats import L0
from .base import FOUND, Found, Problem
from .engine import NativeAttack, run_native, search
from .replay import distances, margins, replay
from .starts import Pool
from .target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..models import Model
    from ..threats import ThreatModel


class MinimumNorm(NativeAttack):
    """An attack that looks for the nearest adversarial example; a frozen dataclass.

    Restart 0 begins at the clean input, restart r at the r-th nearest sample of another class
    that the model classifies correctly. In `attack` a sample is left as soon as an example within
    the radius is found; `nearest` goes on to the end.
    """

    minimum_norm: ClassVar[bool] = True

    @property
    def restarts(self) -> int:
        """The clean start and every data start."""
        return 1 + int(getattr(self, "starts", 0))

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        given = asdict(self)  # type: ignore[call-overload]
        return {name: value for name, value in given.items() if name != "starts"}

    def run(self, target: Target, problem: Problem, restart: int) -> Found:
        """Attack every sample of the problem once; one that lacks the start costs nothing."""
        return self._begin(search, target, problem, restart)

    def run_anywhere(self, target: Target, problem: Problem, restart: int) -> Found:
        """Like `run`, with the nearest examples wherever they lie."""
        return self._begin(run_native, target, problem, restart)

    def _begin(
        self, run: Callable[..., Found], target: Target, problem: Problem, restart: int
    ) -> Found:
        if restart == 0:
            return run(self, target, problem, restart)
        found = Found.nothing(problem)
        if problem.pool is None:
            return found
        starts = problem.pool.nearest(problem.x, problem.y, problem.threat.norm, self.restarts - 1)[
            :, restart - 1
        ]
        rows = np.flatnonzero(starts >= 0)
        if len(rows):
            part = run(
                self, target, problem.take(rows), restart, starts=problem.pool.x[starts[rows]]
            )
            for name in ("x", "margin", "status", "forwards", "gradients", "queries"):
                getattr(found, name)[rows] = getattr(part, name)
        return found


@dataclass(frozen=True)
class Nearest:
    """The nearest adversarial examples found, one row a sample, in the order given."""

    sample: NDArray[np.int64]
    """Sample ids [n]."""
    x_adv: NDArray[np.float32]
    """[n, *input_shape]; the clean input where none was found."""
    distance: NDArray[np.float64]
    """Norm of the perturbation [n]: 0 where misclassified as it is, inf where none was found."""
    restart: NDArray[np.int64]
    """The start that led there [n]: 0 clean, r the r-th nearest sample, -1 none needed or found."""
    spent: Spent


def nearest(
    model: Model,
    x: Any,
    y: Any,
    threat: ThreatModel,
    attack: MinimumNorm,
    *,
    pool: tuple[Any, Any] | None = None,
    seed: int = 0,
    sample_ids: Any = None,
    batch_size: int | None = None,
    backend: Literal["auto", "native", "jax"] = "auto",
    memory_limit: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Nearest:
    """Look for the nearest adversarial example of every sample.

    Every example was re-checked as those of `attack` are. On models with a native graph the
    result does not depend on batch size, order or threads, given the pool.

    Args:
        model: as `load_model` returns it.
        x: inputs [n, *input_shape], float32 in the threat model's bounds.
        y: integer labels [n].
        threat: norm and bounds; no sample is searched below `eps`: 0 for the very nearest.
        attack: e.g. `FMN()`.
        pool: inputs and labels of the samples that data starts are taken from; `x, y` when None.
        seed: of all random numbers, 0..2**64-1.
        sample_ids: distinct integers [n] that key the random numbers; 0..n-1 when None.
        batch_size: most samples evaluated together; 256 when None.
        backend: "native", "jax", or "auto".
        memory_limit: bytes; the batch is kept small enough, by estimate.
        progress: called as `progress(restarts done, restarts in all, note)`.

    Raises:
        InputError: arrays, threat model or options do not fit.
        CapabilityError: the attack cannot run on this model or norm.
    """
    samples = check_samples(model, x, y, threat, sample_ids)
    target = Target.of(model, backend, batch_size=batch_size, memory_limit=memory_limit)
    reason = attack.unsupported(target, threat)
    if reason is not None:
        raise CapabilityError(f"{attack.name} cannot attack {model.name!r}: {reason}")
    if model.num_classes < 2:
        raise InputError(
            f"model {model.name!r} has {model.num_classes} output; an attack needs 2 or more"
        )
    n = len(samples)
    spent = Spent.zeros(n)
    margin = margins(target.logits(samples.x), samples.y)
    spent.forwards[:] += 1
    given = samples if pool is None else check_samples(model, *pool, threat, None)
    correct = margin if pool is None else margins(target.logits(given.x), given.y)
    problem = Problem(
        samples.x,
        samples.y,
        samples.ids,
        threat,
        check_seed(seed),
        pool=Pool.of(given.x, given.y, correct > 0),
    )
    x_adv, origin = samples.x.copy(), np.full(n, -1)
    distance = np.where(margin < 0, 0.0, np.inf)
    for restart in range(attack.restarts):
        if progress is not None:
            progress(restart, attack.restarts, attack.name)
        rows = np.flatnonzero((distance > threat.eps_lower) & ~np.isnan(margin))
        if len(rows) == 0:
            break
        found = attack.run_anywhere(target, problem.take(rows), restart)
        for counter in ("forwards", "gradients", "queries"):
            getattr(spent, counter)[rows] += getattr(found, counter)
        away = distances(samples.x[rows], found.x, threat.norm)
        better = np.flatnonzero((found.status == FOUND) & (away < distance[rows]))
        if len(better) == 0:
            continue
        anywhere = replace(problem.take(rows[better]), threat=_widest(threat, away[better].max()))
        checked = replay(target, anywhere, np.ascontiguousarray(found.x[better]))
        spent.forwards[rows[better]] += checked.forwards
        better = better[checked.confirmed]
        x_adv[rows[better]] = found.x[better]
        distance[rows[better]] = away[better]
        origin[rows[better]] = restart
    return Nearest(samples.ids, x_adv, distance, origin, spent)


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a finite number above 0."""
    if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise InputError(f"{name}={value!r} must be a finite number above 0")


def _widest(threat: ThreatModel, distance: float) -> ThreatModel:
    """Return a ball that holds everything up to a distance, for the re-check."""
    low, high = threat.bounds
    radius = distance * (1 + 1e-6)
    if isinstance(threat, L0):
        radius = distance
    elif threat.norm == "linf":
        radius = min(radius, high - low)
    return type(threat)(radius, bounds=threat.bounds)
