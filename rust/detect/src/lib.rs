//! Streaming detectors of poisoned training data.
//!
//! One pass over the data gathers additive statistics per class ([`Moments`]), a second pass
//! scores every sample. Memory depends on the number of features and classes, never on the
//! number of samples; results are bit for bit the same for any batch size and thread count.
#![forbid(unsafe_code)]

mod eigen;
mod error;
mod gram;
mod moments;
pub mod parquet;
mod spectral;

pub use eigen::leading_eigenpair;
pub use error::Error;
pub use moments::{Feature, Moments};
pub use spectral::{ClassSpectrum, Spectral};
