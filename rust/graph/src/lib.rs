//! The engine's network IR: a small directed acyclic graph of operators, each of which knows
//! its shape, forward pass, vector-Jacobian product, interval and linear relaxation.
#![forbid(unsafe_code)]

mod error;
mod operator;
mod tensor;

pub use error::{Error, Result};
pub use operator::{Interval, Operator, Relaxation, Site};
pub use tensor::Tensor;
