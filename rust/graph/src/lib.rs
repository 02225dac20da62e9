//! The engine's network IR: a small directed acyclic graph of operators, each of which knows
//! its shape, forward pass, vector-Jacobian product, interval and linear relaxation.
#![forbid(unsafe_code)]

mod error;
mod execute;
mod graph;
mod interval;
mod operator;
pub mod ops;
mod parallel;
mod plan;
mod shape;
mod spec;
mod tensor;

pub use error::{Error, Result};
pub use execute::Workspace;
pub use graph::{Graph, Node};
pub use interval::Bounds;
pub use operator::{Interval, Operator, Reads, Relaxation, Site};
pub use ops::Op;
pub use shape::{MAX_ELEMENTS, MAX_RANK};
pub use spec::{GraphSpec, NodeSpec};
pub use tensor::Tensor;
