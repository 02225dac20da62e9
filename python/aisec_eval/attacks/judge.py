"""From findings to flags: thresholds are applied once, to the findings of a whole set.

A flag is one line: a code, a colon, and a sentence that ends with advice. What is only a
consequence of another flag's cause is not raised beside it. The checks are those of AutoAttack
(Croce & Hein 2020, arXiv:2003.01690) and the indicators of attack failure (Pintor et al. 2022,
arXiv:2106.09947). Of the latter, silent success cannot happen here: the point with the smallest
margin is what every search returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..findings import Findings, Stage

COMPARISONS = ("outside-in", "transfer", "queries-beat-gradients")
"""Codes that compare attacks; they assume samples that no attack has chosen."""
FRAGILE = 1e-4
"""Margins closer to zero than this part of the sample's largest logit are fragile."""
SHARE = 0.05
"""Part of the samples from which on a finding is about the model, not about a sample."""
_FEW = 3
"""Samples that one kind of attack must break beyond another's to be worth a line."""
_NEEDS = {"dlr": 3, "dlr-targeted": 4}
"""Classes a loss needs."""


def judge(found: Findings) -> tuple[str, ...]:
    """Return the flags of findings, each once, those about the model first."""
    lines = [*found.notes]
    lines += [
        f"{method} claims more than the clean margin on {_samples(fault.count)} (the first: sample "
        f"{fault.sample}, {fault.text}); not counted as certified; please report it with the model"
        for method, fault in found.contradicted.items()
    ]
    lines += [
        f"{method} failed on {_samples(fault.count)}; they were attacked only "
        f"(the first: {fault.text})"
        for method, fault in found.uncertified.items()
    ]
    lines += _about_the_model(found)
    if not is_randomised(found):
        lines += [
            f"replay: {fault.count} candidate{_s(fault.count)} of {name} not confirmed "
            f"(the first: {fault.text}); not counted as broken"
            for name, fault in found.refused.items()
        ]
    lines += [
        f"the model failed on {count} evaluation{_s(count)}: {message}"
        for message, count in found.failures.items()
    ]
    if found.errors:
        lines.append(
            f"{_samples(found.errors)} could not be evaluated (logits not finite or the "
            "model failed); verdict error, not counted as robust"
        )
    lines += [
        f"the engine failed on {_samples(fault.count)}: verdict error, not counted as robust "
        f"(the first: {fault.text})"
        for fault in found.crashed.values()
    ]
    return tuple(dict.fromkeys(lines))


def is_randomised(found: Findings) -> bool:
    """Return whether asking again about a clean input gave something else."""
    return any(repeat.differs for repeat in found.repeats)


def suspicious(found: Findings) -> bool:
    """Return whether so many samples were not moved that probing some decides about a flag."""
    return found.stuck > SHARE * found.attacked and not (
        is_randomised(found) or _quantised(found) or _softmax(found) or _saturated(found)
    )


def _about_the_model(found: Findings) -> list[str]:
    if found.attacked == 0:
        return []
    if is_randomised(found):
        count = sum(fault.count for fault in found.refused.values())
        refused = f"; {count} candidate{_s(count)} failed a fresh evaluation" if count else ""
        return [
            f"randomised: the same input gives different outputs{refused}: broken means "
            "misclassified more often than not, at 99 % confidence; attack the expectation "
            "(method 'rand', without gradients Square(eot=20)), or fix the model's random state"
        ]
    flags = _few_classes(found)
    if flag := _quantised(found) or _softmax(found) or _saturated(found) or _stuck(found):
        flags.append(flag)
    else:
        flags += _disagreement(found)
        if flag := _unfinished(found):
            flags.append(flag)
    if flag := _fragile(found):
        flags.append(flag)
    return flags


def _few_classes(found: Findings) -> list[str]:
    short = {stage.loss for stage in found.stages if found.classes < _NEEDS.get(stage.loss, 0)}
    return [
        f"few-classes: {loss} needs {_NEEDS[loss]} classes and the model has {found.classes}: "
        "another loss took its place; prefer ce or margin"
        for loss in sorted(short)
    ]


def _quantised(found: Findings) -> str | None:
    """Continuous outputs give every sample a margin of its own; coarse ones repeat a few."""
    if found.levels is None or found.inputs is None:
        return None
    inputs, levels = len(found.inputs), len(found.levels)
    if inputs < 3 or levels > max(1, inputs // 4):
        return None
    return (
        f"quantised-outputs: {found.attacked} samples have only {levels} different "
        f"margin{_s(levels)}: small changes of the input do not show and gradients vanish; attack "
        "the outputs before they are rounded, or labels only"
    )


def _softmax(found: Findings) -> str | None:
    if found.softmax == 0 or found.softmax < found.attacked:
        return None
    return (
        "softmax-output: the outputs are probabilities, whose gradients vanish: attack the "
        "logits before the softmax"
    )


def _saturated(found: Findings) -> str | None:
    """Cross-entropy as written in papers has gradient zero in float32; ours does not saturate."""
    if found.saturated <= SHARE * found.attacked:
        return None
    return (
        f"masked-gradients: on {found.saturated} of {found.attacked} samples the logits are so far "
        "apart that the gradient of cross-entropy is zero in float32: the losses here allow for "
        "that, other tools' figures do not; divide the logits by a temperature"
    )


def _stuck(found: Findings) -> str | None:
    """Gradient attacks made no progress: is there a gradient, and does it lead anywhere at all?"""
    if found.stuck <= SHARE * found.attacked or not found.probes:
        return None
    probes = len(found.probes)
    flat = sum(probe.flat for probe in found.probes)
    if flat > probes / 2:
        return (
            f"zero-gradients: the input gradient vanishes on {flat} of {probes} samples that "
            "gradient attacks could not move: their failure says nothing about robustness; "
            "differentiate through a smooth substitute or use query attacks"
        )
    stuck = sum(probe.stuck for probe in found.probes)
    if stuck > probes / 2:
        return (
            "unconstrained-attack-fails: even without a limit on the perturbation gradients break "
            f"only {probes - stuck} of {probes} samples: they do not lead to errors; use query "
            "attacks or a smooth substitute"
        )
    return None


def _disagreement(found: Findings) -> list[str]:
    """One kind of attack breaks what gradients from the clean input, run before it, could not."""
    flags = []
    inside = [i for i, s in enumerate(found.stages) if s.needs_gradient and not s.from_data]
    later = found.stages[min(inside, default=len(found.stages)) :]
    data = [stage for stage in later if stage.from_data]
    others = [stage for stage in later if stage.from_model]
    queries = [s for s in later if not s.needs_gradient and not s.from_model]
    broken = sum(stage.broken for stage in data)
    if broken >= max(_FEW, SHARE * found.attacked):
        flags.append(
            f"outside-in: {_names(data)} from inputs of other classes broke {broken} of "
            f"{found.attacked} samples that gradients from the clean input had left: they mislead "
            "near the data; keep starts from data in every evaluation"
        )
    broken = sum(stage.broken for stage in others)
    if broken >= max(_FEW, SHARE * found.attacked):
        flags.append(
            f"transfer: examples that fool another model broke {broken} of {found.attacked} "
            "samples that attacks with gradients had left: the gradients mislead; keep transfer in "
            "every evaluation"
        )
    broken = sum(stage.broken for stage in queries)
    if broken >= max(_FEW, SHARE * found.attacked):
        flags.append(
            f"queries-beat-gradients: {_names(queries)} broke {broken} of {found.attacked} samples "
            "that attacks with gradients had left: the gradients mislead; trust query attacks and "
            "raise their budget"
        )
    return flags


def _unfinished(found: Findings) -> str | None:
    if found.unfinished < max(_FEW, SHARE * found.open):
        return None
    return (
        f"incomplete-optimisation: on {found.unfinished} of {found.open} samples that withstood, "
        "the margin still fell by more than 5 % in the last 10 steps of every gradient attack: "
        "they might not withstand longer ones; raise the number of steps"
    )


def _names(stages: Sequence[Stage]) -> str:
    return ", ".join(dict.fromkeys(stage.name for stage in stages))


def _fragile(found: Findings) -> str | None:
    if found.fragile == 0:
        return None
    return (
        f"fragile-margins: {found.fragile} of {found.broken} adversarial examples have a margin "
        f"below {FRAGILE:g} of the largest logit: other hardware may decide them otherwise; do not "
        "lean on differences this small"
    )


def _samples(count: int) -> str:
    return f"{count} sample{_s(count)}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
