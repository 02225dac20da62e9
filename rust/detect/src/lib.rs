//! Streaming detectors of poisoned training data.
//!
//! One pass over the data gathers additive statistics per class ([`Statistics`]), a second pass
//! scores every sample. Memory depends on the number of features and classes, never on the
//! number of samples; results are bit for bit the same for any batch size, thread count and
//! division into shards.
#![forbid(unsafe_code)]

mod class;
mod eigen;
mod error;
mod gram;
mod krylov;
mod neighbours;
pub mod parquet;
mod spectral;
mod statistics;
mod wire;

pub use eigen::leading_eigenpair;
pub use error::Error;
pub use krylov::Krylov;
pub use neighbours::{Metric, Neighbours};
pub use spectral::{ClassSpectrum, Spectral};
pub use statistics::{Covariance, Feature, Statistics};
