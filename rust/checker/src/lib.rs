//! Re-checks evidence with code that did not produce it: interval arithmetic in float64,
//! rounded outward, and nothing else.
#![forbid(unsafe_code)]

mod adversarial;

pub use adversarial::{Claim, Fault, Finding, Metric, check_adversarial};
