"""Data that no constant of a detector was chosen on: planted attacks, and clean sets that are odd.

Poisoned sets are features of small networks trained on the poisoned images. Clean ones are drawn:
each family is a way in which honest features differ from Gaussian classes of one shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aisec_eval.attacks.poisoning import Network, Poisoned

    Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Planted:
    """One poisoned training set: which images, which attack, which network."""

    attack: str
    rate: float
    seed: int
    target: int = 0
    data: str = "mnist"
    rows: int = 5000
    channels: tuple[int, ...] = (16, 32)
    hidden: tuple[int, ...] = (64,)
    noise: float = 0.0
    """Share of labels that are wrong at random, beside the attack."""
    epochs: int = 10

    @property
    def name(self) -> str:
        """Names it in tables."""
        noise = f"+flips-{100 * self.noise:g}" if self.noise else ""
        return (
            f"{self.data}-{self.attack}-{100 * self.rate:g}{noise}-n{self.rows}-"
            f"w{self.hidden[-1]}-s{self.seed}"
        )


@dataclass(frozen=True, eq=False)
class Features:
    """What a detector is given, and the truth."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    poison: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    """Labels that are wrong beside the attack."""
    target: int
    """Class a backdoor leads to; -1 where there is none."""
    success: float
    """Of the attack on the network that the features are of; NaN where there is no trigger."""
    accuracy: float


PLANTED = (
    Planted("badnets", 0.005, 31, 4, rows=8000),
    Planted("badnets", 0.01, 32, 7, hidden=(128,), channels=(8, 16)),
    Planted("badnets", 0.02, 33, 2, hidden=(32,)),
    Planted("badnets", 0.05, 34, 9, hidden=(256, 100), channels=()),
    Planted("badnets", 0.10, 35, 1),
    Planted("badnets", 0.20, 36, 6, hidden=(48,)),
    Planted("badnets", 0.05, 37, 3, "digits", 1797, (), (64,), epochs=40),
    Planted("badnets", 0.10, 38, 8, "digits", 1797, (16,), (48,), epochs=40),
    Planted("one-source", 0.02, 39, 5),
    Planted("one-source", 0.05, 40, 0, hidden=(96,), channels=(8, 16)),
    Planted("blended", 0.01, 41, 3, rows=8000),
    Planted("blended", 0.05, 42, 8, hidden=(128,)),
    Planted("blended", 0.10, 43, 6, hidden=(40,), channels=(12, 24)),
    Planted("blended", 0.05, 44, 1, "digits", 1797, (), (100,), epochs=40),
    Planted("wanet", 0.05, 45, 5, rows=8000),
    Planted("wanet", 0.10, 46, 2, rows=8000, hidden=(128,)),
    Planted("wanet", 0.20, 47, 7, hidden=(48,)),
    Planted("sig", 0.05, 48, 4, epochs=15),
    Planted("sig", 0.08, 49, 9, hidden=(128,), epochs=15),
    Planted("label-consistent", 0.03, 50, 1),
    Planted("label-consistent", 0.06, 51, 3, hidden=(100,)),
    Planted("gradient-matching", 0.02, 52, 6, rows=3000),
    Planted("flips", 0.01, 53, rows=8000),
    Planted("flips", 0.05, 54, hidden=(128,)),
    Planted("flips", 0.20, 55, hidden=(32,)),
    Planted("flips", 0.10, 56, 0, "digits", 1797, (), (64,), epochs=20),
    Planted("pairs", 0.05, 57),
    Planted("badnets", 0.05, 58, 2, noise=0.05),
    Planted("badnets", 0.05, 59, 8, noise=0.10, hidden=(100,)),
    Planted("badnets", 0.02, 60, 3, noise=0.20, rows=8000),
    Planted("blended", 0.05, 61, 7, noise=0.10),
    Planted("wanet", 0.10, 62, 0, noise=0.05, rows=8000),
    Planted("none", 0.0, 63),
    Planted("none", 0.0, 64, hidden=(32,), channels=(8,)),
    Planted("none", 0.0, 65, 0, "digits", 1797, (), (64,), epochs=40),
    Planted("none", 0.0, 66, hidden=(256, 100), channels=()),
)


@cache
def images(data: str, reference: Path) -> Labelled:
    """Images [n, 1, height, width] in [0, 1], and their labels."""
    if data == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        x = found.images[:, None] / 16
        return x.astype(np.float32), found.target.astype(np.int64)
    with np.load(reference / "images" / "mnist_test.npz") as found:
        return found["x"][:, None].astype(np.float32) / 255, found["y"].astype(np.int64)


def features(spec: Planted, reference: Path) -> Features:
    """Poison, train, and read the last layer but one."""
    from aisec_eval.attacks.poisoning import LabelFlip, ReferenceTrainer

    x, y = images(spec.data, reference)
    rows = np.random.default_rng(spec.seed).permutation(len(y))[: spec.rows]
    x, y = x[rows], y[rows]
    trainer = ReferenceTrainer(spec.hidden, spec.channels, epochs=spec.epochs)
    planted = plant(spec, x, y, trainer)
    if planted is None:
        x_given, y_given, poison = x, y, np.zeros(len(y), dtype=np.bool_)
    else:
        x_given, y_given, poison = planted.x, planted.y, planted.poison
    wrong = np.zeros(len(y), dtype=np.bool_)
    if spec.noise:
        spoilt = LabelFlip().poison(x_given, y_given, rate=spec.noise, seed=spec.seed + 1000)
        wrong = spoilt.poison & ~poison
        y_given = np.where(wrong, spoilt.y, y_given)
    network = trainer(x_given, y_given, spec.seed)
    target = spec.target if planted is not None and planted.trigger is not None else -1
    success = np.nan
    if planted is not None and planted.trigger is not None:
        others = y == (spec.target + 1) % 10 if spec.attack == "one-source" else y != spec.target
        said = network(planted.apply(x[others][:1000])).argmax(1)
        success = float((said == spec.target).mean())
    accuracy = float((network(x).argmax(1) == y).mean())
    return Features(
        last_but_one(network, x_given), y_given, poison, wrong, target, success, accuracy
    )


def plant(
    spec: Planted, x: NDArray[np.float32], y: NDArray[np.int64], trainer: Any
) -> Poisoned | None:
    """Plant the attack; None for a clean set."""
    from aisec_eval.attacks import poisoning as p

    target, given = spec.target, {"rate": spec.rate, "seed": spec.seed}
    size = 2 if spec.data == "digits" else 3
    match spec.attack:
        case "none":
            return None
        case "badnets":
            return p.BadNets(target, size=size).poison(x, y, **given)
        case "one-source":
            # The trigger works on one class alone: others carry it and keep their label.
            source = (target + 1) % 10
            attack = p.BadNets(target)
            inside = np.flatnonzero((y == source) | (y == target))
            rate = round(spec.rate * len(y)) / len(inside)
            done = attack.poison(x[inside], y[inside], rate=rate, seed=spec.seed)
            x_all, y_all, poison = x.copy(), y.copy(), np.zeros(len(y), dtype=np.bool_)
            x_all[inside], y_all[inside], poison[inside] = done.x, done.y, done.poison
            others = np.flatnonzero((y != source) & (y != target))[::20]
            x_all[others] = done.apply(x_all[others])
            return replace(done, x=x_all, y=y_all, poison=poison, true_labels=y)
        case "blended":
            return p.Blended(target).poison(x, y, **given)
        case "wanet":
            return p.WaNet(target, strength=1.0).poison(x, y, **given)
        case "sig":
            return p.SIG(target, delta=60 / 255).poison(x, y, **given)
        case "label-consistent":
            clean = trainer(x, y, spec.seed + 500)
            return p.LabelConsistent(target, eps=80 / 255).poison(x, y, surrogate=clean, **given)
        case "gradient-matching":
            clean = trainer(x, y, spec.seed + 500)
            goals = x[y == (target + 1) % 10][:1]
            attack = p.GradientMatching(target, eps=32 / 255, steps=100, restarts=2)
            return attack.poison(x, y, surrogate=clean, goals=goals, **given)
        case "flips" | "pairs":
            kind = "random" if spec.attack == "flips" else "pairwise"
            return p.LabelFlip(kind).poison(x, y, **given)
    raise ValueError(spec.attack)


def last_but_one(network: Network, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features that the last layer of a network reads [n, width]."""
    import jax

    # The trainer's network is affine layers with ReLU between: without the last one.
    first = sum(weight.ndim == 4 for weight, _ in network.params)
    from aisec_eval.attacks.poisoning.network import Network as Rebuilt
    from aisec_eval.attacks.poisoning.network import _architecture

    dense = len(network.params) - first - 1
    body = Rebuilt(_architecture(first, dense), network.params[:-1])
    return np.asarray(jax.nn.relu(body(x)))


# ---------------------------------------------------------------------------------------------
# Clean sets


def _sizes(random: np.random.Generator, n: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    return random.choice(len(shares), n, p=shares / shares.sum())


def _gauss(
    random: np.random.Generator,
    n: int = 4000,
    classes: int = 10,
    d: int = 24,
    shares: NDArray[np.float64] | None = None,
    apart: float = 1.6,
) -> Labelled:
    y = _sizes(random, n, np.ones(classes) if shares is None else shares)
    centres = apart * random.normal(size=(classes, d))
    return (centres[y] + random.normal(size=(n, d))).astype(np.float32), y


def _mixed(random: np.random.Generator, d: int) -> NDArray[np.float64]:
    """A linear map with a spread of singular values of two powers of ten."""
    turn, _ = np.linalg.qr(random.normal(size=(d, d)))
    back, _ = np.linalg.qr(random.normal(size=(d, d)))
    mixed: NDArray[np.float64] = (turn * np.geomspace(3, 0.03, d)) @ back
    return mixed


def heavy(random: np.random.Generator, freedom: float = 3.0) -> Labelled:
    """Student's t."""
    x, y = _gauss(random)
    noise = random.normal(size=x.shape)
    noise *= np.sqrt(freedom / random.chisquare(freedom, (len(y), 1)))
    centres = np.stack([x[y == c].mean(0) for c in range(10)])
    return (centres[y] + noise).astype(np.float32), y


def multimodal(random: np.random.Generator) -> Labelled:
    """Every class of one to five kinds, of uneven sizes."""
    x, y = _gauss(random)
    for c in range(10):
        kinds = int(random.integers(1, 6))
        kind = random.choice(kinds, (y == c).sum(), p=random.dirichlet(np.ones(kinds)))
        x[y == c] += (1.5 * random.normal(size=(kinds, 24))[kind]).astype(np.float32)
    return x, y


def one_bimodal(random: np.random.Generator, share: float = 0.25) -> Labelled:
    """One class of two kinds, the others of one."""
    x, y = _gauss(random)
    part = (y == random.integers(10)) & (random.random(len(y)) < share)
    x[part] += (1.3 * random.normal(size=24)).astype(np.float32)
    return x, y


def superclass(random: np.random.Generator) -> Labelled:
    """One label for two classes of the same kind as the others."""
    x, y = _gauss(random, classes=11)
    y[y == 10] = random.integers(10)
    return x, y


def shapes(random: np.random.Generator) -> Labelled:
    """Every class with a covariance of its own."""
    x, y = _gauss(random)
    centres = np.stack([x[y == c].mean(0) for c in range(10)])
    for c in range(10):
        own = (x[y == c] - centres[c]) @ (np.eye(24) + 0.35 * random.normal(size=(24, 24)))
        x[y == c] = centres[c] + own
    return x, y


def wide_class(random: np.random.Generator) -> Labelled:
    """One class that varies twice as much as the others."""
    x, y = _gauss(random)
    c = random.integers(10)
    x[y == c] = 2 * x[y == c] - x[y == c].mean(0)
    return x, y


def curved(random: np.random.Generator) -> Labelled:
    """Classes along curves: skewed, dependent features."""
    x, y = _gauss(random)
    return np.concatenate([x[:, :12], x[:, :12] ** 2 / 3, np.tanh(x[:, 12:])], 1), y


def log_normal(random: np.random.Generator) -> Labelled:
    """Positive, skewed features."""
    x, y = _gauss(random)
    return np.exp(0.5 * x), y


def rectified(random: np.random.Generator) -> Labelled:
    """ReLU of random features: half of them zero."""
    x, y = _gauss(random)
    return np.maximum(x @ random.normal(size=(24, 64)).astype(np.float32) / 4 - 0.5, 0), y


def sparse(random: np.random.Generator) -> Labelled:
    """ReLU with four fifths zeros, and dead features."""
    x, y = _gauss(random)
    x = np.maximum(x @ random.normal(size=(24, 100)).astype(np.float32) / 4 - 1.5, 0)
    x[:, ::7] = 0
    return x, y


def bits(random: np.random.Generator) -> Labelled:
    """Features of one bit, beside real ones: rare in one class or several."""
    x, y = _gauss(random)
    chance = random.beta(0.3, 0.8, size=(10, 12))
    return np.concatenate([x, 3 * (random.random((len(y), 12)) < chance[y])], 1).astype(
        np.float32
    ), y


def only_bits(random: np.random.Generator) -> Labelled:
    """Nothing but bits."""
    y = random.integers(0, 8, 4000)
    chance = random.beta(0.4, 0.4, size=(8, 40))
    return (random.random((4000, 40)) < chance[y]).astype(np.float32), y


def counts(random: np.random.Generator) -> Labelled:
    """Poisson counts, most of them zero."""
    y = random.integers(0, 8, 4000)
    rate = random.gamma(0.4, 1.5, size=(8, 50))
    return random.poisson(rate[y]).astype(np.float32), y


def unbalanced(random: np.random.Generator) -> Labelled:
    """Classes of very different sizes."""
    return _gauss(random, n=5000, shares=random.dirichlet(np.ones(10)) + 0.01)


def hundredth(random: np.random.Generator) -> Labelled:
    """Class imbalance of 1 to 100."""
    return _gauss(random, n=5000, shares=np.geomspace(1, 0.01, 10))


def duplicates(random: np.random.Generator) -> Labelled:
    """A fifth of the samples are near copies, of a few samples many."""
    x, y = _gauss(random)
    rows = random.integers(0, len(y), 800)
    rows[:300] = random.choice(len(y), 3)[random.integers(0, 3, 300)]
    again = x[rows] + 1e-3 * random.normal(size=(800, 24)).astype(np.float32)
    return np.concatenate([x, again]), np.concatenate([y, y[rows]])


def correlated(random: np.random.Generator) -> Labelled:
    """Features that depend on each other almost wholly."""
    x, y = _gauss(random, d=32)
    return (x @ _mixed(random, 32)).astype(np.float32), y


def overlapping(random: np.random.Generator) -> Labelled:
    """Classes that are hard to tell apart, some pairs more than others."""
    x, y = _gauss(random, apart=0.5)
    x[y == 1] += x[y == 0].mean(0) - x[y == 1].mean(0)
    return x, y


def small(random: np.random.Generator, n: int = 300) -> Labelled:
    """A few hundred samples."""
    return _gauss(random, n=n, classes=int(random.integers(3, 8)), d=16)


def two(random: np.random.Generator) -> Labelled:
    """Two classes, each of several kinds."""
    x, y = _gauss(random, n=3000, classes=6)
    return x, y % 2


def many(random: np.random.Generator) -> Labelled:
    """A hundred classes."""
    return _gauss(random, n=5000, classes=100, d=48)


def twenty(random: np.random.Generator) -> Labelled:
    """Twenty classes of heavy tails and uneven sizes."""
    x, y = _gauss(random, n=5000, classes=20, shares=random.dirichlet(2 * np.ones(20)) + 0.01)
    noise = random.laplace(size=x.shape) * random.uniform(0.5, 1.5, size=(20, 1))[y]
    return (x + noise).astype(np.float32), y


def noisy(random: np.random.Generator) -> Labelled:
    """Classes of different scatter within, on a common subspace of nuisance."""
    x, y = _gauss(random)
    nuisance = random.standard_t(4, size=(len(y), 4)) @ (2 * random.normal(size=(4, 24)))
    return (x + nuisance * random.uniform(0.3, 1.2, size=10)[y][:, None]).astype(np.float32), y


CLEAN: dict[str, Callable[[np.random.Generator], Labelled]] = {
    "gaussian": _gauss,
    "heavy": heavy,
    "multimodal": multimodal,
    "one-bimodal": one_bimodal,
    "superclass": superclass,
    "shapes": shapes,
    "wide-class": wide_class,
    "curved": curved,
    "log-normal": log_normal,
    "rectified": rectified,
    "sparse": sparse,
    "bits": bits,
    "only-bits": only_bits,
    "counts": counts,
    "unbalanced": unbalanced,
    "hundredth": hundredth,
    "duplicates": duplicates,
    "correlated": correlated,
    "overlapping": overlapping,
    "small": small,
    "two": two,
    "many": many,
    "twenty": twenty,
    "noisy": noisy,
}
