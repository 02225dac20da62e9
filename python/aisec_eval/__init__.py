"""How often can an attacker win? Brackets certified <= robust <= attacked, with evidence.

Everything public is importable from here; each name is loaded when it is first used, so that
importing the package pulls in neither JAX nor Ray nor polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import attacks, certifiers, datasets, detectors, errors, models
    from ._core import __version__
    from .attacks import attack
    from .bracket import Bracket
    from .certifiers.certify import certify
    from .certifiers.verify import verify
    from .curve import robustness_curve
    from .datasets import Dataset, load_dataset
    from .detectors import scan
    from .errors import (
        AisecError,
        CapabilityError,
        DatasetError,
        EndpointError,
        IncompleteRunError,
        InputError,
        ModelImportError,
        RunError,
        SuiteError,
        UnsafeArtifactError,
        UnsupportedOperationError,
    )
    from .evaluation import evaluate
    from .features import Feature, OneHot
    from .models import Model, load_model
    from .results import (
        BROKEN,
        CERTIFIED,
        ERROR,
        MISCLASSIFIED,
        OPEN,
        VERDICTS,
        AttackResult,
        CertifyResult,
        Counterexample,
        CurveResult,
        Evaluation,
        Run,
        ScanResult,
        VerifyResult,
    )
    from .runs import load_run
    from .suite import run
    from .threats import (
        L0,
        L1,
        L2,
        Box,
        Corruptions,
        Frame,
        Linf,
        Patch,
        Spatial,
        Tabular,
        ThreatModel,
    )

__all__ = [
    "BROKEN",
    "CERTIFIED",
    "ERROR",
    "L0",
    "L1",
    "L2",
    "MISCLASSIFIED",
    "OPEN",
    "VERDICTS",
    "AisecError",
    "AttackResult",
    "Box",
    "Bracket",
    "CapabilityError",
    "CertifyResult",
    "Corruptions",
    "Counterexample",
    "CurveResult",
    "Dataset",
    "DatasetError",
    "EndpointError",
    "Evaluation",
    "Feature",
    "Frame",
    "IncompleteRunError",
    "InputError",
    "Linf",
    "Model",
    "ModelImportError",
    "OneHot",
    "Patch",
    "Run",
    "RunError",
    "ScanResult",
    "Spatial",
    "SuiteError",
    "Tabular",
    "ThreatModel",
    "UnsafeArtifactError",
    "UnsupportedOperationError",
    "VerifyResult",
    "__version__",
    "attack",
    "attacks",
    "certifiers",
    "certify",
    "datasets",
    "detectors",
    "errors",
    "evaluate",
    "load_dataset",
    "load_model",
    "load_run",
    "models",
    "robustness_curve",
    "run",
    "scan",
    "verify",
]

_HOME = {
    "bracket": ("Bracket",),
    "_core": ("__version__",),
    "attacks": ("attack",),
    "certifiers.certify": ("certify",),
    "certifiers.verify": ("verify",),
    "curve": ("robustness_curve",),
    "datasets": ("Dataset", "load_dataset"),
    "detectors": ("scan",),
    "errors": (
        "AisecError",
        "CapabilityError",
        "DatasetError",
        "EndpointError",
        "IncompleteRunError",
        "InputError",
        "ModelImportError",
        "RunError",
        "SuiteError",
        "UnsafeArtifactError",
        "UnsupportedOperationError",
    ),
    "evaluation": ("evaluate",),
    "models": ("Model", "load_model"),
    "results": (
        "BROKEN",
        "CERTIFIED",
        "ERROR",
        "MISCLASSIFIED",
        "OPEN",
        "VERDICTS",
        "AttackResult",
        "CertifyResult",
        "Counterexample",
        "CurveResult",
        "Evaluation",
        "Run",
        "ScanResult",
        "VerifyResult",
    ),
    "runs": ("load_run",),
    "suite": ("run",),
    "features": ("Feature", "OneHot"),
    "threats": (
        "L0",
        "L1",
        "L2",
        "Box",
        "Corruptions",
        "Frame",
        "Linf",
        "Patch",
        "Spatial",
        "Tabular",
        "ThreatModel",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_ROOMS = frozenset({"attacks", "certifiers", "datasets", "detectors", "errors", "models"})


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name in _MODULE_OF:
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
