"""A model from a flax.nnx module, called on batches in evaluation mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aisec_eval.errors import ModelImportError

from .jax_model import JaxModel, load_function

if TYPE_CHECKING:
    from .checks import Options


def load_flax(source: Any, options: Options) -> JaxModel | None:
    """Load a flax.nnx module; None when `source` is not one.

    The module itself is left alone: a copy is put in evaluation mode.

    Raises:
        ModelImportError: a flax.linen module, or one that cannot be traced.
    """
    from flax import nnx

    name = type(source).__name__
    if not isinstance(source, nnx.Module):
        if any(c.__module__.startswith("flax.linen") for c in type(source).__mro__):
            raise ModelImportError(
                f"{name} is a flax.linen module, which holds no parameters; "
                "pass `lambda x: module.apply(variables, x)` with input_shape=..."
            )
        return None
    graphdef, state = nnx.split(source)
    copy = nnx.merge(graphdef, state)
    training = _in_training(copy)
    copy.eval()
    graphdef, state = nnx.split(copy)
    notes = ("the module was in training mode: a copy in evaluation mode is used",)

    def apply(params: Any, x: Any) -> Any:
        return nnx.merge(graphdef, params)(x)

    return load_function(apply, state, options, name, notes if training else ())


def _in_training(module: Any) -> bool:
    from flax import nnx

    layers = [m for _, m in nnx.iter_modules(module)]
    return any(
        getattr(m, "deterministic", None) is False
        or getattr(m, "use_running_average", None) is False
        for m in layers
    )
