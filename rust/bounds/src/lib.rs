//! Certified bounds: interval bound propagation and CROWN in float64, outward rounded, so that
//! they hold for the graph in real arithmetic.
#![forbid(unsafe_code)]

mod backward;
mod crown;
mod kernels;
mod margin;
mod prepared;
mod proof;
mod region;
mod state;
mod trace;

pub use crown::{Method, Planes};
pub use margin::{Options, margin_bounds, margin_planes};
pub use proof::{Leaf, NodeBounds, Proof, RootSlopes, Split};
pub use region::{Norm, Region, RegionError};
