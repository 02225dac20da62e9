"""Attacks and methods by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import InputError
from .apgd import APGD
from .carlini_wagner import CarliniWagner
from .ddn import DDN
from .deepfool import DeepFool
from .fmn import FMN
from .sigma_zero import SigmaZero
from .square import Square

if TYPE_CHECKING:
    from .base import Attack

ATTACKS: dict[str, Attack] = {
    "apgd-ce": APGD(),
    "apgd-dlr": APGD(loss="dlr"),
    "apgd-margin": APGD(loss="margin"),
    "square": Square(),
    "fmn": FMN(),
    "ddn": DDN(),
    "sigma-zero": SigmaZero(),
    "carlini-wagner": CarliniWagner(),
    "deepfool": DeepFool(),
}
"""Single attacks with their defaults."""

METHODS: dict[str, tuple[Attack, ...]] = {"fast": (APGD(), Square())}
"""Attacks run one after another, each on what the ones before have not broken."""


def resolve(method: str | Attack | Iterable[str | Attack]) -> tuple[Attack, ...]:
    """Return the attacks of a method: a method's or an attack's name, an attack, or a list.

    Raises:
        InputError: an unknown name, or an empty list.
    """
    if isinstance(method, str):
        if method in METHODS:
            return METHODS[method]
        return (_named(method),)
    if not isinstance(method, Iterable):
        return (_checked(method),)
    attacks = tuple(_named(a) if isinstance(a, str) else _checked(a) for a in method)
    if not attacks:
        raise InputError("no attacks given; name one, e.g. method='fast'")
    return attacks


def _named(name: str) -> Attack:
    if name in ATTACKS:
        return ATTACKS[name]
    if name == "standard":
        raise InputError(
            "method 'standard' is reserved for exact AutoAttack, which is not available yet; "
            "use 'fast'"
        )
    known = ", ".join([*METHODS, *ATTACKS])
    raise InputError(f"attack {name!r} is unknown; choose one of {known}, or pass attack objects")


def _checked(attack: Attack) -> Attack:
    needed = ("name", "needs_gradient", "restarts", "unsupported", "run")
    if isinstance(attack, type) or not all(hasattr(attack, part) for part in needed):
        raise InputError(f"{attack!r} is not an attack; pass a name or e.g. attacks.APGD(steps=40)")
    return attack
