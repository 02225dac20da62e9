//! Certificates checked by code that has nothing in common with what wrote them: operators from
//! their definitions, bounds by weak duality, no search and no fast kernels.

mod bend;
mod boxes;
mod branches;
mod carry;
mod cell;
mod certificate;
mod check;
mod claims;
mod clips;
mod curve;
mod domain;
mod enclosures;
mod functions;
mod lanes;
mod linear;
mod lines;
mod network;
mod number;
mod pair;
mod region;
mod shape;
mod unit_lanes;
mod units;
mod window_lanes;
mod windows;

pub use certificate::MAX_BYTES;
pub use check::{Arithmetic, Proven, ProvenCase, Refusal, check_certificate};
pub use region::{Ball, Norm};
