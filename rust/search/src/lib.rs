//! Perturbation search: looks for a point of a sample's threat model that the network
//! classifies wrongly.
//!
//! Every search is a small state machine of one sample ([`Search`]); [`run`] advances many of
//! them over a [`Network`] on all threads, and [`Pool`] hands their points to a caller who owns
//! the model. Random numbers are keyed by (seed, attack, restart, sample id, step) and a sample's
//! search reads nothing but its own logits and gradients, so on a network that computes a sample
//! the same in every batch the outcome is bit for bit the same for any batch, order and thread
//! count.
#![forbid(unsafe_code)]

mod apgd;
mod apgd_l1;
mod attack;
mod bump;
mod carlini_wagner;
mod constraint;
mod ddn;
mod deepfool;
mod error;
mod evolution;
mod fab;
mod fmn;
mod hop_skip_jump;
mod layout;
mod loss;
mod min_norm;
mod nearest;
mod network;
mod plane;
mod pool;
mod rays;
mod region;
mod run;
mod search;
mod sigma_zero;
mod sparse_rs;
mod sparse_rs_frame;
mod sparse_rs_patch;
mod square;
mod square_tabular;
mod tabular;

pub use apgd::{Apgd, ApgdConfig, checkpoints};
pub use apgd_l1::{ApgdL1, LargeRadius};
pub use attack::{Attack, Sample, Setting};
pub use carlini_wagner::{CarliniWagner, CarliniWagnerConfig};
pub use constraint::{Constraint, Feature, Metric, Table};
pub use ddn::{Ddn, DdnConfig};
pub use deepfool::{DeepFool, DeepFoolConfig};
pub use error::{Error, Result};
pub use fab::{Fab, FabConfig};
pub use fmn::{Fmn, FmnConfig};
pub use hop_skip_jump::{HopSkipJump, HopSkipJumpConfig};
pub use layout::Layout;
pub use loss::Loss;
pub use min_norm::{Descent, Domain, MinNorm, Seen};
pub use network::Network;
pub use plane::{PlaneWorkspace, move_to_plane};
pub use pool::{Pool, Told};
pub use rays::{Rays, RaysConfig};
pub use region::{Bounds, Norm, Region};
pub use run::run;
pub use search::{Outcome, Search, Status};
pub use sigma_zero::{SigmaZero, SigmaZeroConfig};
pub use sparse_rs::{SparseRs, SparseRsConfig};
pub use sparse_rs_frame::{SparseRsFrame, SparseRsFrameConfig};
pub use sparse_rs_patch::{SparseRsPatch, SparseRsPatchConfig};
pub use square::{Square, SquareConfig, fraction};
