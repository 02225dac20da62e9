//! What can be wrong with a graph.

/// A graph that cannot be built or run; the message names the node and the remedy, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The description itself is malformed (unknown field, bad index, missing tensor).
    #[error("graph description: {0}")]
    Spec(String),
    /// The operator is not part of the IR.
    #[error("node {node} ({name}): operator {op} is not supported; supported: {supported}")]
    UnknownOperator { node: usize, name: String, op: String, supported: String },
    /// Shapes, attributes or tensors of one node do not fit together.
    #[error("node {node} ({name}): {reason}")]
    Node { node: usize, name: String, reason: String },
    /// The caller's arrays do not fit the graph.
    #[error("{0}")]
    Input(String),
    /// The caller cancelled a long call.
    #[error("cancelled")]
    Cancelled,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

const LONGEST_QUOTE: usize = 200;

impl Error {
    pub(crate) fn spec(message: impl AsRef<str>) -> Self {
        Self::Spec(one_line(message.as_ref()))
    }

    pub(crate) fn node(node: usize, name: &str, reason: impl AsRef<str>) -> Self {
        Self::Node { node, name: one_line(name), reason: one_line(reason.as_ref()) }
    }
}

impl From<aisec_numeric::Cancelled> for Error {
    fn from(_: aisec_numeric::Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Text from a stranger's file, safe to show: control characters escaped, length bounded.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST_QUOTE {
            line.push('…');
            break;
        }
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
