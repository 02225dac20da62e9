//! What a search refuses.

/// A search that cannot start; one line with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option or array does not fit.
    #[error("{0}")]
    Input(String),
    /// The caller cancelled; what was computed is dropped.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }
}

impl From<aisec_numeric::Cancelled> for Error {
    fn from(_: aisec_numeric::Cancelled) -> Self {
        Self::Cancelled
    }
}

pub type Result<T> = std::result::Result<T, Error>;
