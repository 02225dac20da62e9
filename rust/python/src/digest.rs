//! Digests that Python's library lacks.

use pyo3::prelude::*;

/// BLAKE3 of bytes, 256 bits in hexadecimal.
#[pyfunction]
#[pyo3(name = "blake3")]
fn blake3_hex(py: Python<'_>, data: &[u8]) -> String {
    py.detach(|| ::blake3::hash(data).to_hex().to_string())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(blake3_hex, module)?)
}
