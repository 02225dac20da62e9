"""Attacks and methods by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ..errors import InputError
from ..threats import Corruptions, Transformation
from . import autoattack, custom
from .apgd import APGD, APGDT
from .carlini_wagner import CarliniWagner
from .corruptions import CommonCorruptions
from .ddn import DDN
from .deepfool import DeepFool
from .evolution import Evolution
from .fab import FAB, FABT
from .fmn import FMN
from .hop_skip_jump import HopSkipJump
from .portfolio import fast, light
from .rays import RayS
from .sigma_zero import SigmaZero
from .sparse_rs import SparseRS
from .spatial import SpatialGrid, WorstOfK
from .square import Square

if TYPE_CHECKING:
    from ..threats import ThreatModel
    from .base import Attack

ATTACKS: dict[str, Attack] = {
    "apgd-ce": APGD(),
    "apgd-dlr": APGD(loss="dlr"),
    "apgd-margin": APGD(loss="margin"),
    "apgd-t": APGDT(),
    "fab": FAB(),
    "fab-t": FABT(),
    "square": Square(),
    "sparse-rs": SparseRS(),
    "evolution": Evolution(),
    "hop-skip-jump": HopSkipJump(),
    "rays": RayS(),
    "fmn": FMN(),
    "ddn": DDN(),
    "sigma-zero": SigmaZero(),
    "carlini-wagner": CarliniWagner(),
    "deepfool": DeepFool(),
    "spatial-grid": SpatialGrid(),
    "worst-of-k": WorstOfK(),
    "common-corruptions": CommonCorruptions(),
}
"""Single attacks with their defaults."""

METHODS: Mapping[str, Callable[[ThreatModel], tuple[Attack, ...]]] = {
    "fast": fast,
    "light": light,
    "standard": autoattack.standard,
    "plus": autoattack.plus,
    "rand": autoattack.rand,
}
"""Attacks run one after another, each on what the ones before have not broken."""


def resolve(
    method: str | Attack | Iterable[str | Attack], threat: ThreatModel
) -> tuple[Attack, ...]:
    """Return the attacks of a method: a method's or an attack's name, an attack, or a list.

    Raises:
        InputError: an unknown name, or an empty list.
    """
    if isinstance(method, str):
        if method in METHODS and isinstance(threat, Transformation):
            return _of_transformations(method, threat)
        if method in METHODS:
            return METHODS[method](threat)
        return (named(method),)
    if not isinstance(method, Iterable):
        return (checked(method),)
    attacks = tuple(named(a) if isinstance(a, str) else checked(a) for a in method)
    if not attacks:
        raise InputError("no attacks given; name one, e.g. method='fast'")
    return attacks


def _of_transformations(method: str, threat: Transformation) -> tuple[Attack, ...]:
    """Return what a method is under a threat model of transformations."""
    if method not in ("fast", "light"):
        raise InputError(
            f"method={method!r} is AutoAttack's and for norm balls, not {threat.norm}; use 'fast'"
        )
    if isinstance(threat, Corruptions):
        return (CommonCorruptions(),)
    return (WorstOfK(),) if method == "light" else (WorstOfK(), SpatialGrid())


def named(name: str) -> Attack:
    """Return the attack of this name, with its defaults.

    Raises:
        InputError: an unknown name.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    if name in (offered := custom.installed()):
        return checked(custom.load(offered[name]))
    known = ", ".join([*METHODS, *ATTACKS, *offered])
    raise InputError(f"attack {name!r} is unknown; choose one of {known}, or pass attack objects")


def checked(attack: Any) -> Attack:
    """Return an attack object as it is, and one of the user's own wrapped.

    Raises:
        InputError: neither, or its name is that of another attack.
    """
    needed = ("name", "needs_gradient", "restarts", "unsupported", "run")
    if not isinstance(attack, type) and all(hasattr(attack, part) for part in needed):
        return cast("Attack", attack)
    own = custom.wrap(attack)
    if own is None:
        raise InputError(f"{attack!r} is not an attack; pass a name or e.g. attacks.APGD(steps=40)")
    if own.name in ATTACKS or own.name in METHODS:
        raise InputError(
            f"an attack named {own.name!r} exists; give {type(attack).__name__} its own"
        )
    return own
