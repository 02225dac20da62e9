//! Re-checks evidence with code that did not produce it: adversarial examples by interval
//! arithmetic in float64, certificates by weak duality, with every rounding accounted for.
#![forbid(unsafe_code)]

mod adversarial;
mod constraint;
mod proof;
mod votes;

pub use adversarial::{Claim, Fault, Finding, Metric, check_adversarial};
pub use constraint::{Constraint, Violation};
pub use proof::{
    Arithmetic, Ball, MAX_BYTES, Norm, Proven, ProvenCase, Refusal, check_certificate,
};
pub use votes::{
    Buckets, Draws, VoteClaim, VoteFault, check_bagging, check_plurality, check_run_off,
};
