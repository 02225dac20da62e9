//! What a stranger's bytes are put through, one module for each parser: `run` takes any bytes and
//! panics where a promise is broken. The fuzz targets call it, and so do tests of the crates.

pub mod certificate;
pub mod constraint;
pub mod graph;
pub mod parquet;
pub mod statistics;
pub mod text;
