//! Binding of `aisec-detect`'s texts: a file a class.

mod clusters;
mod documents;
mod minhash;
mod ngrams;
mod substrings;

use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(minhash::optimal_bands, module)?)?;
    module.add_class::<minhash::PyMinHash>()?;
    module.add_class::<clusters::PyClusters>()?;
    module.add_class::<substrings::PySubstrings>()?;
    module.add_class::<ngrams::PyNgramSketch>()?;
    module.add_class::<ngrams::PyNgramCounts>()
}
