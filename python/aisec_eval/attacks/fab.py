"""FAB: minimally distorted adversarial examples by steps to the linearised boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._validate import check_count
from .engine import NativeAttack
from .targets import TARGETS, Targeted

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class FAB(NativeAttack):
    """Fast adaptive boundary attack (Croce & Hein 2020, arXiv:1907.02044), untargeted.

    Linf, L2 and L1, constants as in AutoAttack; the first run begins at the clean input, further
    ones at random within half the radius. A sample is left as soon as an example within the
    radius is found.

    Args:
        steps: iterations; each costs a gradient a class besides the label, and one evaluation.
        restarts: runs on the samples not yet broken.

    Raises:
        InputError: a count below 1.
    """

    minimum_norm: ClassVar[bool] = True
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("restarts", self.restarts)

    @property
    def name(self) -> str:
        """The name in results: `fab`."""
        return "fab"

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {"steps": self.steps, "random_start": True}


@dataclass(frozen=True)
class FABT(Targeted):
    """FAB-T: FAB towards one class after another, by their rank at the clean input.

    An iteration costs one gradient, whatever the number of classes. With fewer classes than
    `targets` + 1 the runs left over do nothing.

    Args:
        steps: iterations towards each class; each costs a gradient and one more evaluation.
        targets: classes tried on the samples not yet broken.

    Raises:
        InputError: a count below 1.
    """

    minimum_norm: ClassVar[bool] = True
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    steps: int = 100
    targets: int = TARGETS

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("targets", self.targets)

    @property
    def name(self) -> str:
        """The name in results: `fab-t`."""
        return "fab-t"

    @property
    def options(self) -> Mapping[str, Any]:
        """The parameters of the native search."""
        return {"steps": self.steps}
