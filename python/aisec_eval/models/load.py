"""`load_model`: from what the user has to a `Model`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import InputError, ModelImportError, UnsafeArtifactError

from .base import Model
from .checks import Options
from .endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODE = frozenset(
    (
        *(".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".bin", ".mar"),
        *(".h5", ".keras", ".dill", ".cloudpickle"),
    )
)


def load_model(
    source: Any,
    *,
    input_shape: Sequence[int] | None = None,
    bounds: tuple[float, float] | None = None,
    name: str | None = None,
    samples: Any = None,
    labels: Any = None,
    endpoint: Endpoint | None = None,
) -> Model:
    """Load a classifier and run a few samples to see that it does what is expected.

    Args:
        source: path of an ONNX file, gzipped or not; a JAX callable from inputs
            [n, *input_shape] to logits [n, classes]; a flax.nnx or torch module (batched); an
            equinox module (one sample a call); a fitted scikit-learn classifier; the http(s) URL
            of a black box. A `Model` is
            returned as it is.
        input_shape: one sample's shape without the batch axis; needed for callables, modules
            and URLs, and for ONNX files with symbolic sizes.
        bounds: lowest and highest input value, (0, 1) where not given; used by the checks.
        name: what reports call the model.
        samples: a few real inputs [n, *input_shape] in the model's input range, for the checks.
        labels: their classes [n].
        endpoint: for URLs, how it may be asked: batch, rate, budget, retries, API key, log.

    Returns:
        The model; `model.report.warnings` says in plain words what looked wrong.

    Raises:
        UnsafeArtifactError: a file that would run code, read other files or exhaust memory.
        UnsupportedOperationError: an ONNX operator the engine does not know.
        ModelImportError: unreadable, invalid, not a classifier, or lowered wrongly.
        EndpointError: the endpoint refused, failed or answered garbage.
        InputError: samples, labels, bounds, input_shape or endpoint do not fit.
    """
    if isinstance(source, Model):
        return source
    options = Options(
        input_shape=_shape(input_shape),
        bounds=_bounds(bounds),
        name=name,
        samples=None if samples is None else np.asarray(samples),
        labels=None if labels is None else np.asarray(labels),
    )
    url = isinstance(source, str) and source.lower().startswith(("http://", "https://"))
    if endpoint is not None and not (url and isinstance(endpoint, Endpoint)):
        raise InputError("endpoint=Endpoint(...) goes with the http(s) URL of a model")
    if url:
        from .http_model import load_http

        return load_http(source, options, endpoint or Endpoint())
    if isinstance(source, str | os.PathLike):
        return _load_file(Path(source), options)
    return _load_object(source, options)


def load_network(path: str | os.PathLike[str], bounds: tuple[float, float] | None) -> Model:
    """Load an ONNX file whose outputs may have any shape; they are taken in row-major order.

    Args:
        path: of the file.
        bounds: lowest and highest input value, used by the checks.

    Raises:
        UnsafeArtifactError, UnsupportedOperationError, ModelImportError: as `load_model` does.
    """
    return _load_file(Path(path), Options(bounds=_bounds(bounds), flat=True))


def _load_file(path: Path, options: Options) -> Model:
    if path.suffix.lower() in _CODE:
        raise UnsafeArtifactError(
            f"{path.name}: {path.suffix} files can run code when loaded and are never opened; "
            "export the model to ONNX (torch.onnx.export) or pass a JAX callable"
        )
    if not path.name.lower().endswith((".onnx", ".onnx.gz")):
        raise ModelImportError(f"{path.name}: models are loaded from .onnx files; export to ONNX")
    from .onnx_model import load_onnx

    return load_onnx(path, options)


def _load_object(source: Any, options: Options) -> Model:
    adapters = (("flax", _flax), ("equinox", _equinox), ("sklearn", _sklearn), ("torch", _torch))
    for module, adapter in adapters:
        if module in sys.modules:
            model = adapter(source, options)
            if model is not None:
                return model
    kind = f"{type(source).__module__}.{type(source).__qualname__}"
    if any(c.__module__.split(".")[0] == "torch" for c in type(source).__mro__):
        raise ModelImportError(
            f"cannot load a {kind}; pass a torch.nn.Module, or export it with "
            'torch.onnx.export(model, x, "model.onnx", opset_version=17) and load that file'
        )
    if not callable(source):
        raise ModelImportError(
            f"cannot load a {kind}; pass the path of an ONNX file, a JAX callable, a flax.nnx, "
            "equinox or torch module, a scikit-learn classifier, or a URL"
        )
    from .jax_model import load_callable

    return load_callable(source, options)


def _flax(source: Any, options: Options) -> Model | None:
    from . import flax_model

    return flax_model.load_flax(source, options)


def _equinox(source: Any, options: Options) -> Model | None:
    from . import equinox_model

    return equinox_model.load_equinox(source, options)


def _sklearn(source: Any, options: Options) -> Model | None:
    from . import sklearn_model

    return sklearn_model.load_sklearn(source, options)


def _torch(source: Any, options: Options) -> Model | None:
    from . import torch_model

    return torch_model.load_torch(source, options)


def _shape(shape: Any) -> tuple[int, ...] | None:
    if shape is None:
        return None
    try:
        sizes = tuple(int(d) for d in shape)
    except (TypeError, ValueError):
        sizes = ()
    if not sizes or min(sizes) < 1 or len(sizes) > 7:
        raise InputError(
            f"input_shape={shape!r} must be one sample's sizes without the batch axis, "
            "e.g. (3, 32, 32)"
        )
    return sizes


def _bounds(bounds: Any) -> tuple[float, float] | None:
    if bounds is None:
        return None
    try:
        low, high = (float(b) for b in bounds)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(f"bounds={bounds!r} must be two finite numbers, lower < upper")
    return low, high
