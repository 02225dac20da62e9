//! The n-grams of documents, each once, in the shards of their hashes.

use std::ops::RangeInclusive;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::super::hash::Hasher;
use super::super::units::{Documents, Unit, Units};
use super::super::{Error, check};
use super::{SHARDS, shard_of};

/// The n-grams of a document.
#[derive(Debug, Clone)]
pub(super) struct Cutter {
    pub(super) unit: Unit,
    pub(super) lengths: RangeInclusive<usize>,
    pub(super) hasher: Hasher,
}

/// An n-gram in a document: its hash, number of units, and bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Occurrence {
    pub(super) key: u64,
    pub(super) length: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

#[derive(Default)]
struct Scratch {
    units: Units,
    runs: Vec<u64>,
    found: Vec<Occurrence>,
}

/// What a document holds of each shard, one after the other.
pub(super) struct Cut<T> {
    pub(super) items: Vec<T>,
    ends: [u32; SHARDS],
}

impl<T: Copy> Cut<T> {
    fn new(found: &[Occurrence], item: impl Fn(&Occurrence) -> Option<T>) -> Self {
        let mut cut = Self { items: Vec::with_capacity(found.len()), ends: [0; SHARDS] };
        let mut shard = 0;
        for occurrence in found {
            while shard < shard_of(occurrence.key) {
                cut.ends[shard] = cut.items.len() as u32;
                shard += 1;
            }
            cut.items.extend(item(occurrence));
        }
        cut.ends[shard..].fill(cut.items.len() as u32);
        cut
    }

    pub(super) fn of(&self, shard: usize) -> &[T] {
        let start = if shard == 0 { 0 } else { self.ends[shard - 1] as usize };
        &self.items[start..self.ends[shard] as usize]
    }
}

impl Cutter {
    /// The n-grams of a document, each once, where it occurs first, ascending by hash.
    fn cut(&self, documents: &Documents, index: usize, scratch: &mut Scratch) -> Result<(), Error> {
        let Scratch { units, runs, found } = scratch;
        documents.units(index, self.unit, &self.hasher, units)?;
        found.clear();
        for length in self.lengths.clone() {
            runs.clear();
            self.hasher.runs(&units.hashes, length, runs);
            for (i, &key) in runs.iter().enumerate() {
                let (start, end) = (units.spans[i].0, units.spans[i + length - 1].1);
                found.push(Occurrence { key, length: length as u32, start, end });
            }
        }
        found.sort_unstable_by_key(|occurrence| (occurrence.key, occurrence.start));
        found.dedup_by_key(|occurrence| occurrence.key);
        Ok(())
    }

    /// What `item` makes of the n-grams of each document.
    pub(super) fn cut_all<T: Copy + Send>(
        &self,
        documents: &Documents,
        cancel: &Cancel,
        item: impl Fn(&Occurrence) -> Option<T> + Sync,
    ) -> Result<Vec<Cut<T>>, Error> {
        (0..documents.len())
            .into_par_iter()
            .with_min_len(16)
            .map_init(Scratch::default, |scratch, index| {
                check(cancel)?;
                self.cut(documents, index, scratch)?;
                Ok(Cut::new(&scratch.found, &item))
            })
            .collect()
    }
}
