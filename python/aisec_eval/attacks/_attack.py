"""attack(): runs attacks one after another, each on what is left, and re-checks what they find."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._validate import check_count, check_samples, check_seed
from ..cases import Cases
from ..errors import CapabilityError, InputError
from ..findings import Fault, join_faults
from ..lattice import Lattice
from ..results import (
    BROKEN,
    ERROR,
    FLOAT32,
    LATTICE,
    MISCLASSIFIED,
    OPEN,
    VERDICTS,
    AttackResult,
    Spent,
)
from ..threats import Corruptions, Transformation
from . import diagnostics
from .base import FAILED, FOUND, Problem
from .judge import judge
from .lattice import settle
from .portfolio import by_labels
from .registry import METHODS, resolve
from .replay import distances, margins, replay, vote
from .starts import Pool
from .target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from fractions import Fraction

    from numpy.typing import NDArray

    from .._validate import Samples
    from ..findings import Repeat, Stage
    from ..models import Model
    from ..threats import ThreatModel
    from .base import Attack, Found

BLOCK = 2048
"""Samples handed to an attack together: bounds memory, and how rarely progress is reported."""


def attack(
    model: Model,
    x: Any,
    y: Any,
    threat: ThreatModel,
    *,
    method: str | Attack | Iterable[str | Attack] = "fast",
    seed: int = 0,
    sample_ids: Any = None,
    batch_size: int | None = None,
    backend: Literal["auto", "native", "jax"] = "auto",
    memory_limit: int | None = None,
    lattice: float | str | Fraction | None = None,
    pool: tuple[Any, Any] | None = None,
    part: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> AttackResult:
    """Look for adversarial examples of every sample.

    A sample is `broken` only by a point that passes `replay`: inside the norm ball and the input
    range without tolerance, with a strictly negative margin. On models with a native graph the
    result is bit for bit the same for any batch size, order and number of threads.

    Args:
        model: as `load_model` returns it.
        x: inputs [n, *input_shape], float32 in the threat model's bounds.
        y: integer labels [n].
        threat: which perturbations count.
        method: "fast" or the cheaper "light" (see `attacks.portfolio`; decision-based attacks where
            a model gives labels only), "standard", "plus" or
            "rand" (AutoAttack's versions), the name of an attack, an attack object such as
            `APGD(steps=40)`, or a list of those, run in this order.
        seed: of all random numbers, 0..2**64-1.
        sample_ids: distinct integers [n] that key the random numbers; 0..n-1 when None.
        batch_size: most samples evaluated together; 256 when None.
        backend: "native" (the graph, on all cores), "jax", or "auto": native where possible.
        memory_limit: bytes; the batch is kept small enough, by estimate.
        lattice: spacing of the data's values where they are integers (`Dataset.lattice`; "1/255"
            for 8-bit images). Adversarial examples are moved onto it where they survive that;
            `AttackResult.evidence` says which did.
        pool: inputs and labels that attacks may start from ("data starts"), as `x` and `y`; the
            samples themselves when None. Where a set is attacked in parts, give the whole set, so
            that no result depends on the parts. Finding out which of them the model classifies
            correctly is not counted in `spent`.
        part: these are some samples of a set: diagnostics gather what judging the whole set takes,
            see `AttackResult.findings`.
        progress: called as `progress(done, total, note)`.

    Returns:
        One row a sample. `spent.forwards` counts evaluations of white-box attacks and the clean
        check, `spent.gradients` how many of those were differentiated, `spent.queries` evaluations
        of black-box attacks.

    Raises:
        InputError: arrays, threat model or options do not fit.
        CapabilityError: the model lacks what a named attack or backend needs.
    """
    samples = check_samples(model, x, y, threat, sample_ids)
    seed = check_seed(seed)
    if model.num_classes < 2:
        raise InputError(
            f"model {model.name!r} has {model.num_classes} output; an attack needs 2 or more"
        )
    for name, value in (("batch_size", batch_size), ("memory_limit", memory_limit)):
        if value is not None:
            check_count(name, value)
    grid = None if lattice is None else Lattice.of(lattice)
    if grid is not None:
        grid.check(samples.x)
    attacks = resolve(method, threat)
    moving = isinstance(threat, Transformation)
    if method in ("fast", "light") and not model.capabilities.scores and not moving:
        attacks = by_labels(threat)
    target = Target.of(model, backend, batch_size=batch_size, memory_limit=memory_limit)
    general = isinstance(method, str) and method in METHODS
    skipped: dict[str, dict[str, None]] = {}
    possible = []
    for candidate in attacks:
        reason = candidate.unsupported(target, threat)
        if reason is None:
            possible.append(candidate)
        elif general:
            skipped.setdefault(reason, {})[candidate.name] = None
        else:
            raise CapabilityError(f"{candidate.name} cannot attack {model.name!r}: {reason}")
    notes = [f"{', '.join(names)} skipped: {reason}" for reason, names in skipped.items()]
    if not possible:
        raise CapabilityError(f"no attack can run on {model.name!r}: " + "; ".join(notes))

    averaged = any(getattr(candidate, "eot", 1) > 1 for candidate in possible)
    target.random = target.can_differ and (averaged or not model.capabilities.deterministic)
    search = _Search(target, Problem(samples.x, samples.y, samples.ids, threat, seed), progress)
    search.check_clean()
    if any(getattr(candidate, "starts", 0) for candidate in possible):
        search.fill_pool(None if pool is None else check_samples(model, *pool, threat, None))
    for candidate in possible:
        for restart in range(candidate.restarts):
            search.run(candidate, restart)
    # A transformed image moved onto a lattice is no longer the transformed image.
    if grid is not None and not moving:
        search.settle(grid)
    return search.result(tuple(notes), part=part)


class _Search:
    """What is known about every sample so far."""

    def __init__(
        self,
        target: Target,
        problem: Problem,
        progress: Callable[[int, int, str], None] | None,
    ) -> None:
        n = len(problem)
        self.target = target
        self.problem = problem
        self.progress = progress
        self.verdict = np.full(n, VERDICTS.index(OPEN), np.int8)
        self.failed = np.zeros(n, np.bool_)
        """Samples whose logits could not be used somewhere; `error` unless broken."""
        self.x_adv = problem.x.copy()
        self.margin = np.full(n, np.inf)
        self.found_by = [""] * n
        self.evidence = [""] * n
        self.spent = Spent.zeros(n)
        moving = isinstance(problem.threat, Transformation)
        self.transform = [""] * n if moving else []
        self.cases: Cases | None = None
        self.draws: NDArray[np.int64] | None = None
        """Evaluations that confirmed each example, where the model is randomised."""
        if isinstance(problem.threat, Corruptions):
            self.cases = Cases.unknown(problem.threat.cases, n)
        self.refused: dict[str, Fault] = {}
        """Candidates that the re-check did not confirm, by attack."""
        self.clean = np.empty((n, target.model.num_classes), np.float32)
        self.clean_margin = np.empty(n)
        self.gradient_margin = np.full(n, np.inf)
        self.attacked = np.zeros(n, np.bool_)
        self.rest = np.zeros(n, np.int8)
        """1 where a gradient attack came to rest, -1 where none of those that ran did, or 0."""
        self.stages: list[Stage] = []
        self.repeats: tuple[Repeat, ...] = ()

    def check_clean(self) -> None:
        """Evaluate the clean inputs; what is misclassified already is not attacked."""
        problem = self.problem
        self._tell("clean inputs")
        logits = self.target.logits(problem.x)
        self.spent.forwards[:] += 1
        self.margin[:] = margins(logits, problem.y)
        self.failed |= np.isnan(self.margin)
        wrong = ~self.failed & (np.argmax(logits, axis=1) != problem.y)
        self.verdict[wrong] = VERDICTS.index(MISCLASSIFIED)
        self.verdict[self.failed] = VERDICTS.index(ERROR)
        self.clean, self.clean_margin = logits, self.margin.copy()
        self.attacked = ~wrong & ~self.failed
        rows = np.flatnonzero(self.attacked)
        self.repeats = diagnostics.ask_again(self.target, problem, logits, rows)
        if self.target.random or any(repeat.differs for repeat in self.repeats):
            self.target.random = True
            self._vote_clean()

    def _vote_clean(self) -> None:
        """Classify the clean inputs by what a randomised model says more often than not."""
        votes = vote(self.target, self.problem, self.problem.x)
        self.spent.forwards[:] += votes.draws
        self.failed[:] = votes.failed
        wrong = ~votes.failed & (votes.decided > 0)
        self.verdict[:] = VERDICTS.index(OPEN)
        self.verdict[wrong] = VERDICTS.index(MISCLASSIFIED)
        self.verdict[self.failed] = VERDICTS.index(ERROR)
        self.clean = votes.logits
        self.margin[:] = margins(self.clean, self.problem.y)
        self.clean_margin = self.margin.copy()
        self.attacked = ~wrong & ~self.failed
        self.draws = np.zeros(len(self.problem), np.int64)

    def fill_pool(self, given: Samples | None) -> None:
        """Set what attacks may start from: the samples by their ids, or those given."""
        problem = self.problem
        if given is None:
            order = np.argsort(problem.ids, kind="stable")
            pool = Pool.of(problem.x[order], problem.y[order], self.attacked[order])
        else:
            # What fails there is another sample's, or another part's, to report.
            apart = replace(self.target, messages={})
            pool = Pool.classified(given.x, given.y, apart.logits)
        self.problem = replace(problem, pool=pool)

    def run(self, attack: Attack, restart: int) -> None:
        """Run one attack on every sample that is still open, and re-check what it finds."""
        open_ = self.verdict == VERDICTS.index(OPEN)
        wrong = self.verdict == VERDICTS.index(MISCLASSIFIED)
        rows = np.flatnonzero(open_ | (wrong & getattr(attack, "exhaustive", False)))
        problem = replace(
            self.problem,
            clean=self.clean,
            best=self.x_adv,
            margin=self.margin,
            unfinished=self.rest < 0,
        )
        for start in range(0, len(rows), BLOCK):
            self._tell(attack.name)
            part = rows[start : start + BLOCK]
            found = attack.run(self.target, problem.take(part), restart)
            if self.cases is not None and found.cases is not None:
                self.cases.correct[part] = found.cases
            if attack.needs_gradient:
                smaller = np.minimum(self.gradient_margin[part], found.margin)
                self.gradient_margin[part] = smaller
                ended = diagnostics.at_rest(found, self.clean_margin[part])
                decided = (self.rest[part] < 1) & (ended != 0)
                self.rest[part[decided]] = ended[decided]
            self._merge(attack.name, part, found)
        broken = int((self.verdict[rows] == VERDICTS.index(BROKEN)).sum())
        self.stages.append(diagnostics.stage(len(self.stages), attack, restart, broken))

    def _merge(self, name: str, rows: NDArray[np.int64], found: Found) -> None:
        self.spent.forwards[rows] += found.forwards
        self.spent.gradients[rows] += found.gradients
        self.spent.queries[rows] += found.queries
        open_ = self.verdict[rows] == VERDICTS.index(OPEN)
        self.failed[rows[open_]] |= found.status[open_] == FAILED
        better = open_ & (found.status != FOUND) & (found.margin < self.margin[rows])
        self.x_adv[rows[better]] = found.x[better]
        self.margin[rows[better]] = found.margin[better]

        candidates = np.flatnonzero(open_ & (found.status == FOUND))
        if len(candidates) == 0:
            return
        rows, x_adv = rows[candidates], np.ascontiguousarray(found.x[candidates])
        transform = [found.transform[i] for i in candidates] if found.transform else []
        checked = replay(self.target, self.problem.take(rows), x_adv, transform)
        self.spent.forwards[rows] += checked.forwards
        confirmed = rows[checked.confirmed]
        self.verdict[confirmed] = VERDICTS.index(BROKEN)
        self.x_adv[confirmed] = x_adv[checked.confirmed]
        self.margin[confirmed] = checked.margin[checked.confirmed]
        if self.draws is not None:
            self.draws[confirmed] = checked.forwards[checked.confirmed]
        for row in confirmed:
            self.found_by[row] = name
            self.evidence[row] = FLOAT32
        for position in np.flatnonzero(checked.confirmed) if transform else ():
            self.transform[rows[position]] = transform[position]
        for position in np.flatnonzero(~checked.confirmed):
            fault = Fault(1, int(self.problem.ids[rows[position]]), checked.reason[position])
            self.refused = join_faults([self.refused, {name: fault}])
            # Not confirmed to be negative: as close to the boundary as an open sample can be.
            self.margin[rows[position]] = min(self.margin[rows[position]], 0.0)

    def settle(self, lattice: Lattice) -> None:
        """Put adversarial examples on the lattice wherever there is one nearby."""
        broken = np.flatnonzero(self.verdict == VERDICTS.index(BROKEN))
        for start in range(0, len(broken), BLOCK):
            self._tell("lattice")
            rows = broken[start : start + BLOCK]
            settled = settle(self.target, self.problem.take(rows), self.x_adv[rows], lattice)
            self.spent.forwards[rows] += settled.forwards
            self.spent.gradients[rows] += settled.gradients
            kept = rows[settled.survived]
            self.x_adv[kept] = settled.x[settled.survived]
            self.margin[kept] = settled.margin[settled.survived]
            if self.draws is not None:
                self.draws[kept] = settled.draws[settled.survived]
            for row in kept:
                self.evidence[row] = LATTICE

    def result(self, notes: tuple[str, ...], *, part: bool) -> AttackResult:
        """Return the verdicts with everything that has to be said about them."""
        problem = self.problem
        undecided = self.verdict == VERDICTS.index(OPEN)
        self.verdict[undecided & self.failed] = VERDICTS.index(ERROR)
        broken = self.verdict == VERDICTS.index(BROKEN)
        distance = np.full(len(problem), np.nan)
        if broken.any():
            norm = problem.threat.norm
            distance[broken] = distances(problem.x[broken], self.x_adv[broken], norm)
        findings = diagnostics.gather(self._trail(broken), self.target, part=part)
        findings = replace(findings, notes=notes)
        self._tell("done")
        return AttackResult(
            sample=problem.ids,
            label=problem.y,
            verdict=self.verdict,
            x_adv=self.x_adv,
            margin=self.margin,
            distance=distance,
            found_by=tuple(self.found_by),
            evidence=tuple(self.evidence),
            spent=replace(self.spent),
            flags=judge(findings),
            findings=findings,
            transform=tuple(self.transform),
            cases=self.cases,
            draws=self.draws,
        )

    def _trail(self, broken: NDArray[np.bool_]) -> diagnostics.Trail:
        return diagnostics.Trail(
            problem=self.problem,
            clean=self.clean,
            clean_margin=self.clean_margin,
            gradient_margin=self.gradient_margin,
            margin=self.margin,
            attacked=self.attacked,
            broken=broken,
            error=self.verdict == VERDICTS.index(ERROR),
            unfinished=self.rest < 0,
            stages=self.stages,
            repeats=self.repeats,
            refused=self.refused,
        )

    def _tell(self, note: str) -> None:
        if self.progress is not None:
            done = int((self.verdict != VERDICTS.index(OPEN)).sum())
            self.progress(done, len(self.problem), note)
