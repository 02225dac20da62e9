//! Arithmetic shared by every engine: matrix products and convolutions with a fixed
//! accumulation order, outward rounding, norm balls, counter-based random numbers.
#![forbid(unsafe_code)]

pub mod absolute;
pub mod beside;
mod cancel;
pub mod conv;
pub mod gemm;
pub mod lattice_normal;
mod lines;
pub mod project;
mod quantile;
pub mod random;
pub mod rounding;
mod scalar;
pub mod simd;
pub mod vector;
pub mod warp;

pub use cancel::{Cancel, Cancelled};
pub use scalar::Scalar;
