//! The engine's network IR: a small directed acyclic graph of operators, each of which knows
//! its shape, forward pass, vector-Jacobian product, interval and linear relaxation.
#![forbid(unsafe_code)]

pub mod beside;
mod constants;
mod curve;
mod enclosure;
mod error;
mod execute;
mod graph;
mod hinge;
mod interval;
mod maxima;
mod operator;
pub mod ops;
mod outward;
mod pair;
mod parallel;
mod patch;
mod plan;
mod shape;
mod spare;
mod spec;
mod tensor;
#[cfg(feature = "testing")]
pub mod testing;

pub use curve::{Curve, Touch};
pub use error::{Error, Result};
pub use execute::Workspace;
pub use graph::{Graph, Node};
pub use interval::Bounds;
pub use operator::{Activation, Interval, Operator, Reads, Relaxation, Site};
pub use ops::Op;
pub use pair::{Plane, Planes};
pub use patch::{Cropped, Patch};
pub use shape::{MAX_ELEMENTS, MAX_RANK};
pub use spec::{GraphSpec, NodeSpec};
pub use tensor::Tensor;
