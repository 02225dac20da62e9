//! Certified bounds: interval bound propagation and CROWN in float64, outward rounded, so that
//! they hold for the graph in real arithmetic.
#![forbid(unsafe_code)]

mod affine;
pub mod aggregation;
mod alpha;
mod ascent;
mod backward;
mod bent;
mod branch;
mod certificate;
mod complete;
mod crown;
mod forest;
mod ibp;
mod inner;
pub mod input_split;
mod kernels;
mod lanes;
mod layout;
mod margin;
mod prepared;
mod proof;
mod record;
mod refine;
mod region;
mod simplex;
pub mod smoothing;
mod split_tree;
mod state;
mod trace;
mod tuned;
mod warm;
mod witness;

pub use ascent::Tuning;
pub use certificate::{Unwritable, hex, plain_proof};
pub use complete::{Answer, Clause, Decision, Search, Why, decide};
pub use crown::{Method, Planes};
pub use margin::{Options, margin_bounds, margin_planes, on_one_thread};
pub use proof::{
    BoxNode, BoxProof, Halves, Inside, Joint, Leaf, NodeBounds, Parameters, Part, Proof,
    RootSlopes, RootTree, Split, USUAL,
};
pub use region::{Norm, Region, RegionError};
