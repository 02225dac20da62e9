//! The Python extension `aisec_eval._core`: convert, release the GIL, call, convert back.
//! One file per core crate, of the same name.

use pyo3::prelude::*;

mod aggregation;
mod array;
mod bounds;
mod call;
mod certificate;
mod checker;
mod complete;
mod detect;
mod digest;
mod graph;
mod input_split;
mod numeric;
mod search;
mod smoothing;
mod text;
mod votes;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    call::register(module)?;
    numeric::register(module)?;
    graph::register(module)?;
    aggregation::register(module)?;
    bounds::register(module)?;
    complete::register(module)?;
    input_split::register(module)?;
    search::register(module)?;
    smoothing::register(module)?;
    detect::register(module)?;
    digest::register(module)?;
    text::register(module)?;
    votes::register(module)?;
    certificate::register(module)?;
    checker::register(module)
}
