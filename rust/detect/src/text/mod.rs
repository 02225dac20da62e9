//! Texts: near-duplicates, trigger n-grams, exact duplicates of substrings.
//!
//! Documents are cut into units (words, characters or bytes, [`Unit`]), units are hashed with
//! keys drawn from a seed ([`hash`]), and runs of units stand for the document. What does not fit
//! in memory is partitioned into a file ([`Partitions`]); results depend neither on batches nor on
//! threads nor on how much memory there is.

mod bands;
mod clusters;
mod hash;
mod minhash;
mod ngrams;
mod partitions;
mod substrings;
mod units;

pub use bands::{Bands, candidate_probability};
pub use clusters::Clusters;
pub use minhash::MinHash;
pub use ngrams::{Ngram, NgramCounts, NgramSketch};
pub use partitions::{Partitions, Record};
pub use substrings::{Span, duplicate_substrings};
pub use units::{Documents, Unit};

/// Why texts cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "document {document}: not valid UTF-8 (byte {position}); only unit=\"byte\" reads \
         arbitrary bytes"
    )]
    NotUtf8 { document: u64, position: usize },
    #[error("more than {} documents; split them into several sets", u32::MAX)]
    TooMany,
    #[error("document {document}: {bytes} bytes are more than {} in one document", u32::MAX)]
    TooLong { document: u64, bytes: usize },
    #[error("the documents have more than {} bytes; split them into several sets", u32::MAX)]
    TooLarge,
    #[error("temporary file: {0}")]
    Io(#[from] std::io::Error),
    #[error("cancelled")]
    Cancelled,
}

/// Stops where the caller asked to. (No `From<Cancelled>`: with a second error of the crate that
/// has one, `?` no longer infers its type elsewhere.)
fn check(cancel: &aisec_numeric::Cancel) -> Result<(), Error> {
    cancel.check().map_err(|_| Error::Cancelled)
}
