use aisec_numeric::Cancelled;

/// Why data cannot be scanned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("row {row}: feature {feature} is not finite; remove or repair the row before the scan")]
    NotFinite { row: u64, feature: usize },
    #[error(
        "class {label}: the features are so large that their squares overflow; scale the features"
    )]
    Overflow { label: i64 },
    #[error(
        "{classes} classes of {dim} features need {} MiB of statistics, memory_limit is {} MiB; \
         raise it, or project the features to fewer dimensions",
        needed.div_ceil(1 << 20), limit >> 20
    )]
    Memory { classes: usize, dim: usize, needed: usize, limit: usize },
    #[error("row {row}: label {label} was not there in the first pass; the data changed")]
    UnknownLabel { row: u64, label: i64 },
    #[error("class {label} has other rows than in the passes before; the data changed")]
    Changed { label: i64 },
    #[error("no rows to scan")]
    Empty,
    #[error("{values} values are not {rows} rows of {dim} features")]
    Shape { values: usize, rows: usize, dim: usize },
    #[error("an earlier batch was refused; start a new scan")]
    Incomplete,
    #[error(
        "statistics start at row {row}, which is no multiple of {part_rows}: no part starts there"
    )]
    NoPart { row: u64, part_rows: u64 },
    #[error("the statistics end at row {row} inside a part; no rows can follow")]
    Ended { row: u64 },
    #[error("statistics that end before row {end} and such that start at row {first} do not meet")]
    Apart { end: u64, first: u64 },
    #[error(
        "statistics of {} features in parts of {} rows and of {} in parts of {} cannot be merged",
        ours.0, ours.1, theirs.0, theirs.1
    )]
    Unlike { ours: (usize, u64), theirs: (usize, u64) },
    #[error("the statistics start at row {first}; merge them with those of the rows before")]
    NotFirst { first: u64 },
    #[error("these bytes are no statistics, or are damaged")]
    Bytes,
    #[error(
        "row {row}: {value} for class {class} is no probability; pass what a softmax gives, out of \
         fold, [n, classes]"
    )]
    NotProbability { row: u64, class: usize, value: f64 },
    #[error("row {row}: label {label} is none of 0 to {}, the columns of probabilities", classes - 1)]
    NoClass { row: u64, label: i64, classes: usize },
    #[error("cancelled")]
    Cancelled,
}

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}
