//! Re-checks evidence with code that did not produce it: interval arithmetic in float64,
//! rounded outward, and nothing else.
#![forbid(unsafe_code)]

mod adversarial;
mod constraint;

pub use adversarial::{Claim, Fault, Finding, Metric, check_adversarial};
pub use constraint::{Constraint, Violation};
