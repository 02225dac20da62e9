//! What can be wrong with a graph.

/// A graph that cannot be built or run; the message names the node and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The description itself is malformed (unknown field, bad index, missing tensor).
    #[error("graph description: {0}")]
    Spec(String),
    /// The operator is not part of the IR.
    #[error("node {node} ({name}): operator {op:?} is not supported")]
    UnknownOperator { node: usize, name: String, op: String },
    /// Shapes, attributes or tensors of one node do not fit together.
    #[error("node {node} ({name}): {reason}")]
    Node { node: usize, name: String, reason: String },
    /// The caller's arrays do not fit the graph.
    #[error("{0}")]
    Input(String),
}

pub type Result<T> = std::result::Result<T, Error>;
