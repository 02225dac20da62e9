"""A model from an equinox module, which maps one sample to its logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .jax_model import JaxModel, load_function

if TYPE_CHECKING:
    from .checks import Options


def load_equinox(source: Any, options: Options) -> JaxModel | None:
    """Load an equinox module in inference mode, vmapped over samples; None when it is not one.

    Raises:
        ModelImportError: the module cannot be traced on one sample.
    """
    import equinox as eqx
    import jax

    if not isinstance(source, eqx.Module) or not callable(source):
        return None
    params, static = eqx.partition(eqx.nn.inference_mode(source), eqx.is_array)

    def apply(params: Any, x: Any) -> Any:
        return jax.vmap(eqx.combine(params, static))(x)

    return load_function(apply, params, options, type(source).__name__)
