"""Does planted poison work? Success and clean accuracy, measured on what the user trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bracket import wilson
from ...errors import DatasetError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .base import Poisoned

    Model = Callable[[NDArray[np.float32]], Any]
    """Inputs [n, *input] to logits or scores [n, classes], or to labels [n]."""
    Trainer = Callable[[NDArray[np.float32], NDArray[np.int64], int], Model]
    """Inputs, labels and a seed to a trained model."""


@dataclass(frozen=True)
class Measurement:
    """How often a planted attack succeeds, and what it costs in clean accuracy."""

    attack: str
    hits: int
    """Successes: inputs with the trigger classified as the target (of inputs of other classes);
    goals classified as intended; wrong labels that the model trained without them contradicts."""
    trials: int
    clean_accuracy: float
    """On clean test data, of the models trained on the poisoned set (mean over seeds)."""
    baseline_hits: int | None
    """The same count of models trained without the poison; None where there are none. Of flipped
    labels: those that the models trained with them contradict."""
    baseline_accuracy: float | None
    seeds: tuple[int, ...]
    """Of the trainings; empty where a model was given."""
    flips: bool = False
    """Whether labels were flipped, and success is that they are wrong."""

    @property
    def success(self) -> float:
        """The attack success rate."""
        return self.hits / self.trials

    @property
    def baseline_success(self) -> float | None:
        """Share of hits without poison."""
        return None if self.baseline_hits is None else self.baseline_hits / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the success rate."""
        return wilson(self.hits, self.trials)

    def refusal(self, success: float = 0.9, accuracy_loss: float = 0.03) -> str | None:
        """Return why the planted attack is no test case, in one line, or None.

        Args:
            success: least success rate.
            accuracy_loss: most clean accuracy that it may cost, where a baseline is known.
        """
        rate = f"{self.hits} of {self.trials}"
        if self.success < success:
            return f"{self.attack} does not work: success on {rate}, {success:.0%} required"
        if not self.flips and self.baseline_hits is not None:
            base = self.baseline_hits
            if wilson(base, self.trials)[1] >= self.interval[0]:
                return f"{self.attack} does nothing: success on {rate}, without poison on {base}"
        if self.baseline_accuracy is not None:
            lost = self.baseline_accuracy - self.clean_accuracy
            if lost > accuracy_loss:
                return (
                    f"{self.attack} shows: clean accuracy falls from {self.baseline_accuracy:.1%} "
                    f"to {self.clean_accuracy:.1%}, at most {accuracy_loss:.1%} may be lost"
                )
        return None

    def require(self, success: float = 0.9, accuracy_loss: float = 0.03) -> Measurement:
        """Return itself, or refuse the planted attack as a test case.

        Raises:
            DatasetError: it does not reach the success rate, or costs too much accuracy.
        """
        reason = self.refusal(success, accuracy_loss)
        if reason is not None:
            raise DatasetError(f"{reason}; not a test case")
        return self


def measure(
    poisoned: Poisoned,
    x_test: NDArray[np.float32],
    y_test: NDArray[np.int64],
    *,
    trainer: Trainer | None = None,
    model: Model | None = None,
    seeds: Sequence[int] = (0,),
    baseline: bool = True,
) -> Measurement:
    """Train on a poisoned set, or take a model that was, and count what the attack reaches.

    Args:
        poisoned: the training set.
        x_test: clean inputs [m, *input].
        y_test: their labels [m].
        trainer: `trainer(x, y, seed)` returns a model: a function of inputs [n, *input] to logits
            [n, classes] or labels [n].
        model: such a model, already trained on the set; instead of a trainer.
        seeds: one training for each; counts add up, accuracies are averaged.
        baseline: with a trainer, whether to train on the clean set, too.

    Raises:
        InputError: neither or both of trainer and model are given, arrays do not fit, or the
            success of flipped labels is asked for without a baseline.
    """
    if (trainer is None) == (model is None):
        raise InputError("measure needs either a trainer or a trained model")
    if len(x_test) != len(y_test) or len(y_test) == 0 or len(seeds) == 0:
        raise InputError("measure needs test inputs, a label for each, and at least one seed")
    flips = poisoned.trigger is None and poisoned.goal_x is None
    if flips and (trainer is None or not baseline):
        raise InputError(
            f"{poisoned.attack}: whether labels are wrong is judged by a model trained without "
            "them; give a trainer, with baseline=True"
        )
    used = tuple(seeds) if trainer is not None else ()
    if trainer is not None:
        models = [trainer(poisoned.x, poisoned.y, seed) for seed in used]
        clean = poisoned.clean_x if baseline else None
        without = [] if clean is None else [trainer(clean, poisoned.true_labels, s) for s in used]
    else:
        models, without = [m for m in (model,) if m is not None], []
    counts = [_hits(poisoned, one, x_test, y_test) for one in models]
    base = [_hits(poisoned, one, x_test, y_test) for one in without]
    if flips:
        counts, base = base, counts
    trials = sum(total for _, total in counts)
    if trials == 0:
        raise InputError(f"{poisoned.attack}: no test sample is of another class than the target")
    return Measurement(
        poisoned.attack,
        sum(hits for hits, _ in counts),
        trials,
        _accuracy(models, x_test, y_test),
        sum(hits for hits, _ in base) if base else None,
        _accuracy(without, x_test, y_test) if without else None,
        used,
        flips,
    )


def _hits(
    poisoned: Poisoned, model: Model, x: NDArray[np.float32], y: NDArray[np.int64]
) -> tuple[int, int]:
    if poisoned.goal_x is not None and poisoned.goal_y is not None:
        reached = predict(model, poisoned.goal_x) == poisoned.goal_y
    elif poisoned.trigger is not None:
        others = x[y != poisoned.target]
        reached = predict(model, poisoned.apply(others)) == poisoned.target
    else:
        rows = poisoned.indices
        reached = predict(model, poisoned.x[rows]) != poisoned.y[rows]
    return int(reached.sum()), len(reached)


def _accuracy(models: list[Model], x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    return float(np.mean([np.mean(predict(model, x) == y) for model in models]))


def predict(model: Model, x: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the labels [n] that a model gives.

    Raises:
        InputError: it returns neither labels [n] nor scores [n, classes].
    """
    if len(x) == 0:
        return np.empty(0, dtype=np.int64)
    said = np.asarray(model(np.asarray(x, dtype=np.float32)))
    if said.ndim == 2 and len(said) == len(x):
        return np.asarray(np.argmax(said, axis=1), dtype=np.int64)
    if said.shape == (len(x),) and np.issubdtype(said.dtype, np.integer):
        return np.asarray(said, dtype=np.int64)
    raise InputError(
        f"the model returns {said.dtype} {list(said.shape)} for {len(x)} inputs; labels [n] or "
        "logits [n, classes] are needed"
    )
