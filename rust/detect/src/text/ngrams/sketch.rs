//! The first pass: a count-min sketch of documents.

use std::ops::RangeInclusive;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::super::Error;
use super::super::hash::{Hasher, mix};
use super::super::units::{Documents, Unit};
use super::cutter::Cutter;
use super::{SHARDS, shard_of};

const ROWS: usize = 2;

/// The first pass: how many documents hold an n-gram, at most.
#[derive(Debug)]
pub struct NgramSketch {
    pub(super) cutter: Cutter,
    /// Rows of counters of each shard, one after the other; they stop at 65,535.
    counts: Vec<Vec<u16>>,
    documents: u64,
}

impl NgramSketch {
    /// N-grams of `lengths` units; the sketch takes `bytes`, rounded down to a power of two.
    pub fn new(unit: Unit, lengths: RangeInclusive<usize>, bytes: usize, seed: u64) -> Self {
        let size = 1usize << (bytes.max(1 << 12) / (2 * ROWS * SHARDS)).ilog2();
        let cutter = Cutter { unit, lengths, hasher: Hasher::new(seed, "ngrams") };
        let counts = (0..SHARDS).map(|_| vec![0; size * ROWS]).collect();
        Self { cutter, counts, documents: 0 }
    }

    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Counts the documents.
    pub fn add(&mut self, documents: &Documents, cancel: &Cancel) -> Result<(), Error> {
        let found = self.cutter.cut_all(documents, cancel, |occurrence| Some(occurrence.key))?;
        self.documents += documents.len() as u64;
        self.counts.par_iter_mut().enumerate().for_each(|(number, counts)| {
            for cut in &found {
                for &key in cut.of(number) {
                    let places = places(counts, key);
                    let least = places.map(|place| counts[place]).into_iter().min().unwrap_or(0);
                    for place in places {
                        counts[place] = counts[place].max(least.saturating_add(1));
                    }
                }
            }
        });
        Ok(())
    }

    /// Never less than the number of documents with the n-gram, up to 65,535.
    pub(super) fn estimate(&self, key: u64) -> u32 {
        let counts = &self.counts[shard_of(key)];
        u32::from(places(counts, key).map(|place| counts[place]).into_iter().min().unwrap_or(0))
    }
}

fn places(counts: &[u16], key: u64) -> [usize; ROWS] {
    let size = counts.len() / ROWS;
    let second = mix(key ^ 0x5851_F42D_4C95_7F2D) as usize & (size - 1);
    [key as usize & (size - 1), size + second]
}
