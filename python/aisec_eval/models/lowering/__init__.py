"""From a user's network to the engine's graph: ONNX and jaxprs in, one small IR out.

`ir` is the IR, `shapes` its shape rules, `builder` and `emit` build it, `simplify` folds it and
`to_jax` runs it under JAX. `onnx` reads files for `onnx_lower`, which lowers them by the tables
`onnx_ops` and `onnx_fold`; `jaxpr` traces functions and lowers them by the table `jaxpr_ops`.
To add an operator: one Rust file, a line in `shapes`, a rule in `to_jax`, a line in each table.
"""
