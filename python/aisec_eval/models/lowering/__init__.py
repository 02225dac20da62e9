"""From a user's network to the engine's graph: ONNX and jaxprs in, one small IR out.

`ir` is the IR, `shapes` its shape rules, `emit` builds it, `simplify` folds it and `to_jax` runs
it under JAX. `onnx` (with `onnx_ops`, `onnx_fold`) and `jaxpr` (with `jaxpr_ops`) read networks.
To add an operator: one Rust file, a line in `shapes`, a rule in `to_jax`, a line in each table.
"""
