"""Verdicts and the frozen results every engine returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .bracket import Bracket
from .findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from .cases import Cases

MISCLASSIFIED = "misclassified"
BROKEN = "broken"
CERTIFIED = "certified"
OPEN = "open"
ERROR = "error"
VERDICTS = (MISCLASSIFIED, BROKEN, CERTIFIED, OPEN, ERROR)
"""Order of the polars Enum column `verdict`; int8 codes in arrays are indices into it."""
LATTICE = "lattice"
FLOAT32 = "float32"
EVIDENCE = ("", LATTICE, FLOAT32)
"""Kinds of evidence: an adversarial example that integer data can hold, or one between its levels;
none. Order of the polars Enum column `evidence`."""


@dataclass(frozen=True)
class Spent:
    """What was spent on each sample, int64 [n], counted one sample at a time."""

    forwards: NDArray[np.int64]
    gradients: NDArray[np.int64]
    queries: NDArray[np.int64]

    @staticmethod
    def zeros(n: int) -> Spent:
        """Nothing spent on `n` samples."""
        return Spent(*(np.zeros(n, dtype=np.int64) for _ in range(3)))


@dataclass(frozen=True)
class AttackResult:
    """What the attacks found, one row a sample, in the order the samples were given."""

    sample: NDArray[np.int64]
    """Sample ids [n]."""
    label: NDArray[np.int64]
    verdict: NDArray[np.int8]
    """Indices into VERDICTS [n]: misclassified, broken, open or error."""
    x_adv: NDArray[np.float32]
    """[n, *input]: the adversarial example where broken, else the best point found."""
    margin: NDArray[np.float64]
    """Smallest margin z_y - max_{i != y} z_i found [n]; negative exactly where broken."""
    distance: NDArray[np.float64]
    """Norm of the adversarial perturbation [n], NaN where none was found."""
    found_by: tuple[str, ...]
    """Name of the attack that broke each sample, empty where none did."""
    spent: Spent
    flags: tuple[str, ...] = ()
    """Diagnostics in plain words (gradient masking, replay disagreements, ...)."""
    evidence: tuple[str, ...] = ()
    """Where each adversarial example lies: `lattice` or `float32`, empty where there is none."""
    findings: Findings = field(default_factory=Findings, repr=False)
    """What `flags` are judged on; with `part=True` it can be merged with that of other samples."""
    transform: tuple[str, ...] = ()
    """Under threat models of transformations: which one broke each sample (`fog/3`,
    `rotation=12.0 right=-3.0 down=0.0`), empty where none did. Otherwise no entries at all."""
    cases: Cases | None = field(default=None, repr=False)
    """Under `Corruptions`: whether the model is correct under each of them."""
    draws: NDArray[np.int64] | None = None
    """Of a randomised model: how many draws it took to be 99 % sure that each adversarial example
    is misclassified more often than not [n], 0 where there is none. None for other models."""

    def __post_init__(self) -> None:
        _plain_evidence(self)

    @property
    def clean_accuracy(self) -> float:
        """Fraction of samples classified correctly before any perturbation."""
        return float(np.mean((self.verdict != 0) & (self.verdict != 4)))

    @property
    def robust_accuracy(self) -> float:
        """Fraction of samples no attack broke (an upper end of the bracket)."""
        return float(np.mean(self.verdict == VERDICTS.index(OPEN)))

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row a sample.

        Columns: sample, label, verdict, margin, distance, found_by, evidence, transform (where the
        threat model is one of transformations), draws (where the model is randomised), forwards,
        gradients, queries.
        """
        return frame(self)


@dataclass(frozen=True)
class CertifyResult:
    """What the certifiers proved, one row a sample."""

    sample: NDArray[np.int64]
    label: NDArray[np.int64]
    certified: NDArray[np.bool_]
    """True where every perturbation in the threat model keeps the label, in real arithmetic."""
    margin_lower: NDArray[np.float64]
    """Proven lower bound of the margin over the threat model [n]; -inf where nothing was proven,
    NaN where margins are not bounded (smoothing)."""
    margins_lower: NDArray[np.float64]
    """Lower bounds of z_y - z_i for each other class i ascending [n, num_classes - 1]."""
    certificate: tuple[Mapping[str, Any] | None, ...]
    """What re-checking needs, one a sample: method, region and bound; None where not certified."""
    method: str
    reason: tuple[str, ...]
    """Why a sample is not certified (`bound`, `not finite`, `operator X`); empty where it is."""
    radius: NDArray[np.float64] | None = None
    """Certified distance [n]: nothing nearer in the threat model's norm changes the label. None
    where only the threat model's own radius was decided."""
    radius_upper: NDArray[np.float64] | None = None
    """Distance [n] of a re-checked adversarial example, inf where none was found; None where no
    radius was asked for."""
    counterexamples: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    """Inputs [*input_shape] that complete verification met on its way, by row; rounded to float32,
    so still to be re-checked."""

    @property
    def certified_accuracy(self) -> float:
        """Fraction of samples proven safe (the lower end of the bracket)."""
        return float(np.mean(self.certified))


@dataclass(frozen=True, eq=False)
class Counterexample:
    """An input of a property's box whose outputs meet one of its clauses, in real arithmetic."""

    input: NDArray[np.float64]
    """[*input_shape]; float32 numbers wherever the box holds any. Where it holds no float64 either,
    as where a decimal fixes an input, a neighbour of what it holds."""
    output: NDArray[np.float64]
    """[outputs]: what the network computes there in float64."""


@dataclass(frozen=True, eq=False)
class VerifyResult:
    """Whether a network can violate a property."""

    status: str
    """ "unsat": no input can, "sat": the counterexample does, "unknown": see `reason`."""
    counterexample: Counterexample | None = None
    certificate: Mapping[str, Any] | None = None
    """What re-checking an `unsat` needs; None where nothing was written down."""
    reason: str = ""
    """Why the answer is unknown, in one line; starts with `timeout` where time ran out."""
    bound: float = math.nan
    """Where unknown, how far from violating it the network provably stays in what is left: a
    negative number, the nearer to 0 the better; NaN where nothing was bounded."""
    domains: int = 0
    """Boxes bounded."""
    seconds: float = 0.0
    """Wall time, loading included; the only part that differs between equal calls that end
    before their deadline."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """`replay`: what ONNX Runtime said of the counterexample, or why it was not asked."""


@dataclass(frozen=True)
class Evaluation:
    """The bracket with its evidence: attacks and certifiers on one set of samples."""

    sample: NDArray[np.int64]
    label: NDArray[np.int64]
    verdict: NDArray[np.int8]
    """Indices into VERDICTS [n]."""
    x_adv: NDArray[np.float32]
    """Adversarial examples of the broken samples [number broken, *input], ascending row order."""
    x_clean: NDArray[np.float32]
    """The clean inputs those came from, same shape: the evidence stands alone."""
    margin: NDArray[np.float64]
    """Smallest margin any attack reached [n]; the clean margin where nothing was attacked."""
    margin_lower: NDArray[np.float64]
    """Proven lower bound of the margin [n]; -inf where none."""
    distance: NDArray[np.float64]
    found_by: tuple[str, ...]
    """Attack or certifier that decided each sample; empty where open."""
    spent: Spent
    model: str
    model_digest: str
    threat: str
    flags: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    """Settings that identify the evaluation: threat, methods, seed, versions."""
    evidence: tuple[str, ...] = ()
    """Where each adversarial example lies, see `AttackResult.evidence`."""
    findings: Findings | None = field(default=None, repr=False)
    """What `flags` are judged on; None where it was not kept, as in a bundle."""
    transform: tuple[str, ...] = ()
    """Which transformation broke each sample, see `AttackResult.transform`."""
    cases: Cases | None = field(default=None, repr=False)
    """What became of each case of a finite threat model, see `AttackResult.cases`."""
    draws: NDArray[np.int64] | None = None
    """How many draws each adversarial example took, see `AttackResult.draws`."""

    def __post_init__(self) -> None:
        _plain_evidence(self)

    @property
    def bracket(self) -> Bracket:
        """Certified <= robust <= attacked."""
        n = len(self.verdict)
        certified = int(np.sum(self.verdict == VERDICTS.index(CERTIFIED)))
        undecided = int(np.sum(self.verdict == VERDICTS.index(OPEN)))
        return Bracket(certified / n, (certified + undecided) / n, n)

    @property
    def clean_accuracy(self) -> float:
        """Fraction of samples classified correctly before any perturbation."""
        return float(np.mean((self.verdict != 0) & (self.verdict != 4)))

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row a sample, see `AttackResult.frame`, plus `margin_lower`."""
        return frame(self)

    def save(self, folder: str | Path) -> Path:
        """Write verdicts (Parquet), evidence and manifest into a new run folder; return it."""
        from .runs import save_evaluation

        return save_evaluation(self, folder)


@dataclass(frozen=True)
class CurveResult:
    """Verdicts at several radii of one norm; monotone: what is broken at one is at larger ones."""

    sample: NDArray[np.int64]
    """Sample ids [n]."""
    label: NDArray[np.int64]
    norm: str
    eps: tuple[Fraction, ...]
    """Radii [k], ascending, exact."""
    labels: tuple[str, ...]
    """The radii as a person writes them."""
    verdict: NDArray[np.int8]
    """Indices into VERDICTS [k, n]."""
    x_adv: NDArray[np.float32]
    """[n, *input]: the nearest adversarial example found, the clean input where there is none."""
    distance: NDArray[np.float64]
    """Its distance [n], NaN where there is none."""
    found_by: tuple[str, ...]
    """Attack that first found the adversarial example, empty where none did."""
    spent: Spent
    """Over all radii."""
    flags: tuple[str, ...] = ()

    @property
    def clean_accuracy(self) -> float:
        """Fraction of samples classified correctly before any perturbation."""
        wrong = (self.verdict == VERDICTS.index(MISCLASSIFIED)).all(axis=0)
        failed = (self.verdict == VERDICTS.index(ERROR)).all(axis=0)
        return float(np.mean(~wrong & ~failed))

    @property
    def brackets(self) -> tuple[Bracket, ...]:
        """Certified <= robust <= attacked at each radius."""
        n = self.verdict.shape[1]
        certified = (self.verdict == VERDICTS.index(CERTIFIED)).sum(axis=1)
        undecided = (self.verdict == VERDICTS.index(OPEN)).sum(axis=1)
        return tuple(
            Bracket(int(c) / n, int(c + o) / n, n)
            for c, o in zip(certified, undecided, strict=True)
        )

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row a radius: norm, eps, label, certified, attacked, ci_low, ci_high, open."""
        import polars as pl

        rows = []
        for eps, label, bracket in zip(self.eps, self.labels, self.brackets, strict=True):
            low, high = bracket.interval
            rows.append(
                {
                    "norm": self.norm,
                    "eps": float(eps),
                    "label": label,
                    "certified": bracket.certified,
                    "attacked": bracket.attacked,
                    "ci_low": low,
                    "ci_high": high,
                    "open": bracket.open,
                }
            )
        return pl.DataFrame(rows)


def _plain_evidence(result: AttackResult | Evaluation) -> None:
    """Where nothing else is said, adversarial examples are plain float32 points."""
    if not result.evidence:
        broken = result.verdict == VERDICTS.index(BROKEN)
        kinds = tuple(FLOAT32 if found else "" for found in broken)
        object.__setattr__(result, "evidence", kinds)


def frame(result: AttackResult | Evaluation) -> pl.DataFrame:
    """Lay a result out as a polars frame, one row a sample."""
    import polars as pl

    columns: dict[str, pl.Series] = {
        "sample": pl.Series(result.sample),
        "label": pl.Series(result.label),
        "verdict": pl.Series([VERDICTS[code] for code in result.verdict], dtype=pl.Enum(VERDICTS)),
        "margin": pl.Series(result.margin),
    }
    if isinstance(result, Evaluation):
        columns["margin_lower"] = pl.Series(result.margin_lower)
    columns |= {
        "distance": pl.Series(result.distance),
        "found_by": pl.Series(result.found_by, dtype=pl.String),
        "evidence": pl.Series(result.evidence, dtype=pl.Enum(EVIDENCE)),
        **({"transform": pl.Series(result.transform, dtype=pl.String)} if result.transform else {}),
        **({} if result.draws is None else {"draws": pl.Series(result.draws)}),
        "forwards": pl.Series(result.spent.forwards),
        "gradients": pl.Series(result.spent.gradients),
        "queries": pl.Series(result.spent.queries),
    }
    return pl.DataFrame(columns)


@dataclass(frozen=True)
class ScanResult:
    """Poison scores of training samples, one row a sample."""

    score: NDArray[np.float64]
    """Higher is more suspicious [n]; comparable within a class."""
    flagged: NDArray[np.bool_]
    p_value: NDArray[np.float64]
    """Calibrated under the null of the detector [n]."""
    label: NDArray[np.int64]
    method: str
    classes: NDArray[np.int64]
    """Class labels [c], ascending."""
    eigenvalues: NDArray[np.float64]
    """Leading eigenvalue of each class's covariance [c]; empty where the detector has none."""
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clean(self) -> NDArray[np.int64]:
        """Samples that are not flagged, ascending: what is left to train on."""
        return np.flatnonzero(~self.flagged)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row a sample: sample, label, score, p_value, flagged."""
        import polars as pl

        return pl.DataFrame(
            {
                "sample": np.arange(len(self.score), dtype=np.int64),
                "label": self.label,
                "score": self.score,
                "p_value": self.p_value,
                "flagged": self.flagged,
            }
        )


@dataclass(frozen=True, eq=False)
class ScanEvidence:
    """What a person looks at beside the scores: one class drawn, and the worst samples."""

    label: int
    """The class drawn: the one with the most flagged samples, else that of the highest score."""
    row: NDArray[np.int64]
    """Some rows of it [m], ascending."""
    embedding: NDArray[np.float32]
    """Where they lie along its two leading directions [m, 2]."""
    top: NDArray[np.int64]
    """The most suspicious rows of all classes [k], the worst first."""
    inputs: NDArray[np.float32]
    """The samples at `top` [k, *shape], where they are inputs of a model; else [0]."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Their range."""


@dataclass(frozen=True)
class Scan:
    """One scan of a run: where it looked, what it found, and the truth where it is known."""

    data: str
    result: ScanResult
    poison: NDArray[np.bool_] | None = None
    """Planted samples [n], where the suite planted them."""
    evidence: ScanEvidence | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Run:
    """A run folder read back: every evaluation and scan, with what identifies them."""

    path: Path
    manifest: Mapping[str, Any]
    """Suite or call, versions, digests, plan; no timings."""
    evaluations: tuple[Evaluation, ...]
    scans: tuple[Scan, ...] = ()
    errors: tuple[str, ...] = ()
    """One line for every shard that failed."""

    @cached_property
    def summary(self) -> pl.DataFrame:
        """One row an evaluation.

        Columns: model, threat, clean, certified, attacked, ci_low, ci_high, open, samples,
        forwards, gradients, queries.
        """
        import polars as pl

        schema: dict[str, pl.DataType] = {"model": pl.String(), "threat": pl.String()}
        for name in ("clean", "certified", "attacked", "ci_low", "ci_high", "open"):
            schema[name] = pl.Float64()
        for name in ("samples", "forwards", "gradients", "queries"):
            schema[name] = pl.Int64()
        rows = []
        for e in self.evaluations:
            low, high = e.bracket.interval
            rows.append(
                {
                    "model": e.model,
                    "threat": e.threat,
                    "clean": e.clean_accuracy,
                    "certified": e.bracket.certified,
                    "attacked": e.bracket.attacked,
                    "ci_low": low,
                    "ci_high": high,
                    "open": e.bracket.open,
                    "samples": e.bracket.total,
                    "forwards": int(e.spent.forwards.sum()),
                    "gradients": int(e.spent.gradients.sum()),
                    "queries": int(e.spent.queries.sum()),
                }
            )
        return pl.DataFrame(rows, schema=schema)
