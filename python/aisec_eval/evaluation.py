"""evaluate(): the bracket. Certifiers first, attacks on what they leave open, evidence for both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._validate import check_count, check_samples, check_seed
from .attacks import attack, corruption_library
from .attacks.judge import judge
from .attacks.registry import METHODS, checked, resolve
from .cases import Cases
from .certifiers import METHODS as CERTIFIERS
from .certifiers import Smoothing
from .certifiers import certify as run_certifier
from .errors import AisecError, CapabilityError, InputError
from .findings import Fault, Findings, merge
from .lattice import Lattice
from .results import (
    BROKEN,
    CERTIFIED,
    ERROR,
    FLOAT32,
    MISCLASSIFIED,
    OPEN,
    VERDICTS,
    AttackResult,
    CertifyResult,
    Evaluation,
    Spent,
)
from .threats import Box, Corruptions, Transformation

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from numpy.typing import NDArray

    from ._validate import Samples
    from .attacks import Attack
    from .certifiers import Certifier
    from .models import Model
    from .threats import ThreatModel

    Progress = Callable[[int, int, str], None]

_CODE = {verdict: np.int8(code) for code, verdict in enumerate(VERDICTS)}


def evaluate(
    model: Model,
    x: Any,
    y: Any,
    threat: ThreatModel,
    *,
    attacks: str | Attack | Iterable[str | Attack] = "fast",
    certify: str | Certifier | None = "crown",
    seed: int = 0,
    sample_ids: Any = None,
    backend: Literal["auto", "native", "jax"] = "auto",
    memory_limit: int | None = None,
    lattice: float | str | Fraction | None = None,
    pool: tuple[Any, Any] | None = None,
    part: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Say how often an attacker can win: certified <= robust <= attacked, with evidence.

    Samples that a certifier proves safe are not attacked. Every other one is `misclassified`,
    `broken` by an adversarial example that was re-checked, `open`, or `error` where the model or an
    engine failed on it. On models with a native graph the verdicts are bit for bit the same for any
    order, batch and number of threads.

    Args:
        model: as `load_model` returns it. A model without a graph is attacked, not certified, and
            a flag says what stood in the way.
        x: inputs [n, *input_shape], float32 in the threat model's bounds.
        y: integer labels [n].
        threat: which perturbations count.
        attacks: what `attack(method=...)` takes: "fast", a name, an attack object, or a list.
        certify: "ibp", "crown-ibp", "crown", "alpha-crown", "complete", a certifier, or None to
            attack only.
        seed: of all random numbers, 0..2**64-1.
        sample_ids: distinct integers [n] that key the random numbers; 0..n-1 when None.
        backend: of attacks: "native" (the graph, on all cores), "jax", or "auto".
        memory_limit: bytes that one batch may take.
        lattice: spacing of the data's values where they are integers, `Dataset.lattice`: the
            adversarial examples are put on it where they survive that, see `attack`.
        pool: inputs and labels that attacks may start from; `x` and `y` when None, see `attack`.
        part: these are some samples of a set, whose evaluations are joined afterwards with
            `evaluation.join`; then give the whole set as `pool`.
        progress: called as `progress(samples decided, samples in all, note)`.

    Returns:
        Verdicts, bracket and evidence; `info` holds what identifies the evaluation.

    Raises:
        InputError: arrays, threat model or options do not fit; one line says which.
        CapabilityError: the model lacks what the attacks or the backend asked for need.
    """
    samples = check_samples(model, x, y, threat, sample_ids)
    seed = check_seed(seed)
    if memory_limit is not None:
        check_count("memory_limit", memory_limit)
    if isinstance(attacks, Iterable) and not isinstance(attacks, str):
        attacks = tuple(a if isinstance(a, str) else checked(a) for a in attacks)
    elif not isinstance(attacks, str):
        attacks = checked(attacks)
    resolve(attacks, threat)
    if isinstance(certify, str) and certify not in CERTIFIERS:
        raise InputError(f"certify={certify!r} is unknown; choose one of {', '.join(CERTIFIERS)}")
    if isinstance(certify, Smoothing):
        raise InputError(
            "smoothing certifies the model's vote under noise, attacks break the model: a bracket "
            "of both means nothing; call certify() for the one and attack() for the other"
        )

    state = _State(model, samples)
    if certify is not None:
        state.certify(threat, certify, memory_limit, progress)
    if pool is None:
        order = np.argsort(samples.ids, kind="stable")
        pool = (samples.x[order], samples.y[order])
    options = {
        "method": attacks,
        "seed": seed,
        "backend": backend,
        "memory_limit": memory_limit,
        "lattice": lattice,
        "pool": pool,
        "part": part,
    }
    state.attack(threat, options, progress)
    state.use_counterexamples(threat)
    info = {
        "threat": describe(threat),
        "attacks": attacks if isinstance(attacks, str) else repr(attacks),
        "certify": certify if isinstance(certify, str | None) else repr(certify),
        "seed": seed,
        "backend": backend,
        "lattice": None if lattice is None else str(Lattice.of(lattice).spacing),
    }
    if isinstance(threat, Corruptions):
        info["library"] = corruption_library.versions()
    return state.result(threat, info)


def describe(threat: ThreatModel) -> dict[str, Any]:
    """Return a threat model in exact terms that JSON can hold."""
    return threat.describe()


@dataclass
class _State:
    """What is known about every sample so far."""

    model: Model
    samples: Samples
    notes: list[str] = field(default_factory=list)
    """What is true of the model and the methods, whatever the samples."""
    parts: list[Findings] = field(default_factory=list)
    """Of each thing done."""
    bounded: bool = False
    """Whether a certifier had a go."""
    met: dict[int, tuple[str, NDArray[np.float32]]] = field(default_factory=dict)
    """Counterexamples that a certifier met, with its name, by row."""

    def __post_init__(self) -> None:
        self.notes.extend(self.model.report.warnings)
        n = len(self.samples)
        self.verdict = np.full(n, _CODE[OPEN])
        self.margin = np.full(n, np.inf)
        self.margin_lower = np.full(n, -np.inf)
        self.distance = np.full(n, np.nan)
        self.x_adv = self.samples.x.copy()
        self.found_by = [""] * n
        self.evidence = [""] * n
        self.spent = Spent.zeros(n)
        self.transform = [""] * n
        self.cases: Cases | None = None
        self.draws: NDArray[np.int64] | None = None

    def certify(
        self,
        threat: ThreatModel,
        method: str | Certifier,
        memory_limit: int | None,
        progress: Progress | None,
    ) -> None:
        """Certify what can be certified; a certifier that fails on a sample leaves it open."""

        def run(rows: NDArray[np.int64]) -> CertifyResult:
            return run_certifier(
                self.model,
                self.samples.x[rows],
                self.samples.y[rows],
                threat,
                method=method,
                memory_limit=memory_limit,
                sample_ids=self.samples.ids[rows],
                progress=_with_note(progress, "certify"),
            )

        if isinstance(threat, Transformation) or threat.constraint is not None:
            self.notes.append(
                f"not certified: certifiers do not cover {threat.norm}; attacked only"
            )
            return
        graph = self.model.graph
        if graph is None:
            report = self.model.report
            if not any(line.startswith("not certifiable") for line in report.warnings):
                why = report.not_certifiable or "no graph of it could be built"
                self.notes.append(f"not certifiable: {why}; attacked only")
            return
        self.bounded = True
        failures: list[tuple[int, Exception]] = []
        for rows, found in _isolated(run, np.arange(len(self.samples)), failures):
            self.margin_lower[rows] = found.margin_lower
            for at, point in found.counterexamples.items():
                self.met[int(rows[at])] = (found.method, point)
            proven = rows[found.certified]
            if len(proven) == 0:
                continue
            # In float64, so that rounding cannot take the margin below a bound that holds.
            logits = graph.forward64(self.samples.x[proven].astype(np.float64))
            margin = _margins(logits, self.samples.y[proven])
            sound = margin >= self.margin_lower[proven]
            self.verdict[proven[sound]] = _CODE[CERTIFIED]
            self.margin[proven] = margin
            self.spent.forwards[proven] += 1
            for row in proven[sound]:
                self.found_by[row] = found.method
            for row in proven[~sound]:
                text = f"{self.margin_lower[row]:g} certified, {margin[proven == row][0]:g} clean"
                fault = Fault(1, int(self.samples.ids[row]), text)
                self.parts.append(Findings(contradicted={found.method: fault}))
                self.margin_lower[row] = -np.inf
        for row, error in failures:
            fault = Fault(1, int(self.samples.ids[row]), _line(error))
            name = method if isinstance(method, str) else method.name
            self.parts.append(Findings(uncertified={name: fault}))

    def attack(
        self, threat: ThreatModel, options: dict[str, Any], progress: Progress | None
    ) -> None:
        """Attack what is not certified; samples on which the engine fails are `error`."""

        def run(rows: NDArray[np.int64]) -> AttackResult:
            done = int((self.verdict != _CODE[OPEN]).sum())
            return attack(
                self.model,
                self.samples.x[rows],
                self.samples.y[rows],
                threat,
                sample_ids=self.samples.ids[rows],
                progress=_with_note(progress, "attack", done, len(self.samples)),
                **options | {"part": options["part"] or len(rows) < len(open_)},
            )

        open_ = np.flatnonzero(self.verdict == _CODE[OPEN])
        failures: list[tuple[int, Exception]] = []
        try:
            for rows, found in _isolated(run, open_, failures) if len(open_) else ():
                self._merge(rows, found)
        except CapabilityError as error:
            # A general method was asked for: what the certifiers proved is still worth having.
            if options["method"] not in METHODS or not self.bounded:
                raise
            self.notes.append(f"not attacked: {error}")
            self._check_clean(open_)
        for row, failure in failures:
            self.verdict[row] = _CODE[ERROR]
            fault = Fault(1, int(self.samples.ids[row]), _line(failure))
            self.parts.append(Findings(crashed={"attack": fault}))

    def use_counterexamples(self, threat: ThreatModel) -> None:
        """Break what no attack broke but a certifier did, once it is re-checked."""
        rows = [row for row in self.met if self.verdict[row] == _CODE[OPEN]]
        graph = self.model.graph
        if not rows or graph is None:
            return
        from ._core import check_adversarial

        low, high = (threat.lower, threat.upper) if isinstance(threat, Box) else threat.bounds
        points = np.stack([self.met[row][1] for row in rows])
        holds, margin, distance, _ = check_adversarial(
            graph,
            self.samples.x[rows],
            points,
            self.samples.y[rows],
            norm=threat.norm,
            eps=threat.eps_lower,
            lower=low,
            upper=high,
        )
        for at in np.flatnonzero(holds).tolist():
            row = rows[at]
            self.verdict[row] = _CODE[BROKEN]
            self.x_adv[row], self.margin[row] = points[at], margin[at]
            self.distance[row] = distance[at]
            self.found_by[row], self.evidence[row] = self.met[row][0], FLOAT32

    def _merge(self, rows: NDArray[np.int64], found: AttackResult) -> None:
        self.verdict[rows] = found.verdict
        self.margin[rows] = found.margin
        self.distance[rows] = found.distance
        self.x_adv[rows] = found.x_adv
        for row, name in zip(rows, found.found_by, strict=True):
            self.found_by[row] = name
        for row, kind in zip(rows, found.evidence, strict=True):
            self.evidence[row] = kind
        for counter in fields(Spent):
            getattr(self.spent, counter.name)[rows] += getattr(found.spent, counter.name)
        self.parts.append(found.findings)
        for row, transform in zip(rows, found.transform or (), strict=bool(found.transform)):
            self.transform[row] = transform
        if found.draws is not None:
            if self.draws is None:
                self.draws = np.zeros(len(self.samples), np.int64)
            self.draws[rows] = found.draws
        if found.cases is not None:
            if self.cases is None:
                self.cases = Cases.unknown(found.cases.names, len(self.samples))
            self.cases.correct[rows] = found.cases.correct

    def _check_clean(self, rows: NDArray[np.int64]) -> None:
        """Without attacks: which samples are misclassified as they are."""
        logits = self.model.logits(self.samples.x[rows]).astype(np.float64)
        self.margin[rows] = _margins(logits, self.samples.y[rows])
        self.spent.forwards[rows] += 1
        finite = np.isfinite(logits).all(axis=1)
        wrong = logits.argmax(axis=1) != self.samples.y[rows]
        self.verdict[rows[wrong]] = _CODE[MISCLASSIFIED]
        self.verdict[rows[~finite]] = _CODE[ERROR]

    def result(self, threat: ThreatModel, info: dict[str, Any]) -> Evaluation:
        """Lay the verdicts out with their evidence."""
        broken = self.verdict == _CODE[BROKEN]
        findings = merge([Findings(notes=tuple(self.notes)), *self.parts])
        return Evaluation(
            sample=self.samples.ids,
            label=self.samples.y,
            verdict=self.verdict,
            x_adv=self.x_adv[broken],
            x_clean=self.samples.x[broken],
            margin=self.margin,
            margin_lower=self.margin_lower,
            distance=self.distance,
            found_by=tuple(self.found_by),
            evidence=tuple(self.evidence),
            spent=self.spent,
            model=self.model.name,
            model_digest=self.model.digest,
            threat=str(threat),
            flags=judge(findings),
            info=info,
            findings=findings,
            transform=tuple(self.transform) if isinstance(threat, Transformation) else (),
            cases=self.cases,
            draws=self.draws,
        )


def _isolated(
    run: Callable[[NDArray[np.int64]], Any],
    rows: NDArray[np.int64],
    failures: list[tuple[int, Exception]],
) -> list[tuple[NDArray[np.int64], Any]]:
    """Run on all rows; where that fails, on halves, down to the rows that fail on their own.

    Refusals of the input (`AisecError`) are about all rows and are raised.
    """
    try:
        return [(rows, run(rows))]
    except AisecError:
        raise
    except Exception as error:
        if len(rows) == 1:
            failures.append((int(rows[0]), error))
            return []
    half = len(rows) // 2
    return _isolated(run, rows[:half], failures) + _isolated(run, rows[half:], failures)


def _margins(logits: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return z_y - max_{i != y} z_i [n]."""
    others = logits.copy()
    others[np.arange(len(y)), y] = -np.inf
    with np.errstate(invalid="ignore"):
        margin: NDArray[np.float64] = logits[np.arange(len(y)), y] - others.max(axis=1)
    return margin


def _with_note(
    progress: Progress | None, stage: str, first: int = 0, total: int | None = None
) -> Progress | None:
    if progress is None:
        return None
    return lambda done, n, note: progress(first + done, total or n, f"{stage}: {note}")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
