//! In how many documents of each class an n-gram occurs, for all frequent n-grams, in bounded
//! memory.
//!
//! A first pass counts documents in a count-min sketch with conservative update (Cormode &
//! Muthukrishnan, 2005; Estan & Varghese, 2003), which never counts too few. A second pass counts
//! exactly those n-grams that the sketch believes to be in `least` documents, so every n-gram in
//! that many documents is counted. If they do not fit in memory, `least` is doubled until they do.
//! Hashes are divided into shards that are worked on in the order of documents, so nothing depends
//! on batches or threads.

mod counts;
mod cutter;
mod sketch;

pub use counts::{Ngram, NgramCounts};
pub use sketch::NgramSketch;

const SHARDS: usize = 64;

fn shard_of(key: u64) -> usize {
    (key >> (64 - SHARDS.ilog2())) as usize
}

#[cfg(test)]
mod tests;
