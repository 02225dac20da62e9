//! Streaming detectors of poisoned training data.
//!
//! One pass over the data gathers additive statistics per class ([`Statistics`]), a second pass
//! scores every sample. Memory depends on the number of features and classes, never on the
//! number of samples; results are bit for bit the same for any batch size, thread count and
//! division into shards.
#![forbid(unsafe_code)]

mod class;
mod clustering;
mod confident;
mod confident_prune;
mod eigen;
mod error;
mod fastica;
mod gather;
mod gram;
mod gram_powers;
mod gram_single;
mod krylov;
mod neighbours;
pub mod parquet;
mod projection;
mod que;
mod robust_covariance;
mod rows;
mod sketch;
mod spectral;
mod statistics;
mod symmetric;
pub mod text;
mod wire;

pub use clustering::{TwoMeans, gaussian_shares, two_means};
pub use confident::{Judged, Probability, Quality, confident_class, judge};
pub use confident_prune::{Pair, Prune};
pub use eigen::leading_eigenpair;
pub use error::Error;
pub use fastica::{FastIca, fast_ica};
pub use gram_powers::{Maps, gram_deviations};
pub use krylov::Krylov;
pub use neighbours::{Ballot, Metric, NeighbourGraph, NeighbourVotes, Neighbours, Recall};
pub use projection::Projection;
pub use que::{QuantumEntropy, Weighting, quantum_entropy};
pub use robust_covariance::{Extreme, Trusted, trusted_rows};
pub use sketch::{Leading, Sketch};
pub use spectral::{ClassSpectrum, Spectral};
pub use statistics::{Covariance, Feature, Statistics};
